"""Evenly spaced frames of a clip side by side, as a JPEG."""

from __future__ import annotations

import io

import torch
import torch.nn.functional as F
from torch import Tensor

_GAP_PX = 3


def encode_filmstrip(frames: Tensor, *, num_frames: int = 8, height_px: int = 96, quality: int = 82) -> bytes:
    r"""Draw evenly spaced frames side by side.

    Args:
        frames: uint8 (T, 3, H, W).
        num_frames: Maximum number of frames to show.
        height_px: Height of the strip.
        quality: Quality of the JPEG, 1 to 95.

    Returns:
        The bytes of a JPEG file.

    Example:
        >>> encode_filmstrip(torch.zeros(9, 3, 48, 64, dtype=torch.uint8), num_frames=4)[:3]
        b'\xff\xd8\xff'
    """
    from PIL import Image

    index = torch.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().long()
    width = max(round(frames.shape[3] * height_px / frames.shape[2]), 1)
    small = F.interpolate(frames[index].float(), size=(height_px, width), mode="bilinear", antialias=True)
    gap = torch.full((3, height_px, _GAP_PX), 255.0)
    columns = [column for frame in small for column in (frame, gap)][:-1]
    strip = torch.cat(columns, dim=2).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
