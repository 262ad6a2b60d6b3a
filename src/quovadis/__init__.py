"""quovadis: video action recognition with I3D, from a video file to the action, and from labelled videos to a model.

The public names are loaded when they are first used, so that ``import quovadis`` and ``quovadis --help`` are instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quovadis.version import __version__

if TYPE_CHECKING:
    from quovadis.errors import QuovadisError
    from quovadis.flow.estimate import estimate_flow
    from quovadis.models.zoo import list_models
    from quovadis.types import Clip, ModelSpec, Prediction, StreamSpec, VideoInfo
    from quovadis.video.reader import probe, read_clip
    from quovadis.weights.load import create_model, load_model

_HOMES = {
    "Clip": "types",
    "ModelSpec": "types",
    "Prediction": "types",
    "QuovadisError": "errors",
    "StreamSpec": "types",
    "VideoInfo": "types",
    "create_model": "weights.load",
    "estimate_flow": "flow.estimate",
    "list_models": "models.zoo",
    "load_model": "weights.load",
    "probe": "video.reader",
    "read_clip": "video.reader",
}

__all__ = [
    "Clip",
    "ModelSpec",
    "Prediction",
    "QuovadisError",
    "StreamSpec",
    "VideoInfo",
    "__version__",
    "create_model",
    "estimate_flow",
    "list_models",
    "load_model",
    "probe",
    "read_clip",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'quovadis' has no attribute {name!r}")
    value = getattr(import_module(f"quovadis.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
