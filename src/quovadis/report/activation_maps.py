"""Draw class activation maps: overlays on video frames, and filmstrips."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.report.figure_text import lettering

_MAX_OPACITY = 0.65
_COLORMAP = "inferno"
_STRIP_INCHES = 13.0


def overlay_maps(frames: Tensor, maps: Tensor, *, max_evidence: float, crop_px: int) -> Tensor:
    """Blend the positive evidence for a class over video frames.

    Maps are resized to the central square that is the input of the network. Evidence of at most zero is transparent;
    evidence of ``max_evidence`` or more has the brightest color. Pixels outside the square are darkened.

    Args:
        frames: uint8 (T, 3, H, W), RGB, at least as large as the crop.
        maps: float (T, h, w), one map per frame.
        max_evidence: Evidence drawn at full color, > 0. Use one value for all frames of a video.
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


def color_maps(maps: Tensor, *, max_evidence: float) -> Tensor:
    """Color the positive evidence for a class as transparent images, to be drawn over frames.

    Args:
        maps: float (T, h, w).
        max_evidence: Evidence drawn at full color, > 0. Use one value for all maps of a video.

    Returns:
        uint8 (T, h, w, 4), RGBA. Evidence of at most zero is transparent.

    Example:
        >>> color_maps(torch.tensor([[[-1.0, 2.0]]]), max_evidence=2.0)[0, 0, :, 3].tolist()
        [0, 166]
    """
    strength = (maps.float() / max_evidence).clamp(0, 1)
    color = _colors()[(strength * 255).round().long()]
    return (255 * torch.cat([color, _MAX_OPACITY * strength[..., None]], -1)).round().to(torch.uint8)


def full_color_evidence(maps: Tensor) -> float:
    """Return the evidence to draw at full color in all maps of a video: the 98th percentile of the positive evidence.

    With the maximum, a single peak would make the evidence in all other frames almost transparent.

    Example:
        >>> full_color_evidence(torch.arange(-200.0, 52.0))
        50.0
    """
    positive = maps[maps > 0]
    return float(positive.quantile(0.98)) if len(positive) else 1.0


def draw_filmstrip(frames: Tensor, seconds: Sequence[float], *, title: str) -> bytes:
    """Draw frames side by side, each with its time.

    Args:
        frames: uint8 (T, 3, H, W), T >= 1.
        seconds: The time of each frame.
        title: Title above the frames, plain text.

    Returns:
        The bytes of a PNG file.

    Example:
        >>> draw_filmstrip(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), [0.0, 1.0], title="x")[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    width = _STRIP_INCHES / len(frames)
    height = width * frames.shape[2] / frames.shape[3]
    figure = Figure(figsize=(_STRIP_INCHES, height + 0.55), dpi=110)
    axes = figure.subplots(1, len(frames), squeeze=False)[0]
    figure.subplots_adjust(
        left=0.005, right=0.995, wspace=0.03, top=1 - 0.3 / (height + 0.55), bottom=0.22 / (height + 0.55)
    )
    for axis, frame, time in zip(axes, frames, seconds, strict=True):
        axis.imshow(frame.permute(1, 2, 0).numpy())
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_xlabel(f"{time:.2f} s", fontsize=8, labelpad=2)
    buffer = io.BytesIO()
    with lettering(title) as text:
        figure.text(0.005, 0.995, text(title), va="top", fontsize=11, color="#1f2933")
        figure.savefig(buffer, format="png", facecolor="white")
    return buffer.getvalue()


def _colors() -> Tensor:
    """The color map, float32 (256, 3) in [0, 1]."""
    import matplotlib

    return torch.from_numpy(matplotlib.colormaps[_COLORMAP](np.arange(256))[:, :3]).float()
