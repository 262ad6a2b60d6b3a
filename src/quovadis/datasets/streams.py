"""From a clip to the inputs of a model: one uint8 tensor a stream, as the model's spec lists them."""

from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.codec import encode_flow
from quovadis.types import Clip, ModelSpec


def clip_to_streams(clip: Clip, spec: ModelSpec) -> list[Tensor]:
    """The streams of a clip that is already resized and cropped, ready for :func:`quovadis.transforms.to_model`.

    Returns:
        One uint8 (T, C, H, W) for each of ``spec.streams``; flow as 256 levels of +-20 pixels.

    Raises:
        InvalidInputError: the model wants flow and the clip has none; see :func:`quovadis.flow.estimate.flow_for_clip`.
    """
    streams = []
    for stream in spec.streams:
        if stream.kind == "rgb":
            streams.append(clip.frames)
        elif clip.flow is not None:
            streams.append(encode_flow(clip.flow))
        else:
            raise InvalidInputError(f"{spec.name} wants optical flow, and {clip.source or 'the clip'} comes without")
    return streams
