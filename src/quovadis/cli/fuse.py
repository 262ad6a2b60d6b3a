"""``quovadis fuse``: evaluate and fuse logit dumps without running networks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Fuse:
    """Evaluate logit dumps written by quovadis evaluate --dump, and their fusion, without running networks."""

    dumps: tyro.conf.Positional[tuple[Path, ...]]
    """One or more dumps of the same videos."""
    weights: tuple[float, ...] = ()
    """Weight of each stream in the fusion, in the order of the dumps. Defaults to 1 for each."""
    rule: Literal["sum_logits", "mean_probabilities"] = "sum_logits"
    """sum_logits adds logits, as the official two-stream I3D does; mean_probabilities averages probabilities."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command."""
    options = tyro.cli(Fuse, args=args, prog="quovadis fuse", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.evaluation.dump import join_dumps, read_dump, score_dump
    from quovadis.report.terminal import evaluation_table
    from quovadis.runtime.console import Console

    dump = join_dumps([read_dump(path) for path in options.dumps], [str(path) for path in options.dumps])
    results = score_dump(dump, weights=options.weights or None, rule=options.rule)
    if options.json:
        rows = [r.to_dict() for r in results]
        print(json.dumps(rows if len(rows) > 1 else rows[0], indent=2, allow_nan=False))
    else:
        Console(soft_wrap=True).print(evaluation_table(results))
