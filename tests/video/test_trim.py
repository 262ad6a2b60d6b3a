"""Trimming to the frame, with videos whose frames encode their index."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quovadis.errors import StorageError, TooFewFramesError, VideoDamagedError, VideoError
from quovadis.video.read import probe, read_clip
from quovadis.video.trim import trim_video
from quovadis.video.writer import write_video


def numbered(count: int, height: int = 48, width: int = 64) -> torch.Tensor:
    """uint8 (T, 3, H, W) with the frame index as eight bright or dark blocks, which survive encoding."""
    frames = torch.zeros(count, 3, height, width, dtype=torch.uint8)
    for number in range(count):
        for bit in range(8):
            if number >> bit & 1:
                frames[number, :, :, bit * 8 : bit * 8 + 8] = 220
    return frames


def numbers(path: Path) -> list[int]:
    frames = read_clip(path, fps=None).frames.float().mean((1, 2))
    return [int(sum((frame[bit * 8 + 4] > 110) << bit for bit in range(8))) for frame in frames]


def times(path: Path) -> np.ndarray:
    return read_clip(path, fps=None).pts_seconds.numpy()


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), Fraction(30000, 1001), Fraction(24000, 1001)])
@pytest.mark.parametrize(("start", "end"), [(0, 2), (1, 3), (2.5, 2.75), (0.99, 1.01), (1.1, 100)])
def test_trim_is_accurate_to_the_frame(tmp_path: Path, rate: Fraction, start: float, end: float) -> None:
    source = write_video(tmp_path / "source.mp4", numbered(80), fps=rate, options={"g": "250"})
    expected = [n for n in range(80) if start - 1e-9 <= n / rate < end - 1e-9]
    if not expected:
        with pytest.raises(TooFewFramesError, match="shows no frame from"):
            trim_video(source, tmp_path / "cut.mp4", start, end)
        assert not (tmp_path / "cut.mp4").exists()
        return
    seconds = trim_video(source, tmp_path / "cut.mp4", start, end)
    assert numbers(tmp_path / "cut.mp4") == expected
    np.testing.assert_allclose(times(tmp_path / "cut.mp4"), np.arange(len(expected)) / float(rate), atol=1e-4)
    # What was shown: from the first frame to the end asked for, or to the end of the last frame.
    assert seconds == pytest.approx(float(min(end, (expected[-1] + 1) / rate) - expected[0] / rate), abs=1e-3)
    assert probe(tmp_path / "cut.mp4").fps == pytest.approx(float(rate), rel=1e-6)


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stamps = np.concatenate([[0], rng.integers(10, 120, 59).cumsum()]) / 1000
    source = write_video(tmp_path / "source.mp4", numbered(60), pts_seconds=stamps.tolist())
    trim_video(source, tmp_path / "cut.mp4", 1.0, 2.5)
    expected = [n for n, seconds in enumerate(stamps) if 1.0 <= seconds < 2.5]
    assert numbers(tmp_path / "cut.mp4") == expected
    np.testing.assert_allclose(times(tmp_path / "cut.mp4"), stamps[expected] - stamps[expected[0]], atol=2e-3)


def test_constant_rate_segment_of_a_variable_rate_video(tmp_path: Path) -> None:
    stamps = [n / 10 for n in range(20)] + [2 + n / 30 for n in range(60)]  # slow, then fast: 20 a second on average
    source = write_video(tmp_path / "source.mp4", numbered(80), pts_seconds=stamps)
    assert 15 < probe(source).fps < 25
    trim_video(source, tmp_path / "cut.mp4", 2, 4)
    assert numbers(tmp_path / "cut.mp4") == list(range(20, 80))
    assert times(tmp_path / "cut.mp4")[-1] == pytest.approx(59 / 30, abs=0.02)


def test_segment_far_from_a_key_frame(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", numbered(200), fps=25, options={"g": "1000", "sc_threshold": "0"})
    trim_video(source, tmp_path / "cut.mp4", 7, 8)
    assert numbers(tmp_path / "cut.mp4") == list(range(175, 200))


@pytest.mark.parametrize("odd", [(47, 65), (48, 64)])
def test_size_and_rotation_are_kept(tmp_path: Path, odd: tuple[int, int]) -> None:
    made: dict[str, Any] = {"codec": "libx264rgb", "pixel_format": "rgb24", "rotation_degrees": 90}
    source = write_video(tmp_path / "source.mkv", numbered(30, *odd), **made)
    trim_video(source, tmp_path / "cut.mp4", 0, 1)
    info = probe(tmp_path / "cut.mp4")
    assert (info.width, info.height) == (odd[0] - odd[0] % 2, odd[1] - odd[1] % 2)  # upright now; H.264 has even sides


def test_trim_errors(tmp_path: Path) -> None:
    source = write_video(tmp_path / "source.mp4", numbered(50), fps=25)
    with pytest.raises(TooFewFramesError, match="shows no frame from 2 s to 12 s"):
        trim_video(source, tmp_path / "cut.mp4", 2, 12)
    whole = write_video(tmp_path / "whole.mkv", torch.randint(0, 255, (50, 3, 48, 64), dtype=torch.uint8), fps=25)
    data = whole.read_bytes()
    (tmp_path / "half.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(VideoDamagedError):
        trim_video(tmp_path / "half.mkv", tmp_path / "cut.mp4", 0, 12)
    (tmp_path / "text.mp4").write_text("not found")
    with pytest.raises(VideoError):
        trim_video(tmp_path / "text.mp4", tmp_path / "cut.mp4", 0, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        trim_video(source, tmp_path / "file" / "cut.mp4", 0, 1)
    assert not (tmp_path / "cut.mp4").exists()
