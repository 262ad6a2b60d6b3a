"""Stretch pictures to a square and make them network input, in floats: what the Frechet Video Distance does.

:func:`quovadis.transforms.resize_short_side` rounds to bytes, as a video that is stored resized does. The published
protocols of the distance resize in floats instead, and one of them with TensorFlow 1's own idea of where pixels are.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError

PixelCenters = Literal["half", "legacy"]
PIXEL_CENTERS: tuple[PixelCenters, ...] = ("half", "legacy")


def stretch_to_model(frames: Tensor, size_px: int, *, pixel_centers: PixelCenters) -> Tensor:
    """Bytes to network input of ``size_px`` x ``size_px``, bilinear, whatever the aspect ratio.

    Args:
        frames: uint8 (..., T, C, H, W), on any device.
        size_px: height and width of the result.
        pixel_centers: ``half`` puts the center of pixel i at i + 0.5, as PyTorch, OpenCV and TensorFlow 2 do.
            ``legacy`` puts it at i, so that the picture is scaled about its upper left corner: the default of
            TensorFlow 1 (``tf.image.resize_bilinear`` without ``half_pixel_centers``). No antialiasing in either.

    Returns:
        float32 (..., C, T, size_px, size_px), ``resized * 2 / 255 - 1``.

    Raises:
        InvalidTypeError: not uint8. InvalidInputError: another layout or size. UnknownNameError: other centers.

    >>> row = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
    >>> [stretch_to_model(row, 4, pixel_centers=c)[0, 0, 0].tolist() for c in ("half", "legacy")]
    [[-1.0, -0.5, 0.5, 1.0], [-1.0, 0.0, 1.0, 1.0]]
    """
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
        got = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise InvalidTypeError(f"stretch_to_model takes a uint8 tensor in [0, 255]; got {got}: give it the bytes")
    if frames.ndim < 4 or 0 in frames.shape:
        raise InvalidInputError(f"stretch_to_model takes (..., T, C, H, W); got {tuple(frames.shape)}")
    if size_px < 1:
        raise InvalidInputError(f"size_px must be at least 1; got {size_px}")
    if pixel_centers not in PIXEL_CENTERS:
        raise UnknownNameError.among("pixel centers", pixel_centers, PIXEL_CENTERS)
    flat = frames.flatten(0, -4).float()
    if pixel_centers == "half":
        resized = F.interpolate(flat, size=(size_px, size_px), mode="bilinear", align_corners=False)
    else:
        resized = _legacy(_legacy(flat, size_px, 3), size_px, 2)
    # The order of operations of the reference: 2 * x / 255 - 1.
    scaled = resized.mul_(2.0).div_(torch.full((), 255.0, device=frames.device)).sub_(1.0)
    return scaled.unflatten(0, frames.shape[:-3]).transpose(-4, -3)


def _legacy(x: Tensor, size_px: int, dim: int) -> Tensor:
    """Linear interpolation along one axis at ``i * size / size_px``; behind the last pixel is the last pixel again."""
    size = x.shape[dim]
    position = torch.arange(size_px, dtype=torch.float32, device=x.device) * (size / size_px)
    before = position.floor().long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    share = (position - before).view([-1 if d == dim else 1 for d in range(x.ndim)])
    first = x.index_select(dim, before)
    return first + (x.index_select(dim, after) - first) * share
