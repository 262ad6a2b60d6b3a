"""Select the input streams of a model from a clip."""

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.codec import encode_flow
from quovadis.models.spec import ModelSpec
from quovadis.video.clip import Clip
from quovadis.video.sampling import windows


def clip_to_streams(clip: Clip, spec: ModelSpec) -> list[Tensor]:
    """Select the frames of each input stream from a clip.

    The result is the input of :func:`quovadis.transforms.to_model`.

    Args:
        clip: Resized and cropped clip at ``spec.fps`` that contains every ``spec.clip_stride``-th frame.
        spec: Input specification of the model.

    Returns:
        One uint8 tensor (T, C, H, W) for each of ``spec.streams``. Flow is clipped to 20 pixels and quantized to 256
        levels.

    Raises:
        InvalidInputError: If the model needs optical flow and the clip has none; see
            :func:`quovadis.flow.estimate.flow_for_clip`.

    Example:
        >>> from quovadis.models.two_stream import two_stream_spec
        >>> frames, times = torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.arange(20) / 25
        >>> clip = Clip(frames, times, flow=torch.zeros(20, 2, 32, 32))
        >>> [tuple(stream.shape) for stream in clip_to_streams(clip, two_stream_spec("rgb+flow"))]
        [(2, 3, 32, 32), (20, 2, 32, 32)]
    """
    streams = []
    step = spec.clip_stride
    for stream in spec.streams:
        frames = slice(stream.first_frame // step, None, stream.frame_stride // step)
        if stream.kind == "rgb":
            streams.append(clip.frames[frames])
        elif clip.flow is not None:
            streams.append(encode_flow(clip.flow[frames]))
        else:
            raise InvalidInputError(
                f"{spec.name} needs optical flow, but {clip.source or 'the clip'} has none. Compute it with "
                "quovadis.flow.estimate.flow_for_clip"
            )
    return streams


def cut_clip(clip: Clip, spec: ModelSpec) -> list[Clip]:
    """Split a long clip into clips that the model processes one at a time; see ``ModelSpec.test_clip_frames``.

    The clips are adjacent. The last one is shifted to end with the input, so it may overlap the one before it.

    Args:
        clip: Clip at ``spec.fps`` that contains every ``spec.clip_stride``-th frame.
        spec: Input specification of the model.

    Returns:
        Clips in temporal order; only ``clip`` if the model accepts clips of any length.

    Example:
        >>> from quovadis.models.conv3d import conv3d_spec
        >>> clip = Clip(torch.zeros(40, 3, 8, 8, dtype=torch.uint8), torch.arange(40) / 25)
        >>> cut_clip(clip, conv3d_spec())
        [Clip(T=16, H=8, W=8, 0.000 s to 0.600 s), Clip(T=16, H=8, W=8, 0.640 s to 1.240 s),
         Clip(T=16, H=8, W=8, 0.960 s to 1.560 s)]
    """
    if spec.test_clip_frames is None:
        return [clip]
    length = -(-spec.test_clip_frames // spec.clip_stride)
    return [clip.take(torch.arange(start, stop)) for start, stop in windows(len(clip), length, length)]
