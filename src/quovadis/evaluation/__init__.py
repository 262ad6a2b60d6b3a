"""Evaluate models by named protocols, and store and fuse their scores.

Example::

    result = evaluate(recognizer, data, protocol="paper")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.evaluation.dump import FusionRule as FusionRule
    from quovadis.evaluation.dump import LogitDump as LogitDump
    from quovadis.evaluation.dump import join_dumps as join_dumps
    from quovadis.evaluation.dump import read_dump as read_dump
    from quovadis.evaluation.dump import score_dump as score_dump
    from quovadis.evaluation.dump import write_dump as write_dump
    from quovadis.evaluation.evaluator import evaluate as evaluate
    from quovadis.evaluation.evaluator import evaluate_streams as evaluate_streams
    from quovadis.evaluation.protocols import PROTOCOLS as PROTOCOLS
    from quovadis.evaluation.protocols import Protocol as Protocol
    from quovadis.evaluation.protocols import find_protocol as find_protocol
    from quovadis.evaluation.results import EvaluationResult as EvaluationResult
    from quovadis.evaluation.results import VideoResult as VideoResult

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "dump": ["FusionRule", "LogitDump", "join_dumps", "read_dump", "score_dump", "write_dump"],
        "evaluator": ["evaluate", "evaluate_streams"],
        "protocols": ["PROTOCOLS", "Protocol", "find_protocol"],
        "results": ["EvaluationResult", "VideoResult"],
    },
)
