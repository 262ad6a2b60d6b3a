"""The web demo of ``quovadis serve`` and its HTTP API.

Start it from the command line.

Example::

    quovadis serve --weights runs/mine
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.web.analysis import compare as compare
    from quovadis.web.analysis import compare_features as compare_features
    from quovadis.web.analysis import recognize as recognize
    from quovadis.web.examples import Example as Example
    from quovadis.web.examples import fitting_examples as fitting_examples
    from quovadis.web.examples import folder_examples as folder_examples
    from quovadis.web.handlers import Handlers as Handlers
    from quovadis.web.limits import Limits as Limits
    from quovadis.web.limits import UploadInfo as UploadInfo
    from quovadis.web.models import ModelRegistry as ModelRegistry
    from quovadis.web.page import build_page as build_page
    from quovadis.web.page import serve_page as serve_page
    from quovadis.web.page import temporary_folder as temporary_folder
    from quovadis.web.results import Comparison as Comparison
    from quovadis.web.results import Evidence as Evidence
    from quovadis.web.results import FeatureComparison as FeatureComparison
    from quovadis.web.results import FlowFrame as FlowFrame
    from quovadis.web.results import Recognition as Recognition
    from quovadis.web.results import VideoPrediction as VideoPrediction
    from quovadis.web.schema import json_schema as json_schema

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "analysis": ["compare", "compare_features", "recognize"],
        "examples": ["Example", "fitting_examples", "folder_examples"],
        "handlers": ["Handlers"],
        "limits": ["Limits", "UploadInfo"],
        "models": ["ModelRegistry"],
        "page": ["build_page", "serve_page", "temporary_folder"],
        "results": ["Comparison", "Evidence", "FeatureComparison", "FlowFrame", "Recognition", "VideoPrediction"],
        "schema": ["json_schema"],
    },
)
