"""Clips: validation, immutability, repr."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError, QuovadisError, TooFewFramesError
from quovadis.video.clip import Clip, require_frames


def frames(num_frames: int = 4, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.zeros(num_frames, 3, height, width, dtype=torch.uint8)


def test_size_and_repr() -> None:
    clip = Clip(frames(), torch.arange(4) / 25, flow=torch.zeros(4, 2, 6, 8), source="a.mp4")
    assert (len(clip), clip.height, clip.width) == (4, 6, 8)
    assert repr(clip) == "Clip(T=4, H=6, W=8, 0.000 s to 0.120 s, with flow, a.mp4)"
    assert repr(Clip(frames(0), torch.zeros(0))) == "Clip(T=0, H=6, W=8)"


def test_clip_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Clip(frames(), torch.zeros(4)).frames = frames()  # type: ignore[misc]


def test_times_become_float64() -> None:
    clip = Clip(frames(), [0, 1, 2, 3])  # type: ignore[arg-type]
    assert clip.pts_seconds.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Clip(frames().float(), torch.zeros(4)), InvalidTypeError, "uint8 tensor"),
        (lambda: Clip(frames().numpy(), torch.zeros(4)), InvalidTypeError, "ndarray"),
        (lambda: Clip(frames().permute(0, 2, 3, 1), torch.zeros(4)), InvalidInputError, r"permute\(0, 3, 1, 2\)"),
        (lambda: Clip(frames()[0], torch.zeros(3)), InvalidInputError, r"got \(3, 6, 8\)"),
        (lambda: Clip(frames()[0, 0, 0, 0], torch.zeros(1)), InvalidInputError, r"got \(\)"),
        (lambda: Clip(frames(), torch.zeros(3)), InvalidInputError, "4 frames"),
        (lambda: Clip(frames(), torch.zeros(4), torch.zeros(4, 2, 6, 7)), InvalidInputError, r"\(4, 2, 6, 7\)"),
        (lambda: Clip(frames(), torch.zeros(4), torch.zeros(4, 2, 6, 8).half()), InvalidInputError, "float16"),
    ],
)
def test_invalid_clips_are_refused(make: Callable[[], Clip], error: type[QuovadisError], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_error_for_too_few_frames() -> None:
    require_frames(9, 9, "a.mp4", "i3d")
    with pytest.raises(TooFewFramesError, match=r"a.mp4 has 1 frame; i3d needs at least 9: use short='loop'"):
        require_frames(1, 9, "a.mp4", "i3d")
