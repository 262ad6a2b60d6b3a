"""Resize against an independent bilinear interpolation; crops and flips move pictures and flow together."""

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.transforms import center_crop, crop, flip_left_right, random_crop, resize, resize_short_side
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames


def bilinear(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation between pixel centers at half-integers, in float64, one axis after the other."""

    def along(values: np.ndarray, axis: int, size: int) -> np.ndarray:
        old = values.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (position - low).reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        return values.take(low, axis) * (1 - share) + values.take(high, axis) * share

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
        (240, 320, 256, (256, 341)),  # the paper's, UCF-101
        (33, 100, 5, (5, 15)),
    ],
)
@pytest.mark.parametrize("channels_lie_together", [False, True])
def test_resize_is_plain_bilinear(
    height: int, width: int, size_px: int, expected: tuple[int, int], channels_lie_together: bool
) -> None:
    """In both layouts of memory: decoded frames arrive with their channels together."""
    frames = noise(2, height, width)
    if channels_lie_together:
        frames = frames.contiguous(memory_format=torch.channels_last)
    resized = resize_frames(frames, size_px)
    assert resized.dtype == torch.uint8
    assert tuple(resized.shape) == (2, 3, *expected)
    exact = bilinear(frames.numpy(), *expected)
    # It rounds after each axis: half a level each, and a little for its weights of 16 bits.
    assert np.abs(resized.numpy() - exact).max() < 1.001
    assert np.abs(resized.numpy() - exact).mean() < 0.36


def test_resize_to_the_same_size_changes_nothing() -> None:
    frames = noise(2, 30, 41)
    assert resize_frames(frames, 30) is frames


def test_resize_keeps_a_constant_picture_exactly() -> None:
    for value in (0, 1, 127, 254, 255):
        frames = torch.full((1, 3, 37, 53), value, dtype=torch.uint8)
        assert (resize_frames(frames, 64) == value).all()
        assert (resize_frames(frames, 11) == value).all()


@pytest.mark.parametrize(
    "frames", [noise(1, 4, 4).float(), noise(1, 4, 4)[0], noise(1, 4, 4).numpy()], ids=["float", "3D", "numpy"]
)
def test_resize_takes_uint8_frames_only(frames: torch.Tensor) -> None:
    with pytest.raises(InvalidTypeError, match=r"frames must be a uint8 tensor \(T, 3, H, W\)"):
        resize_frames(frames, 8)


def test_resize_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least 1 px; got 0"):
        resize_frames(noise(1, 4, 4), 0)


def clip_that_knows_its_place(height: int = 11, width: int = 14) -> Clip:
    """Every pixel and every flow vector holds its own row and column."""
    rows = torch.arange(height).view(1, height, 1).expand(3, height, width)
    columns = torch.arange(width).view(1, 1, width).expand(3, height, width)
    frames = torch.stack([rows[0], columns[0], torch.zeros_like(rows[0])]).to(torch.uint8)
    flow = torch.stack([columns[0], rows[0]]).float()
    return Clip(frames.expand(3, -1, -1, -1), torch.arange(3) / 25, flow.expand(3, -1, -1, -1), source="a.mp4")


def test_a_crop_takes_the_same_rectangle_of_pictures_and_flow() -> None:
    part = crop(clip_that_knows_its_place(), 2, 5, 4, 6)
    assert (part.height, part.width) == (4, 6)
    assert part.frames[1, 0, :, 0].tolist() == [2, 3, 4, 5]
    assert part.frames[1, 1, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert part.flow is not None
    assert torch.equal(part.flow[:, 0], part.frames[:, 1].float())
    assert torch.equal(part.flow[:, 1], part.frames[:, 0].float())
    assert part.source == "a.mp4"
    assert torch.equal(part.pts_seconds, clip_that_knows_its_place().pts_seconds)


def test_the_middle_is_the_middle() -> None:
    part = center_crop(clip_that_knows_its_place(11, 14), 5)
    assert part.frames[0, 0, :, 0].tolist() == [3, 4, 5, 6, 7]
    assert part.frames[0, 1, 0].tolist() == [4, 5, 6, 7, 8]


def test_random_crops_reach_every_corner_and_are_one_for_all_frames() -> None:
    clip, rng = clip_that_knows_its_place(5, 7), np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        part = random_crop(clip, 4, rng)
        assert (part.height, part.width) == (4, 4)
        assert torch.equal(part.frames, part.frames[:1].expand_as(part.frames))
        assert part.flow is not None
        assert torch.equal(part.flow[:, 0], part.frames[:, 1].float())
        corners.add((int(part.frames[0, 0, 0, 0]), int(part.frames[0, 1, 0, 0])))
    assert corners == {(top, left) for top in range(2) for left in range(4)}


def test_the_same_seed_crops_the_same() -> None:
    clip = clip_that_knows_its_place()
    first, second = (random_crop(clip, 6, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first.frames, second.frames)


@pytest.mark.parametrize("rectangle", [(-1, 0, 4, 4), (0, -1, 4, 4), (8, 0, 4, 4), (0, 11, 4, 4)])
def test_a_crop_must_lie_inside(rectangle: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidInputError, match="does not lie inside 11x14; resize first"):
        crop(clip_that_knows_its_place(), *rectangle)


def test_a_crop_larger_than_the_clip_or_empty_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="does not lie inside"):
        center_crop(clip_that_knows_its_place(), 12)
    with pytest.raises(InvalidInputError, match="does not lie inside"):
        random_crop(clip_that_knows_its_place(), 12, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="at least one pixel"):
        crop(clip_that_knows_its_place(), 0, 0, 0, 4)


def test_a_flip_mirrors_pictures_and_turns_horizontal_flow_around() -> None:
    clip = clip_that_knows_its_place()
    flipped = flip_left_right(clip)
    assert flipped.flow is not None
    assert clip.flow is not None
    for x in range(clip.width):
        mirrored = clip.width - 1 - x
        assert torch.equal(flipped.frames[..., x], clip.frames[..., mirrored])
        assert torch.equal(flipped.flow[:, 0, :, x], -clip.flow[:, 0, :, mirrored])
        assert torch.equal(flipped.flow[:, 1, :, x], clip.flow[:, 1, :, mirrored])


def test_two_flips_are_none() -> None:
    clip = clip_that_knows_its_place()
    twice = flip_left_right(flip_left_right(clip))
    assert torch.equal(twice.frames, clip.frames)
    assert twice.flow is not None
    assert clip.flow is not None
    assert torch.equal(twice.flow, clip.flow)


def test_a_clip_without_flow_stays_without() -> None:
    clip = Clip(noise(2, 8, 9), torch.zeros(2))
    assert flip_left_right(clip).flow is None
    assert center_crop(clip, 4).flow is None


def test_a_mirrored_motion_has_the_flow_that_the_flip_says() -> None:
    """A dot that moves to the right has positive x-flow; in the mirror it moves to the left."""
    frames = torch.zeros(2, 3, 5, 9, dtype=torch.uint8)
    frames[0, :, 2, 3] = frames[1, :, 2, 5] = 255
    flow = torch.zeros(2, 2, 5, 9)
    flow[0, 0, 2, 3] = 2.0
    flipped = flip_left_right(Clip(frames, torch.zeros(2), flow))
    start = int(flipped.frames[0, 0, 2].argmax())
    assert flipped.flow is not None
    assert int(flipped.frames[1, 0, 2].argmax()) == start + int(flipped.flow[0, 0, 2, start])


def test_a_clip_is_resized_before_flow_and_never_after() -> None:
    clip = Clip(noise(2, 12, 16), torch.arange(2) / 25)
    assert torch.equal(resize_short_side(clip, 6).frames, resize_frames(clip.frames, 6))
    assert resize(clip, 5, 7).frames.shape == (2, 3, 5, 7)
    assert torch.equal(resize_short_side(clip, 6).pts_seconds, clip.pts_seconds)
    with_flow = Clip(clip.frames, clip.pts_seconds, torch.zeros(2, 2, 12, 16))
    for resized in (lambda: resize_short_side(with_flow, 6), lambda: resize(with_flow, 5, 7)):
        with pytest.raises(InvalidInputError, match="resize first, then compute the flow"):
            resized()
