"""Pictures of class activation maps: an overlay on the frames of a video, and a filmstrip of it."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError

_MAX_OPACITY = 0.65
_COLORMAP = "inferno"


def overlay_maps(frames: Tensor, maps: Tensor, *, max_evidence: float, crop_px: int) -> Tensor:
    """Blend the positive evidence for a class over video frames.

    Maps are resized to the central square that the network saw. Evidence of zero or less is transparent;
    ``max_evidence`` and more has the brightest color. Pixels outside the square are darkened.

    Args:
        frames: uint8 (T, 3, H, W), RGB, resized so that the network's crop fits in.
        maps: float (T, h, w), one for each frame.
        max_evidence: The evidence with the full color; above 0, the same for all frames of a video.
        crop_px: Side of the central square in pixels, at most H and W.

    Returns:
        uint8 (T, 3, H, W).

    Raises:
        InvalidInputError: If the numbers of frames and maps differ, or the crop is larger than the frame.

    Example:
        >>> frames = torch.full((1, 3, 4, 6), 100, dtype=torch.uint8)
        >>> overlay_maps(frames, torch.zeros(1, 2, 2), max_evidence=1.0, crop_px=4)[0, 0, 0].tolist()
        [50, 100, 100, 100, 100, 50]
    """
    num_frames, _, height, width = frames.shape
    if len(maps) != num_frames or not 0 < crop_px <= min(height, width) or not max_evidence > 0:
        raise InvalidInputError(
            f"overlay_maps needs one map per frame, a crop that fits and max_evidence above 0; got {num_frames} "
            f"frames of {height}x{width}, {len(maps)} maps, crop_px={crop_px}, max_evidence={max_evidence}"
        )
    inside = F.interpolate(maps[:, None].float(), size=(crop_px, crop_px), mode="bilinear", align_corners=False)[:, 0]
    strength = (inside / max_evidence).clamp(0, 1)
    color = _colors()[(strength * 255).round().long()].movedim(-1, 1)
    opacity = _MAX_OPACITY * strength[:, None]
    top, left = (height - crop_px) // 2, (width - crop_px) // 2
    blended = frames.float() / 2
    square = (slice(None), slice(None), slice(top, top + crop_px), slice(left, left + crop_px))
    blended[square] = frames[square].float() * (1 - opacity) + 255 * color * opacity
    return blended.round().to(torch.uint8)


def filmstrip(frames: Tensor, num_frames: int = 8, gap_px: int = 4) -> Tensor:
    """Place evenly spaced frames side by side.

    Args:
        frames: uint8 (T, 3, H, W).
        num_frames: How many to show; all where there are fewer.
        gap_px: White space between two frames.

    Returns:
        uint8 (3, H, W').

    Example:
        >>> filmstrip(torch.zeros(9, 3, 4, 6, dtype=torch.uint8), 3, gap_px=1).shape
        torch.Size([3, 4, 20])
    """
    index = torch.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().long()
    padded = F.pad(frames[index], (0, gap_px), value=255)
    return torch.cat(list(padded), dim=2)[..., :-gap_px]


def _colors() -> Tensor:
    """float32 (256, 3) in [0, 1]."""
    import matplotlib

    return torch.from_numpy(matplotlib.colormaps[_COLORMAP](np.arange(256))[:, :3]).float()
