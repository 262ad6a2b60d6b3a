"""Resize frames to a square in float32, as the published protocols of the Frechet Video Distance do.

:func:`quovadis.transforms.resize_short_side` rounds to uint8 instead. One of the protocols uses the pixel centers of
TensorFlow 1.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.video.clip import require_uint8

PixelCenters = Literal["half", "legacy"]
PIXEL_CENTERS: tuple[PixelCenters, ...] = ("half", "legacy")


def resize_to_model(frames: Tensor, size_px: int, *, pixel_centers: PixelCenters, center_crop: bool = False) -> Tensor:
    """Resize frames to a square and convert them to network input.

    Bilinear interpolation in float32, without antialiasing.

    Args:
        frames: uint8 tensor (..., T, C, H, W), on any device.
        size_px: Height and width of the result.
        pixel_centers: ``half`` places the center of pixel i at i + 0.5, as PyTorch, OpenCV and TensorFlow 2 do.
            ``legacy`` places it at i, so that frames are scaled about their upper left corner. This is the default of
            TensorFlow 1 (``tf.image.resize_bilinear`` without ``half_pixel_centers``).
        center_crop: Whether to resize the short side to ``size_px``, round the long side up, and take the center
            square. By default, frames are stretched to the square, ignoring their aspect ratio.

    Returns:
        float32 tensor (..., C, T, size_px, size_px) in [-1, 1], ``resized * 2 / 255 - 1``.

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor.
        InvalidInputError: If ``frames`` has fewer than four dimensions or is empty, or ``size_px`` is below 1.
        UnknownNameError: If ``pixel_centers`` is unknown.

    Example:
        >>> row = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2)
        >>> [resize_to_model(row, 4, pixel_centers=c)[0, 0, 0].tolist() for c in ("half", "legacy")]
        [[-1.0, -0.5, 0.5, 1.0], [-1.0, 0.0, 1.0, 1.0]]
    """
    require_uint8(frames, "resize_to_model expects a uint8 tensor in [0, 255]")
    if frames.ndim < 4 or 0 in frames.shape:
        raise InvalidInputError(f"resize_to_model expects shape (..., T, C, H, W); got {tuple(frames.shape)}")
    if size_px < 1:
        raise InvalidInputError(f"size_px must be at least 1; got {size_px}")
    if pixel_centers not in PIXEL_CENTERS:
        raise UnknownNameError.among("pixel centers", pixel_centers, PIXEL_CENTERS)
    flat = frames.flatten(0, -4).float()
    height, width = _short_side_size(flat.shape[2], flat.shape[3], size_px) if center_crop else (size_px, size_px)
    if pixel_centers == "half":
        resized = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=False)
    else:
        resized = _legacy(_legacy(flat, width, 3), height, 2)
    top, left = (height - size_px) // 2, (width - size_px) // 2
    resized = resized[:, :, top : top + size_px, left : left + size_px]
    # In the order of operations of the reference, to get the same rounding.
    scaled = resized.mul_(2.0).div_(torch.full((), 255.0, device=frames.device)).sub_(1.0)
    return scaled.unflatten(0, frames.shape[:-3]).transpose(-4, -3)


def _short_side_size(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Height and width after resizing the short side; in floating point like VideoGPT, whose rounding this repeats."""
    scale = size_px / min(height, width)
    return (size_px, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), size_px)


def _legacy(x: Tensor, size_px: int, dim: int) -> Tensor:
    """Interpolate along one axis at positions ``i * size / size_px``, with the last pixel repeated."""
    size = x.shape[dim]
    position = torch.arange(size_px, dtype=torch.float32, device=x.device) * (size / size_px)
    before = position.floor().long().clamp(max=size - 1)
    after = (before + 1).clamp(max=size - 1)
    weight = (position - before).view([-1 if d == dim else 1 for d in range(x.ndim)])
    first = x.index_select(dim, before)
    return first + (x.index_select(dim, after) - first) * weight
