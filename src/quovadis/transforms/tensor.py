"""From bytes to what a network sees."""

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError


def to_model(frames: Tensor) -> Tensor:
    """Bytes to network input: [0, 255] to [-1, 1], time behind channels.

    This is the only place that makes floats, so nothing else can get the range or the layout wrong. The official code
    feeds [-1, 1] without mean or deviation; flow arrives here as bytes too (+-20 pixels in 256 levels).

    Args:
        frames: uint8 (..., T, C, H, W), on any device.

    Returns:
        float32 (..., C, T, H, W), ``frames / 127.5 - 1``.

    Raises:
        InvalidTypeError: not uint8.

    >>> x = to_model(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1))
    >>> x.shape, [round(v, 3) for v in x.flatten().tolist()]
    (torch.Size([1, 3, 1, 1]), [-1.0, -0.6, 1.0])
    """
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
        got = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise InvalidTypeError(
            f"to_model takes a uint8 tensor in [0, 255]; got {got}. It is the one step that makes floats: "
            "give it the bytes"
        )
    if frames.ndim < 4:
        raise InvalidInputError(f"to_model takes (..., T, C, H, W); got {tuple(frames.shape)}")
    # A tensor on the same device, because CUDA multiplies by the reciprocal of a plain number: not the same float.
    half = torch.full((), 127.5, device=frames.device)
    return frames.transpose(-4, -3).to(torch.float32).div_(half).sub_(1.0)
