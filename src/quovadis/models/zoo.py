"""All models by name."""

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


class ModelEntry(NamedTuple):
    """Constructor of a model and the input streams it supports. The first one is the default."""

    build: Callable[..., VideoModel]
    streams: tuple[StreamChoice, ...]


_SINGLE_STREAM: tuple[StreamChoice, ...] = ("rgb", "flow")
_MULTI_STREAM: tuple[StreamChoice, ...] = ("rgb+flow", "rgb", "flow")

MODELS: dict[str, ModelEntry] = {
    "conv3d": ModelEntry(Conv3D, ("rgb",)),
    "conv3d_tiny": ModelEntry(_conv3d_tiny, ("rgb",)),
    "convnet_lstm": ModelEntry(ConvNetLSTM, ("rgb",)),
    "convnet_lstm_tiny": ModelEntry(_convnet_lstm_tiny, ("rgb",)),
    "fused_two_stream": ModelEntry(FusedTwoStream, _MULTI_STREAM),
    "fused_two_stream_tiny": ModelEntry(_fused_two_stream_tiny, _MULTI_STREAM),
    "i3d": ModelEntry(I3D, _SINGLE_STREAM),
    "i3d_r50": ModelEntry(I3DResNet50, _SINGLE_STREAM),
    "i3d_tiny": ModelEntry(_i3d_tiny, _SINGLE_STREAM),
    "two_stream": ModelEntry(TwoStream, _MULTI_STREAM),
    "two_stream_tiny": ModelEntry(_two_stream_tiny, _MULTI_STREAM),
}


def list_models() -> list[str]:
    """List the names of all models.

    ``*_tiny`` models are narrow variants for small inputs, used in tests and demos.

    Returns:
        Sorted names for :func:`quovadis.create_model`.

    Example:
        >>> [name for name in list_models() if not name.endswith("_tiny")]
        ['conv3d', 'convnet_lstm', 'fused_two_stream', 'i3d', 'i3d_r50', 'two_stream']
    """
    return sorted(MODELS)


def choose_stream(name: str, stream: str | None = None) -> StreamChoice:
    """Check the input streams of a model; None selects its default, which is that of the paper.

    Args:
        name: A name of :func:`list_models`.
        stream: ``"rgb"``, ``"flow"``, ``"rgb+flow"`` or None.

    Raises:
        UnknownNameError: If there is no model or stream of that name.
        InvalidInputError: If the model does not support the stream.

    Example:
        >>> choose_stream("two_stream"), choose_stream("i3d"), choose_stream("i3d", "flow")
        ('rgb+flow', 'rgb', 'flow')
    """
    if name not in MODELS:
        raise UnknownNameError.among("model", name, MODELS)
    supported = MODELS[name].streams
    if stream is None:
        return supported[0]
    if stream not in _MULTI_STREAM:
        raise UnknownNameError.among("stream", stream, _MULTI_STREAM)
    if stream not in supported:
        raise InvalidInputError(
            f"{name} supports stream={' or '.join(map(repr, supported))}; got {stream!r}. Choose another model "
            "or stream"
        )
    return stream


def build_model(name: str, *, stream: str | None = None, num_classes: int = 400, dropout: float = 0.5) -> VideoModel:
    """Create a model with random weights. :func:`quovadis.create_model` can also load pretrained weights.

    Args:
        name: A name of :func:`list_models`.
        stream: ``"rgb"``, ``"flow"`` or ``"rgb+flow"``. None selects the streams of the paper.
        num_classes: Number of classes.
        dropout: Dropout probability before the classifier in training.

    Returns:
        A model in training mode on the default device.

    Raises:
        UnknownNameError: If there is no model or stream of that name.
        InvalidInputError: If the model does not support the stream, or ``num_classes`` is less than 1.

    Example:
        >>> model = build_model("i3d_tiny", stream="flow", num_classes=10)
        >>> model.spec.stream, model.num_classes, model.feature_dim
        ('flow', 10, 256)
    """
    chosen = choose_stream(name, stream)
    return MODELS[name].build(stream=chosen, num_classes=num_classes, dropout=dropout)
