"""Convert uint8 frames to float network input."""

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.video.clip import require_uint8


def to_model(frames: Tensor) -> Tensor:
    """Convert uint8 frames or encoded flow to network input: scale [0, 255] to [-1, 1] and put channels before time.

    All networks use this range, without mean and standard deviation, as the official code does. Encode flow with
    :func:`quovadis.flow.codec.encode_flow` first.

    Args:
        frames: uint8 tensor (..., T, C, H, W), on any device.

    Returns:
        float32 tensor (..., C, T, H, W) on the same device, ``frames / 127.5 - 1``.

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor.
        InvalidInputError: If ``frames`` has fewer than four dimensions.

    Example:
        >>> x = to_model(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1))
        >>> x.shape, [round(v, 3) for v in x.flatten().tolist()]
        (torch.Size([1, 3, 1, 1]), [-1.0, -0.6, 1.0])
    """
    require_uint8(frames, "to_model expects a uint8 tensor in [0, 255]", ": pass the frames before converting to float")
    if frames.ndim < 4:
        raise InvalidInputError(f"to_model expects shape (..., T, C, H, W); got {tuple(frames.shape)}")
    # A tensor instead of a number, because CUDA divides by a number by multiplying with its reciprocal.
    half = torch.full((), 127.5, device=frames.device)
    return frames.transpose(-4, -3).to(torch.float32).div_(half).sub_(1.0)
