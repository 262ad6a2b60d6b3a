"""Resize frames with the default interpolation of OpenCV and TensorFlow 2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError


def resize_frames(frames: Tensor, short_side_px: int) -> Tensor:
    """Resize frames so that their short side has ``short_side_px`` pixels; the aspect ratio is kept.

    Bilinear interpolation with half-pixel centers and without antialiasing.

    Args:
        frames: uint8 tensor (T, 3, H, W).
        short_side_px: The new short side; the long side is rounded to the nearest pixel.

    Returns:
        uint8 tensor (T, 3, h, w).

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor with four dimensions.
        InvalidInputError: If ``short_side_px`` is below 1.

    Example:
        >>> resize_frames(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), 256).shape
        torch.Size([2, 3, 256, 341])
    """
    _require_frames(frames)
    if short_side_px < 1:
        raise InvalidInputError(f"the short side must be at least 1 px; got {short_side_px}")
    height, width = frames.shape[2:]
    short = min(height, width)
    if short == short_side_px:
        return frames
    return _interpolate(frames, round(height * short_side_px / short), round(width * short_side_px / short))


def resize_frames_to(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize frames to an exact size, ignoring their aspect ratio, with the interpolation of :func:`resize_frames`.

    Args:
        frames: uint8 tensor (T, 3, H, W).
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        uint8 tensor (T, 3, height, width).

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor with four dimensions.
        InvalidInputError: If ``height`` or ``width`` is below 1.
    """
    _require_frames(frames)
    if min(height, width) < 1:
        raise InvalidInputError(f"frames must have at least one pixel; got {height}x{width}")
    if (height, width) == tuple(frames.shape[2:]):
        return frames
    return _interpolate(frames, height, width)


def _interpolate(frames: Tensor, height: int, width: int) -> Tensor:
    if len(frames) == 1:
        # Decoded frames are channels-last, for which PyTorch has a kernel that is twice as fast. For a single frame it
        # detects the layout only if the (otherwise arbitrary) stride of the batch dimension matches.
        frames = frames[0].permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    if frames.device.type == "cpu":
        return F.interpolate(frames, size=(height, width), mode="bilinear", align_corners=False)
    # PyTorch interpolates bytes on a CPU only. Floats take four times the memory, so convert some frames at a time.
    parts = (
        F.interpolate(part.float(), size=(height, width), mode="bilinear", align_corners=False).round_()
        for part in frames.split(64)
    )
    return torch.cat([part.to(torch.uint8) for part in parts])


def _require_frames(frames: Tensor) -> None:
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8 or frames.ndim != 4:
        got = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
        raise InvalidTypeError(f"frames must be a uint8 tensor (T, 3, H, W); got {got}")
