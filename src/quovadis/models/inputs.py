"""From a clip to the inputs of a model: one uint8 tensor a stream, as the model's spec lists them."""

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.flow.codec import encode_flow
from quovadis.models.spec import ModelSpec
from quovadis.video.clip import Clip
from quovadis.video.sampling import windows


def clip_to_streams(clip: Clip, spec: ModelSpec) -> list[Tensor]:
    """The streams of a clip that is already resized and cropped, ready for :func:`quovadis.transforms.to_model`.

    Each stream takes its own frames: from its ``first_frame`` on, every ``frame_stride``-th.

    Args:
        clip: every ``spec.clip_stride``-th frame of a stretch of video at ``spec.fps``.
        spec: what the model sees.

    Returns:
        One uint8 (T, C, H, W) for each of ``spec.streams``; flow as 256 levels of +-20 pixels.

    Raises:
        InvalidInputError: the model wants flow and the clip has none; see :func:`quovadis.flow.estimate.flow_for_clip`.

    >>> from quovadis.models.two_stream import two_stream_spec
    >>> clip = Clip(torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.arange(20) / 25, torch.zeros(20, 2, 32, 32))
    >>> [tuple(s.shape) for s in clip_to_streams(clip, two_stream_spec("rgb+flow"))]
    [(2, 3, 32, 32), (20, 2, 32, 32)]
    """
    streams = []
    step = spec.clip_stride
    for stream in spec.streams:
        taken = slice(stream.first_frame // step, None, stream.frame_stride // step)
        if stream.kind == "rgb":
            streams.append(clip.frames[taken])
        elif clip.flow is not None:
            streams.append(encode_flow(clip.flow[taken]))
        else:
            raise InvalidInputError(f"{spec.name} wants optical flow, and {clip.source or 'the clip'} comes without")
    return streams


def cut_clip(clip: Clip, spec: ModelSpec) -> list[Clip]:
    """The clips that a model is shown one by one instead of a long one: see ``ModelSpec.test_clip_frames``.

    They touch, and the last is moved back to end with the clip, so nothing is left out.

    Args:
        clip: every ``spec.clip_stride``-th frame of a stretch of video at ``spec.fps``.
        spec: what the model sees.

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
