"""Models by name. A table, not a registry: the list below is all there is."""

from collections.abc import Callable
from typing import Any, NamedTuple

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.conv3d import Conv3D, conv3d_tiny_spec
from quovadis.models.convnet_lstm import ConvNetLSTM, convnet_lstm_tiny_spec
from quovadis.models.i3d import I3D, i3d_tiny_spec
from quovadis.models.resnet import I3DResNet50
from quovadis.models.spec import StreamChoice, StreamKind
from quovadis.models.two_stream import (
    FUSED_TINY_SNIPPET_FRAMES,
    FusedTwoStream,
    TwoStream,
    fused_two_stream_tiny_spec,
    two_stream_tiny_spec,
)
from quovadis.models.video_model import VideoModel


def _i3d_tiny(*, stream: StreamKind, **options: Any) -> VideoModel:
    return I3D(stream=stream, width=1 / 4, spec=i3d_tiny_spec(stream), **options)


def _convnet_lstm_tiny(*, stream: StreamKind, **options: Any) -> VideoModel:
    return ConvNetLSTM(stream=stream, width=1 / 4, spec=convnet_lstm_tiny_spec(stream), **options)


def _conv3d_tiny(*, stream: StreamKind, **options: Any) -> VideoModel:
    return Conv3D(stream=stream, width=1 / 8, spec=conv3d_tiny_spec(stream), **options)


def _two_stream_tiny(*, stream: StreamChoice, **options: Any) -> VideoModel:
    return TwoStream(stream=stream, width=1 / 4, spec=two_stream_tiny_spec(stream), **options)


def _fused_two_stream_tiny(*, stream: StreamChoice, **options: Any) -> VideoModel:
    spec = fused_two_stream_tiny_spec(stream)
    return FusedTwoStream(stream=stream, width=1 / 4, snippet_frames=FUSED_TINY_SNIPPET_FRAMES, spec=spec, **options)


class Entry(NamedTuple):
    """A network, and what it can look at; the first is the usual."""

    build: Callable[..., VideoModel]
    streams: tuple[StreamChoice, ...]


_ONE: tuple[StreamChoice, ...] = ("rgb", "flow")
_JOINT: tuple[StreamChoice, ...] = ("rgb+flow", "rgb", "flow")

MODELS: dict[str, Entry] = {
    "conv3d": Entry(Conv3D, ("rgb",)),
    "conv3d_tiny": Entry(_conv3d_tiny, ("rgb",)),
    "convnet_lstm": Entry(ConvNetLSTM, ("rgb",)),
    "convnet_lstm_tiny": Entry(_convnet_lstm_tiny, ("rgb",)),
    "fused_two_stream": Entry(FusedTwoStream, _JOINT),
    "fused_two_stream_tiny": Entry(_fused_two_stream_tiny, _JOINT),
    "i3d": Entry(I3D, _ONE),
    "i3d_r50": Entry(I3DResNet50, _ONE),
    "i3d_tiny": Entry(_i3d_tiny, _ONE),
    "two_stream": Entry(TwoStream, _JOINT),
    "two_stream_tiny": Entry(_two_stream_tiny, _JOINT),
}


def list_models() -> list[str]:
    """Names for :func:`quovadis.create_model`.

    >>> [name for name in list_models() if not name.endswith("_tiny")]
    ['conv3d', 'convnet_lstm', 'fused_two_stream', 'i3d', 'i3d_r50', 'two_stream']
    """
    return sorted(MODELS)


def choose_stream(name: str, stream: str | None = None) -> StreamChoice:
    """What a model looks at: as asked, or where nothing is asked, as in the paper.

    Raises:
        UnknownNameError: no model, or no stream, of that name. InvalidInputError: this model has no such variant.

    >>> choose_stream("two_stream"), choose_stream("i3d"), choose_stream("i3d", "flow")
    ('rgb+flow', 'rgb', 'flow')
    """
    if name not in MODELS:
        raise UnknownNameError.among("model", name, MODELS)
    known = MODELS[name].streams
    if stream is None:
        return known[0]
    if stream not in _JOINT:
        raise UnknownNameError.among("stream", stream, _JOINT)
    if stream not in known:
        raise InvalidInputError(
            f"{name} looks at {' or '.join(known)}, not at {stream}: choose another model or stream"
        )
    return stream


def build_model(name: str, *, stream: str | None = None, num_classes: int = 400, dropout: float = 0.5) -> VideoModel:
    """A network with random weights.

    Raises:
        UnknownNameError: no model, or no stream, of that name. InvalidInputError: the model has no such stream, or
            fewer than one class.
    """
    chosen = choose_stream(name, stream)
    return MODELS[name].build(stream=chosen, num_classes=num_classes, dropout=dropout)
