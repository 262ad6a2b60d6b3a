"""Sampling against FFmpeg's ``fps`` filter, and its properties."""

from collections.abc import Sequence
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.errors import InvalidInputError, TooFewFramesError, UnknownNameError
from quovadis.video.sampling import (
    clip_indices,
    even_starts,
    fit_length,
    frame_index_at,
    random_start,
    resample_indices,
    windows,
)


def ffmpeg_fps_filter(stamps: Sequence[int], end: int, time_base: Fraction, fps: Fraction) -> list[int]:
    """Return the index of the frame that FFmpeg's ``fps`` filter outputs at each position; pixels encode the index."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=2, format=av.VideoFormat("gray16le"), time_base=time_base)
    rate, sink = graph.add("fps", fps=str(fps)), graph.add("buffersink")
    source.link_to(rate)
    rate.link_to(sink)
    graph.configure()
    shown: list[int] = []

    def pull() -> None:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts == len(shown)
            shown.append(int(frame.to_ndarray()[0, 0]))

    for number, (stamp, following) in enumerate(zip(stamps, [*stamps[1:], end], strict=True)):
        frame = av.VideoFrame.from_ndarray(np.full((2, 16), number, np.uint16), format="gray16le")
        frame.pts, frame.time_base, frame.duration = stamp, time_base, following - stamp
        graph.push(frame)
        pull()
    graph.push(None)
    pull()
    return shown


def ours(stamps: Sequence[int], end: int, time_base: Fraction, fps: Fraction) -> list[int]:
    seconds = [float(s * time_base) for s in stamps]
    return resample_indices(seconds, float(end * time_base), float(fps)).tolist()


RATES = [Fraction(25), Fraction(30), Fraction(5), Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60)]


@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize("source", [*RATES, Fraction(10), Fraction(50), Fraction(962, 49)], ids=str)
def test_regular_videos_are_sampled_as_by_ffmpeg(source: Fraction, fps: Fraction) -> None:
    time_base = 1 / source
    assert ours(range(40), 40, time_base, fps) == ffmpeg_fps_filter(range(40), 40, time_base, fps)


@pytest.mark.parametrize("fps", RATES, ids=str)
@pytest.mark.parametrize("source", RATES, ids=str)
def test_millisecond_timestamps_are_sampled_as_by_ffmpeg(source: Fraction, fps: Fraction) -> None:
    """Matroska rounds to milliseconds, which must not drop or repeat a frame."""
    stamps = [round(1000 * k / source) for k in range(41)]
    shown = ours(stamps[:-1], stamps[-1], Fraction(1, 1000), fps)
    assert shown == ffmpeg_fps_filter(stamps[:-1], stamps[-1], Fraction(1, 1000), fps)
    if fps == source:
        assert shown == list(range(40))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    gaps=st.lists(st.integers(1, 400), min_size=2, max_size=25),
    time_base=st.sampled_from([Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 600), Fraction(1001, 30000)]),
    fps=st.sampled_from(RATES),
)
def test_variable_frame_rates_are_sampled_as_by_ffmpeg(gaps: list[int], time_base: Fraction, fps: Fraction) -> None:
    if time_base == Fraction(1, 90000):
        gaps = [50 * g for g in gaps]
    if time_base == Fraction(1001, 30000):
        gaps = [1 + g % 5 for g in gaps]
    *stamps, end = [0, *np.cumsum(gaps).tolist()]
    theirs = ffmpeg_fps_filter(stamps, end, time_base, fps)
    # FFmpeg outputs nothing for a video that ends before the middle of the first interval; we return its last frame.
    assert ours(stamps, end, time_base, fps) == (theirs or [len(stamps) - 1])


def test_grid_starts_at_the_first_frame() -> None:
    pts = np.array([0.0, 0.03, 0.1, 0.11, 0.2])
    assert resample_indices(pts + 7.013, 7.413, 25).tolist() == resample_indices(pts, 0.4, 25).tolist()


def test_at_least_one_index_if_there_is_a_frame() -> None:
    assert resample_indices([], 0.0, 25).tolist() == []
    assert resample_indices([3.0], 3.001, 1).tolist() == [0]


def test_frames_are_shown_from_half_an_interval_earlier() -> None:
    assert frame_index_at([0, 0.0199, 0.02, 0.0599, 0.06], 25).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("num_wanted", [1, 5, 9])
@pytest.mark.parametrize("short", ["loop", "pad", "skip", "error"])
def test_fit_length_with_enough_frames(short: str, num_wanted: int) -> None:
    assert fit_length(9, num_wanted, short).tolist() == list(range(num_wanted))  # type: ignore[arg-type]


def test_fit_length_with_too_few_frames() -> None:
    assert fit_length(3, 7, "loop").tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert fit_length(3, 7, "pad").tolist() == [0, 1, 2, 2, 2, 2, 2]
    assert fit_length(3, 7, "skip").tolist() == []
    with pytest.raises(TooFewFramesError, match=r"v.mp4 has 3 frames; this clip needs at least 7"):
        fit_length(3, 7, "error", "v.mp4")


@pytest.mark.parametrize("short", ["loop", "pad", "error"])
def test_fit_length_without_frames(short: str) -> None:
    with pytest.raises(TooFewFramesError):
        fit_length(0, 2, short)  # type: ignore[arg-type]


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'loop'"):
        fit_length(3, 7, "lop")  # type: ignore[arg-type]


def test_clip_indices() -> None:
    assert clip_indices(100, 5, frame_stride=3, start=10).tolist() == [10, 13, 16, 19, 22]
    assert clip_indices(20, 5, frame_stride=3, start=10).tolist() == [10, 13, 16, 19, 2]
    assert clip_indices(20, 5, frame_stride=3, start=10, short="pad").tolist() == [10, 13, 16, 19, 19]
    assert clip_indices(20, 5, frame_stride=3, start=10, short="skip").tolist() == []


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.integers(0, 70))
def test_looping_counts_from_the_start_of_the_video(
    num_video_frames: int, num_frames: int, stride: int, start: int
) -> None:
    indices = clip_indices(num_video_frames, num_frames, frame_stride=stride, start=start)
    assert indices.tolist() == [(start + i * stride) % num_video_frames for i in range(num_frames)]


def test_random_start_reaches_every_position() -> None:
    rng = np.random.default_rng(0)
    assert {random_start(20, 16, rng) for _ in range(200)} == {0, 1, 2, 3, 4}
    assert {random_start(10, 16, rng) for _ in range(20)} == {0}


def test_even_starts() -> None:
    assert even_starts(100, 20, 5).tolist() == [0, 20, 40, 60, 80]
    assert even_starts(101, 20, 1).tolist() == [40]
    assert even_starts(5, 20, 3).tolist() == [0, 0, 0]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 80), st.integers(1, 20), st.integers(1, 20))
def test_windows_are_complete_and_cover_the_video(num_video_frames: int, window: int, stride: int) -> None:
    found = windows(num_video_frames, window, stride)
    assert all(0 <= start < stop <= num_video_frames for start, stop in found)
    assert all(stop - start == min(window, num_video_frames) for start, stop in found)
    assert [start for start, _ in found] == sorted({start for start, _ in found})
    if num_video_frames:
        assert found[0][0] == 0
        assert found[-1][1] == num_video_frames
    if stride <= window:
        assert {t for start, stop in found for t in range(start, stop)} == set(range(num_video_frames))


@pytest.mark.parametrize(("window", "stride"), [(0, 1), (1, 0)])
def test_empty_windows_are_refused(window: int, stride: int) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        windows(10, window, stride)
