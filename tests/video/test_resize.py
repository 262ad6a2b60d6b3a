"""Resizing against an independent bilinear interpolation, and while reading a clip."""

from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames, resize_frames_to
from tests.synthetic import moving_square


def bilinear(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation between pixel centers at half-integers, in float64, one axis after the other."""

    def along(values: np.ndarray, axis: int, size: int) -> np.ndarray:
        old = values.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, old - 1)
        weight = (position - low).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight

    return along(along(frames.astype(np.float64), 2, height), 3, width)


def noise(num_frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (num_frames, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("height", "width", "size_px", "expected"),
    [
        (48, 64, 51, (51, 68)),  # up
        (64, 48, 36, (48, 36)),  # down, portrait
        (50, 50, 31, (31, 31)),  # square
        (37, 91, 23, (23, 57)),  # odd
        (91, 37, 74, (182, 74)),  # odd, twice the size
        (240, 320, 256, (256, 341)),  # UCF-101 at the size of the paper
        (33, 100, 5, (5, 15)),
    ],
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_resize_is_bilinear(
    height: int, width: int, size_px: int, expected: tuple[int, int], channels_last: bool
) -> None:
    """In both memory layouts: decoded frames are channels-last."""
    frames = noise(2, height, width)
    if channels_last:
        frames = frames.contiguous(memory_format=torch.channels_last)
    resized = resize_frames(frames, size_px)
    assert resized.dtype == torch.uint8
    assert tuple(resized.shape) == (2, 3, *expected)
    exact = bilinear(frames.numpy(), *expected)
    # torch rounds after each axis (half a level each) and has weights of 16 bits.
    assert np.abs(resized.numpy() - exact).max() < 1.001
    assert np.abs(resized.numpy() - exact).mean() < 0.36


def test_resize_to_the_same_size_returns_the_same_tensor() -> None:
    frames = noise(2, 30, 41)
    assert resize_frames(frames, 30) is frames


def test_resize_keeps_a_constant_frame_exactly() -> None:
    for value in (0, 1, 127, 254, 255):
        frames = torch.full((1, 3, 37, 53), value, dtype=torch.uint8)
        assert (resize_frames(frames, 64) == value).all()
        assert (resize_frames(frames, 11) == value).all()


@pytest.mark.parametrize(
    "frames", [noise(1, 4, 4).float(), noise(1, 4, 4)[0], noise(1, 4, 4).numpy()], ids=["float", "3D", "numpy"]
)
def test_resize_refuses_other_types(frames: torch.Tensor) -> None:
    with pytest.raises(InvalidTypeError, match=r"frames must be a uint8 tensor \(T, 3, H, W\)"):
        resize_frames(frames, 8)


def test_resize_to_an_empty_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 px; got 0"):
        resize_frames(noise(1, 4, 4), 0)
    with pytest.raises(InvalidInputError, match="at least one pixel; got 0x4"):
        resize_frames_to(noise(1, 4, 4), 0, 4)


def test_resize_to_an_exact_size_ignores_the_aspect_ratio() -> None:
    frames = noise(2, 12, 16)
    assert resize_frames_to(frames, 12, 16) is frames
    resized = resize_frames_to(frames, 9, 31)
    assert np.abs(resized.numpy() - bilinear(frames.numpy(), 9, 31)).max() < 1.001


def test_read_clip_resizes_to_the_short_side(clip_path: Path) -> None:
    clip = read_clip(clip_path, short_side_px=24)
    assert torch.equal(clip.frames, resize_frames(moving_square(), 24))
    assert torch.equal(clip.pts_seconds, read_clip(clip_path).pts_seconds)
    transformed = read_clip(clip_path, transform=lambda frames: resize_frames(frames, 24))
    assert torch.equal(clip.frames, transformed.frames)


def test_read_clip_refuses_both_short_side_px_and_transform(clip_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="either short_side_px or transform, not both"):
        read_clip(clip_path, short_side_px=24, transform=lambda frames: frames)
    with pytest.raises(InvalidInputError, match="at least 1 px; got 0"):
        read_clip(clip_path, short_side_px=0)
