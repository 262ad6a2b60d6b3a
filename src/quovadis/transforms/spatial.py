"""Resize, crop and flip clips: the paper's preprocessing and augmentation (section 4, and README of the code).

Pixels stay uint8. A crop or a flip moves pictures and flow together, and a mirror turns horizontal flow around.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.video.clip import Clip


def resize_short_side(frames: Tensor, size_px: int) -> Tensor:
    """Scale pictures so that their short side has ``size_px`` pixels, the aspect ratio kept.

    Plain bilinear interpolation (half-pixel centres, no antialiasing), as OpenCV and TensorFlow do it. Resizing comes
    before flow, so it takes pictures and not clips.

    Args:
        frames: uint8 (T, 3, H, W).
        size_px: the new short side; the long side is rounded to the nearest pixel.

    Returns:
        uint8 (T, 3, h, w).

    >>> resize_short_side(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), 256).shape
    torch.Size([2, 3, 256, 341])
    """
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8 or frames.ndim != 4:
        got = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
        raise InvalidTypeError(f"resize_short_side takes a uint8 tensor (T, 3, H, W); got {got}")
    if size_px < 1:
        raise InvalidInputError(f"size_px must be at least 1; got {size_px}")
    height, width = frames.shape[2:]
    short = min(height, width)
    if short == size_px:
        return frames
    size = (round(height * size_px / short), round(width * size_px / short))
    if len(frames) == 1:
        # A decoded picture has its channels together. Torch has a kernel for that, twice as fast, and for a single
        # picture it goes by the stride of the batch dimension, which is otherwise arbitrary.
        frames = frames[0].permute(1, 2, 0).unsqueeze(0).permute(0, 3, 1, 2)
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False)


def stretch(frames: Tensor, height: int, width: int) -> Tensor:
    """Scale pictures to a size, whatever their aspect ratio, by the interpolation of :func:`resize_short_side`.

    Args:
        frames: uint8 (T, 3, H, W).
        height: of the result.
        width: of the result.

    >>> stretch(torch.zeros(2, 3, 240, 320, dtype=torch.uint8), 256, 340).shape
    torch.Size([2, 3, 256, 340])
    """
    if not isinstance(frames, Tensor) or frames.dtype != torch.uint8 or frames.ndim != 4:
        got = f"{frames.dtype} {tuple(frames.shape)}" if isinstance(frames, Tensor) else type(frames).__name__
        raise InvalidTypeError(f"stretch takes a uint8 tensor (T, 3, H, W); got {got}")
    if min(height, width) < 1:
        raise InvalidInputError(f"a picture must have at least one pixel; got {height}x{width}")
    if (height, width) == tuple(frames.shape[2:]):
        return frames
    return F.interpolate(frames, size=(height, width), mode="bilinear", align_corners=False)


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

    >>> center_crop(Clip(torch.zeros(2, 3, 256, 341, dtype=torch.uint8), torch.zeros(2)), 224)
    Clip(T=2, H=224, W=224, 0.000 s to 0.000 s)
    """
    return crop(clip, (clip.height - size_px) // 2, (clip.width - size_px) // 2, size_px, size_px)


def crops_along(clip: Clip, size_px: int, num_crops: int) -> list[Clip]:
    """Squares of ``size_px`` pixels spread evenly along the longer side, from end to end; one is in the middle.

    On the shorter side all are centred. A square video has them along its width.

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
