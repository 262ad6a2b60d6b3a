"""Crops and flips of frames and flow; resizing of clips."""

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.transforms import center_crop, crop, flip_left_right, random_crop, resize, resize_short_side
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames


def noise(num_frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (num_frames, 3, height, width), dtype=torch.uint8)


def coordinates_clip(height: int = 11, width: int = 14) -> Clip:
    """Return a clip whose pixels and flow vectors contain their own row and column."""
    rows = torch.arange(height).view(1, height, 1).expand(3, height, width)
    columns = torch.arange(width).view(1, 1, width).expand(3, height, width)
    frames = torch.stack([rows[0], columns[0], torch.zeros_like(rows[0])]).to(torch.uint8)
    flow = torch.stack([columns[0], rows[0]]).float()
    return Clip(frames.expand(3, -1, -1, -1), torch.arange(3) / 25, flow.expand(3, -1, -1, -1), source="a.mp4")


def test_crop_takes_the_same_rectangle_of_frames_and_flow() -> None:
    part = crop(coordinates_clip(), 2, 5, 4, 6)
    assert (part.height, part.width) == (4, 6)
    assert part.frames[1, 0, :, 0].tolist() == [2, 3, 4, 5]
    assert part.frames[1, 1, 0].tolist() == [5, 6, 7, 8, 9, 10]
    assert part.flow is not None
    assert torch.equal(part.flow[:, 0], part.frames[:, 1].float())
    assert torch.equal(part.flow[:, 1], part.frames[:, 0].float())
    assert part.source == "a.mp4"
    assert torch.equal(part.pts_seconds, coordinates_clip().pts_seconds)


def test_center_crop_is_centered() -> None:
    part = center_crop(coordinates_clip(11, 14), 5)
    assert part.frames[0, 0, :, 0].tolist() == [3, 4, 5, 6, 7]
    assert part.frames[0, 1, 0].tolist() == [4, 5, 6, 7, 8]


def test_random_crops_are_uniform_in_time_and_reach_every_position() -> None:
    clip, rng = coordinates_clip(5, 7), np.random.default_rng(0)
    corners = set()
    for _ in range(300):
        part = random_crop(clip, 4, rng)
        assert (part.height, part.width) == (4, 4)
        assert torch.equal(part.frames, part.frames[:1].expand_as(part.frames))
        assert part.flow is not None
        assert torch.equal(part.flow[:, 0], part.frames[:, 1].float())
        corners.add((int(part.frames[0, 0, 0, 0]), int(part.frames[0, 1, 0, 0])))
    assert corners == {(top, left) for top in range(2) for left in range(4)}


def test_random_crop_is_reproducible() -> None:
    clip = coordinates_clip()
    first, second = (random_crop(clip, 6, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first.frames, second.frames)


@pytest.mark.parametrize("rectangle", [(-1, 0, 4, 4), (0, -1, 4, 4), (8, 0, 4, 4), (0, 11, 4, 4)])
def test_crop_outside_of_the_clip_is_refused(rectangle: tuple[int, int, int, int]) -> None:
    with pytest.raises(InvalidInputError, match="is outside of the frame of 11x14; resize first"):
        crop(coordinates_clip(), *rectangle)


def test_crop_larger_than_the_clip_or_empty_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="is outside of the frame"):
        center_crop(coordinates_clip(), 12)
    with pytest.raises(InvalidInputError, match="is outside of the frame"):
        random_crop(coordinates_clip(), 12, np.random.default_rng(0))
    with pytest.raises(InvalidInputError, match="at least one pixel"):
        crop(coordinates_clip(), 0, 0, 0, 4)


def test_flip_mirrors_frames_and_negates_horizontal_flow() -> None:
    clip = coordinates_clip()
    flipped = flip_left_right(clip)
    assert flipped.flow is not None
    assert clip.flow is not None
    for x in range(clip.width):
        mirrored = clip.width - 1 - x
        assert torch.equal(flipped.frames[..., x], clip.frames[..., mirrored])
        assert torch.equal(flipped.flow[:, 0, :, x], -clip.flow[:, 0, :, mirrored])
        assert torch.equal(flipped.flow[:, 1, :, x], clip.flow[:, 1, :, mirrored])


def test_two_flips_cancel() -> None:
    clip = coordinates_clip()
    twice = flip_left_right(flip_left_right(clip))
    assert torch.equal(twice.frames, clip.frames)
    assert twice.flow is not None
    assert clip.flow is not None
    assert torch.equal(twice.flow, clip.flow)


def test_clip_without_flow_has_none_after_transforms() -> None:
    clip = Clip(noise(2, 8, 9), torch.zeros(2))
    assert flip_left_right(clip).flow is None
    assert center_crop(clip, 4).flow is None


def test_flipped_flow_describes_the_flipped_motion() -> None:
    """A dot that moves right has positive horizontal flow; after mirroring it moves left."""
    frames = torch.zeros(2, 3, 5, 9, dtype=torch.uint8)
    frames[0, :, 2, 3] = frames[1, :, 2, 5] = 255
    flow = torch.zeros(2, 2, 5, 9)
    flow[0, 0, 2, 3] = 2.0
    flipped = flip_left_right(Clip(frames, torch.zeros(2), flow))
    start = int(flipped.frames[0, 0, 2].argmax())
    assert flipped.flow is not None
    assert int(flipped.frames[1, 0, 2].argmax()) == start + int(flipped.flow[0, 0, 2, start])


def test_resize_needs_a_clip_without_flow() -> None:
    clip = Clip(noise(2, 12, 16), torch.arange(2) / 25)
    assert torch.equal(resize_short_side(clip, 6).frames, resize_frames(clip.frames, 6))
    assert resize(clip, 5, 7).frames.shape == (2, 3, 5, 7)
    assert torch.equal(resize_short_side(clip, 6).pts_seconds, clip.pts_seconds)
    with_flow = Clip(clip.frames, clip.pts_seconds, torch.zeros(2, 2, 12, 16))
    for resized in (lambda: resize_short_side(with_flow, 6), lambda: resize(with_flow, 5, 7)):
        with pytest.raises(InvalidInputError, match="resize first, then compute the flow"):
            resized()
