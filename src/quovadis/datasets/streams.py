"""From a clip to the inputs of a model: one uint8 tensor a stream, as the model's spec lists them."""

from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.types import Clip, ModelSpec


def clip_to_streams(clip: Clip, spec: ModelSpec) -> list[Tensor]:
    """The streams of a clip that is already resized and cropped, ready for :func:`quovadis.transforms.to_model`.

    Returns:
        One uint8 (T, C, H, W) for each of ``spec.streams``.

    Raises:
        InvalidInputError: the model wants flow and the clip has none.
    """
    streams = []
    for stream in spec.streams:
        if stream.kind == "rgb":
            streams.append(clip.frames)
        else:
            raise InvalidInputError(f"{spec.name} wants optical flow, and {clip.source or 'the clip'} comes without")
    return streams
