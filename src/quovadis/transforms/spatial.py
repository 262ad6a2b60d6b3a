"""Resize, crop and flip clips: the paper's preprocessing and augmentation (section 4, and README of the code).

Pixels stay uint8. A crop or a flip moves pictures and flow together, and a mirror turns horizontal flow around.
"""

from dataclasses import replace

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames, resize_frames_to


def resize_short_side(clip: Clip, size_px: int) -> Clip:
    """Resize a clip so that its short side has ``size_px`` pixels; the aspect ratio is kept.

    Bilinear interpolation with half-pixel centers and without antialiasing, as OpenCV and TensorFlow do it. Resize
    before computing optical flow.

    Args:
        clip: A clip without flow.
        size_px: The new short side; the long side is rounded to the nearest pixel.

    Raises:
        InvalidInputError: If the clip has flow, or ``size_px`` is below 1.

    Example:
        >>> import torch
        >>> resize_short_side(Clip(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), torch.zeros(2)), 256)
        Clip(T=2, H=256, W=341, 0.000 s to 0.000 s)
    """
    _require_no_flow(clip)
    return replace(clip, frames=resize_frames(clip.frames, size_px))


def resize(clip: Clip, height: int, width: int) -> Clip:
    """Resize a clip to a size, ignoring its aspect ratio, with the interpolation of :func:`resize_short_side`.

    Args:
        clip: A clip without flow.
        height: New height in pixels.
        width: New width in pixels.

    Raises:
        InvalidInputError: If the clip has flow, or ``height`` or ``width`` is below 1.

    Example:
        >>> import torch
        >>> resize(Clip(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), torch.zeros(2)), 256, 340)
        Clip(T=2, H=256, W=340, 0.000 s to 0.000 s)
    """
    _require_no_flow(clip)
    return replace(clip, frames=resize_frames_to(clip.frames, height, width))


def _require_no_flow(clip: Clip) -> None:
    if clip.flow is not None:
        raise InvalidInputError("cannot resize a clip with optical flow; resize first, then compute the flow")


def crop(clip: Clip, top: int, left: int, height: int, width: int) -> Clip:
    """The rectangle of ``height`` x ``width`` pixels whose upper left corner is (``top``, ``left``)."""
    if min(height, width) < 1:
        raise InvalidInputError(f"a crop must have at least one pixel; got {height}x{width}")
    if top < 0 or left < 0 or top + height > clip.height or left + width > clip.width:
        raise InvalidInputError(
            f"a crop of {height}x{width} at ({top}, {left}) does not lie inside {clip.height}x{clip.width}; "
            f"resize first, with resize_short_side"
        )
    rows, columns = slice(top, top + height), slice(left, left + width)
    flow = None if clip.flow is None else clip.flow[:, :, rows, columns]
    return replace(clip, frames=clip.frames[:, :, rows, columns], flow=flow)


def center_crop(clip: Clip, size_px: int) -> Clip:
    """The middle square of ``size_px`` pixels: what the paper tests on.

    >>> import torch
    >>> center_crop(Clip(torch.zeros(2, 3, 256, 341, dtype=torch.uint8), torch.zeros(2)), 224)
    Clip(T=2, H=224, W=224, 0.000 s to 0.000 s)
    """
    return crop(clip, (clip.height - size_px) // 2, (clip.width - size_px) // 2, size_px, size_px)


def crops_along(clip: Clip, size_px: int, num_crops: int) -> list[Clip]:
    """Squares of ``size_px`` pixels spread evenly along the longer side, from end to end; one is in the middle.

    On the shorter side all are centered. A square video has them along its width.

    >>> import torch
    >>> clip = Clip(torch.arange(341, dtype=torch.int64).to(torch.uint8).expand(1, 3, 256, 341), torch.zeros(1))
    >>> [int(c.frames[0, 0, 0, 0]) for c in crops_along(clip, 224, 3)]
    [0, 58, 117]
    """
    rows, columns = clip.height - size_px, clip.width - size_px
    if num_crops == 1:
        return [center_crop(clip, size_px)]
    shares = [number / (num_crops - 1) for number in range(num_crops)]
    if rows > columns:
        return [crop(clip, int(rows * share), columns // 2, size_px, size_px) for share in shares]
    return [crop(clip, rows // 2, int(columns * share), size_px, size_px) for share in shares]


def ten_crops(clip: Clip, size_px: int) -> list[Clip]:
    """Squares of ``size_px``: upper left, upper right, middle, lower left, lower right; then of the mirrored clip.

    >>> import torch
    >>> clip = Clip(torch.zeros(1, 3, 256, 340, dtype=torch.uint8), torch.zeros(1))
    >>> {crop.width for crop in ten_crops(clip, 224)}
    {224}
    """
    bottom, right = clip.height - size_px, clip.width - size_px
    places = [(0, 0), (0, right), (bottom // 2, right // 2), (bottom, 0), (bottom, right)]
    return [
        crop(picture, top, left, size_px, size_px) for picture in (clip, flip_left_right(clip)) for top, left in places
    ]


def random_crop(clip: Clip, size_px: int, rng: np.random.Generator) -> Clip:
    """A square of ``size_px`` pixels anywhere, the same for every frame: what the paper trains on."""
    top, left = (int(rng.integers(0, max(side - size_px, 0) + 1)) for side in (clip.height, clip.width))
    return crop(clip, top, left, size_px, size_px)


def flip_left_right(clip: Clip) -> Clip:
    """Mirror the clip: all frames alike, and horizontal flow with its sign turned around.

    Whether the authors turned the sign is not documented; a mirrored world moves the other way, so we do.
    """
    flow = None
    if clip.flow is not None:
        flow = clip.flow.flip(3) * clip.flow.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    return replace(clip, frames=clip.frames.flip(3), flow=flow)
