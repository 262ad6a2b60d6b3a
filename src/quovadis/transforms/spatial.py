"""Resize, crop and flip clips: the paper's preprocessing and augmentation (section 4, and README of the code).

Frames remain uint8. Crops and flips apply to frames and flow together.
"""

from dataclasses import replace

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames, resize_frames_to


def resize_short_side(clip: Clip, size_px: int) -> Clip:
    """Resize a clip so that its short side has ``size_px`` pixels; the aspect ratio is kept.

    Bilinear interpolation with half-pixel centers and without antialiasing, as in OpenCV and TensorFlow 2. Resize
    before computing optical flow. To resize while reading, use ``read_clip(path, short_side_px=...)``.

    Args:
        clip: Clip without flow.
        size_px: The new short side; the long side is rounded to the nearest pixel.

    Returns:
        The resized clip.

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
    """Resize a clip to an exact size, ignoring its aspect ratio, with the interpolation of :func:`resize_short_side`.

    Args:
        clip: Clip without flow.
        height: New height in pixels.
        width: New width in pixels.

    Returns:
        The resized clip.

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
    """Crop a rectangle from all frames and the flow of a clip.

    Args:
        clip: Clip, with or without flow.
        top: First row.
        left: First column.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        The cropped clip; its tensors are views.

    Raises:
        InvalidInputError: If the rectangle is empty or not inside the frame.

    Example:
        >>> import torch
        >>> crop(Clip(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), torch.zeros(2)), 10, 20, 200, 100)
        Clip(T=2, H=200, W=100, 0.000 s to 0.000 s)
    """
    if min(height, width) < 1:
        raise InvalidInputError(f"a crop must have at least one pixel; got {height}x{width}")
    if top < 0 or left < 0 or top + height > clip.height or left + width > clip.width:
        raise InvalidInputError(
            f"a crop of {height}x{width} at ({top}, {left}) is outside of the frame of {clip.height}x{clip.width}; "
            f"resize first, for example with resize_short_side"
        )
    rows, columns = slice(top, top + height), slice(left, left + width)
    flow = None if clip.flow is None else clip.flow[:, :, rows, columns]
    return replace(clip, frames=clip.frames[:, :, rows, columns], flow=flow)


def center_crop(clip: Clip, size_px: int) -> Clip:
    """Crop the central square of ``size_px`` pixels: the paper's crop for testing.

    Raises:
        InvalidInputError: If the clip is smaller than the square.

    Example:
        >>> import torch
        >>> center_crop(Clip(torch.zeros(2, 3, 256, 341, dtype=torch.uint8), torch.zeros(2)), 224)
        Clip(T=2, H=224, W=224, 0.000 s to 0.000 s)
    """
    return crop(clip, (clip.height - size_px) // 2, (clip.width - size_px) // 2, size_px, size_px)


def crops_along(clip: Clip, size_px: int, num_crops: int) -> list[Clip]:
    """Crop ``num_crops`` squares of ``size_px`` pixels, evenly spaced along the longer side from end to end.

    The squares are centered on the shorter side. A single crop is the center crop; crops of square frames are spaced
    along the width.

    Raises:
        InvalidInputError: If the clip is smaller than the squares.

    Example:
        >>> import torch
        >>> clip = Clip(torch.arange(341, dtype=torch.int64).to(torch.uint8).expand(1, 3, 256, 341), torch.zeros(1))
        >>> [int(c.frames[0, 0, 0, 0]) for c in crops_along(clip, 224, 3)]
        [0, 58, 117]
    """
    rows, columns = clip.height - size_px, clip.width - size_px
    if num_crops == 1:
        return [center_crop(clip, size_px)]
    fractions = [number / (num_crops - 1) for number in range(num_crops)]
    if rows > columns:
        return [crop(clip, int(rows * fraction), columns // 2, size_px, size_px) for fraction in fractions]
    return [crop(clip, rows // 2, int(columns * fraction), size_px, size_px) for fraction in fractions]


def ten_crops(clip: Clip, size_px: int) -> list[Clip]:
    """Crop the four corners and the center, as squares of ``size_px`` pixels, from the clip and from its mirror image.

    Returns:
        Ten clips: upper left, upper right, center, lower left, lower right; then the same of the mirrored clip.

    Raises:
        InvalidInputError: If the clip is smaller than the squares.

    Example:
        >>> import torch
        >>> clip = Clip(torch.zeros(1, 3, 256, 340, dtype=torch.uint8), torch.zeros(1))
        >>> len(ten_crops(clip, 224))
        10
    """
    bottom, right = clip.height - size_px, clip.width - size_px
    corners = [(0, 0), (0, right), (bottom // 2, right // 2), (bottom, 0), (bottom, right)]
    return [crop(c, top, left, size_px, size_px) for c in (clip, flip_left_right(clip)) for top, left in corners]


def random_crop(clip: Clip, size_px: int, rng: np.random.Generator) -> Clip:
    """Crop a random square of ``size_px`` pixels, the same for every frame: the paper's crop for training.

    Raises:
        InvalidInputError: If the clip is smaller than the square.

    Example:
        >>> import torch
        >>> clip = Clip(torch.zeros(2, 3, 256, 340, dtype=torch.uint8), torch.zeros(2))
        >>> random_crop(clip, 224, np.random.default_rng(0))
        Clip(T=2, H=224, W=224, 0.000 s to 0.000 s)
    """
    top, left = (int(rng.integers(0, max(side - size_px, 0) + 1)) for side in (clip.height, clip.width))
    return crop(clip, top, left, size_px, size_px)


def flip_left_right(clip: Clip) -> Clip:
    """Mirror all frames and the flow of a clip, and negate the horizontal flow.

    The paper does not say whether its authors negated the flow; motion in a mirrored video is mirrored, so we do.

    Example:
        >>> import torch
        >>> clip = Clip(torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.zeros(1), torch.ones(1, 2, 2, 2))
        >>> flip_left_right(clip).flow[0, :, 0, 0].tolist()
        [-1.0, 1.0]
    """
    flow = None
    if clip.flow is not None:
        flow = clip.flow.flip(3) * clip.flow.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    return replace(clip, frames=clip.frames.flip(3), flow=flow)
