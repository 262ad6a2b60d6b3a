"""quovadis: video action recognition with I3D, from a video file to the action, and from labelled videos to a model.

The public names are loaded when they are first used, so that ``import quovadis`` and ``quovadis --help`` are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quovadis.version import __version__

if TYPE_CHECKING:
    from quovadis.datasets.load import load_dataset
    from quovadis.errors import QuovadisError
    from quovadis.evaluation.evaluate import evaluate
    from quovadis.evaluation.fvd import frechet_video_distance
    from quovadis.flow.estimate import estimate_flow
    from quovadis.metrics.frechet import frechet_distance
    from quovadis.models.inflate import inflate
    from quovadis.models.optimize import optimize
    from quovadis.models.zoo import list_models
    from quovadis.recognizer import Recognizer
    from quovadis.training.loop import train
    from quovadis.types import Clip, EvaluationResult, Prediction, VideoInfo
    from quovadis.video.clip import probe, read_clip
    from quovadis.weights.load import create_model, load_model

_HOMES = {
    "Clip": "types",
    "EvaluationResult": "types",
    "Prediction": "types",
    "QuovadisError": "errors",
    "Recognizer": "recognizer",
    "VideoInfo": "types",
    "create_model": "weights.load",
    "evaluate": "evaluation.evaluate",
    "inflate": "models.inflate",
    "estimate_flow": "flow.estimate",
    "frechet_distance": "metrics.frechet",
    "frechet_video_distance": "evaluation.fvd",
    "list_models": "models.zoo",
    "load_dataset": "datasets.load",
    "load_model": "weights.load",
    "optimize": "models.optimize",
    "probe": "video.clip",
    "read_clip": "video.clip",
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
