"""Models by name. A table, not a registry: the list below is all there is."""

from collections.abc import Callable
from typing import Any

from quovadis.errors import UnknownNameError
from quovadis.models.contract import VideoModel
from quovadis.models.i3d import CHANNELS, I3D, i3d_tiny_spec
from quovadis.models.resnet import I3DResNet50
from quovadis.types import StreamKind


def _i3d(*, stream: StreamKind = "rgb", **options: Any) -> VideoModel:
    return I3D(stream=stream, **options)


def _i3d_tiny(*, stream: StreamKind = "rgb", **options: Any) -> VideoModel:
    return I3D(stream=stream, width=1 / 4, spec=i3d_tiny_spec(stream), **options)


def _i3d_r50(*, stream: StreamKind = "rgb", **options: Any) -> VideoModel:
    return I3DResNet50(stream=stream, **options)


MODELS: dict[str, Callable[..., VideoModel]] = {
    "i3d": _i3d,
    "i3d_r50": _i3d_r50,
    "i3d_tiny": _i3d_tiny,
}


def list_models() -> list[str]:
    """Names for :func:`quovadis.create_model`.

    >>> list_models()
    ['i3d', 'i3d_r50', 'i3d_tiny']
    """
    return sorted(MODELS)


def build_model(name: str, *, stream: str = "rgb", num_classes: int = 400, dropout: float = 0.5) -> VideoModel:
    """A network with random weights.

    Raises:
        UnknownNameError: no model, or no stream, of that name. InvalidInputError: fewer than one class.
    """
    if name not in MODELS:
        raise UnknownNameError.among("model", name, MODELS)
    if stream not in CHANNELS:
        raise UnknownNameError.among("stream", stream, CHANNELS)
    return MODELS[name](stream=stream, num_classes=num_classes, dropout=dropout)
