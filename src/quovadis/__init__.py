"""quovadis: video action recognition with I3D, from a video file to the action, and from labeled videos to a model.

The public names are loaded when they are first used, so that ``import quovadis`` and ``quovadis --help`` are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quovadis.version import __version__

if TYPE_CHECKING:
    from quovadis.datasets.load import load_dataset
    from quovadis.errors import QuovadisError
    from quovadis.evaluation.evaluate import evaluate
    from quovadis.evaluation.results import EvaluationResult
    from quovadis.flow.estimate import estimate_flow
    from quovadis.fvd.distance import frechet_video_distance
    from quovadis.inference.prediction import Prediction
    from quovadis.inference.recognizer import Recognizer
    from quovadis.metrics.frechet import frechet_distance
    from quovadis.models.inflate import inflate
    from quovadis.models.optimize import optimize
    from quovadis.models.zoo import list_models
    from quovadis.training.loop import train
    from quovadis.video.clip import Clip
    from quovadis.video.info import VideoInfo
    from quovadis.video.read import probe, read_clip
    from quovadis.weights.load import create_model, load_model

_HOMES = {
    "Clip": "video.clip",
    "EvaluationResult": "evaluation.results",
    "Prediction": "inference.prediction",
    "QuovadisError": "errors",
    "Recognizer": "inference.recognizer",
    "VideoInfo": "video.info",
    "create_model": "weights.load",
    "evaluate": "evaluation.evaluate",
    "inflate": "models.inflate",
    "estimate_flow": "flow.estimate",
    "frechet_distance": "metrics.frechet",
    "frechet_video_distance": "fvd.distance",
    "list_models": "models.zoo",
    "load_dataset": "datasets.load",
    "load_model": "weights.load",
    "optimize": "models.optimize",
    "probe": "video.read",
    "read_clip": "video.read",
    "train": "training.loop",
}

__all__ = [
    "Clip",
    "EvaluationResult",
    "Prediction",
    "QuovadisError",
    "Recognizer",
    "VideoInfo",
    "__version__",
    "create_model",
    "estimate_flow",
    "evaluate",
    "frechet_distance",
    "frechet_video_distance",
    "inflate",
    "list_models",
    "load_dataset",
    "load_model",
    "optimize",
    "probe",
    "read_clip",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quovadis' has no attribute {name!r}")
    value = getattr(import_module(f"quovadis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
