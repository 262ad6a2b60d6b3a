"""VideoReader and read_clip: exact pixels, times and random access in every container; error messages."""

from __future__ import annotations

import csv
import gc
import hashlib
import os
import subprocess
import sys
import weakref
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import quovadis
from quovadis.errors import (
    InvalidInputError,
    QuovadisError,
    TooFewFramesError,
    UnknownNameError,
    VideoDamagedError,
    VideoError,
    VideoNotFoundError,
)
from quovadis.video import reader as reader_module
from quovadis.video.read import probe, read_clip
from quovadis.video.reader import VideoFrame, VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import resample_indices
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import SHARED, moving_square

# --- files of many kinds ---------------------------------------------------------------------------------------------

NUM_FRAMES = 60
VARIABLE = (np.cumsum(np.random.default_rng(0).integers(1, 200, NUM_FRAMES)) / 1000).tolist()
OPEN_GOP = "open-gop=1:bframes=3:keyint=12:min-keyint=6:scenecut=0"


def x264(**options: str) -> dict[str, Any]:
    return {"codec": "libx264", "options": {"preset": "veryfast", **options}}


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "H.264 with B-frames, one long group": ("mp4", x264(g="250", bf="3")),
    "H.264 with B-frames, short groups": ("mp4", x264(g="12", bf="2")),
    "H.264 with open groups, mp4": ("mp4", x264(**{"x264-params": OPEN_GOP})),
    "H.264 with open groups, mkv": ("mkv", x264(**{"x264-params": OPEN_GOP})),
    "H.264 with open groups, transport stream": ("ts", x264(**{"x264-params": OPEN_GOP})),
    "H.264 in avi": ("avi", x264(g="12", bf="3")),
    "H.264 in flv": ("flv", x264(g="12", bf="2")),
    "H.264 without container": ("h264", x264(g="12", bf="2")),
    "H.264, mov that starts at 3 s": ("mov", {**x264(g="12", bf="2"), "pts_seconds": [3 + k / 25 for k in range(60)]}),
    "H.264, mkv that starts at 3 s": ("mkv", {**x264(g="12", bf="2"), "pts_seconds": [3 + k / 25 for k in range(60)]}),
    "H.264, variable rate, mp4": ("mp4", {**x264(g="12", bf="2"), "pts_seconds": VARIABLE}),
    "H.264, variable rate, mkv": ("mkv", {**x264(g="12", bf="2"), "pts_seconds": VARIABLE}),
    "MPEG-4 with B-frames in avi": ("avi", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
    "MPEG-4 in mp4": ("mp4", {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}),
    "MPEG-2, program stream": ("mpg", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "VP9 in webm": ("webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "20"}}),
    "gif": ("gif", {"codec": "gif", "pixel_format": "rgb8"}),
    "FFV1": ("mkv", {"codec": "ffv1", "pixel_format": "bgr0"}),
}
kinds = pytest.mark.parametrize("kind", list(KINDS))

Shown = list[tuple[float, str]]


def digest(frame: VideoFrame) -> str:
    return hashlib.sha256(frame.pixels.contiguous().numpy()).hexdigest()[:16]


def shown(frames: Any) -> Shown:
    return [(f.pts_seconds, digest(f)) for f in frames]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A file of a kind, written once, whose frames all differ."""
    folder = tmp_path_factory.mktemp("kinds")

    def path_of(kind: str) -> Path:
        ending, options = KINDS[kind]
        path = folder / f"{list(KINDS).index(kind)}.{ending}"
        return path if path.exists() else write_video(path, moving_square(NUM_FRAMES), **options)

    return path_of


def check_jumps(path: Path, num_starts: int, stop: int | None = None) -> None:
    """Compare random access with sequential reading, for up to ``stop`` frames."""
    with VideoReader(path) as reader:
        every = shown(reader.frames())
        assert reader.damage == ""
        digests = dict(every)
        resampled = [(k, f.pts_seconds, digests[f.pts_seconds]) for k, f in reader.resampled_frames(25)]
    times = np.array([t for t, _ in every])
    assert (np.diff(times) > 0).all()
    rng = np.random.default_rng(1)
    starts = [
        *times[rng.integers(0, len(times), num_starts)],  # exactly at a frame
        *rng.uniform(times[0] - 0.1, times[-1] + 0.1, num_starts),  # between
        times[-1],
        times[-1] + 1,
        times[1],
    ]
    with VideoReader(path) as reader:
        for start in starts:
            assert shown(islice(reader.frames(start), stop)) == [f for f in every if f[0] >= start - 1e-9][:stop], start
            assert reader.damage == "", start
        for index in [
            *rng.integers(0, len(resampled), num_starts),
            len(resampled) - 1,
            len(resampled),
            len(resampled) + 30,
        ]:
            found = [(k, f.pts_seconds, digest(f)) for k, f in islice(reader.resampled_frames(25, int(index)), stop)]
            assert found == resampled[index:][:stop], index
    # read_clip starts at the frame index nearest to the start.
    start = float(rng.uniform(times[0], times[len(times) // 2]))
    first = round((start - times[0]) * 25)
    clip = read_clip(path, start_seconds=start, num_frames=5)
    assert clip.pts_seconds.tolist() == [t for _, t, _ in resampled[first : first + 5]]
    assert [hashlib.sha256(f.contiguous().numpy()).hexdigest()[:16] for f in clip.frames] == [
        d for *_, d in resampled[first : first + 5]
    ]


@kinds
def test_random_access_yields_the_frames_of_sequential_reading(kind: str, written: Callable[[str], Path]) -> None:
    check_jumps(written(kind), 5)


def test_random_access_with_intra_refresh_yields_complete_frames(tmp_path: Path) -> None:
    """The key frames of the file only start a refresh, column by column."""
    options = {"preset": "fast", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    path = write_video(tmp_path / "a.mp4", moving_square(100), options=options)
    with VideoReader(path) as reader:
        every = shown(reader.frames())
        for start in range(58, 100, 3):
            assert shown(reader.frames(start / 25)) == every[start:]


def test_random_access_in_a_slow_video_starts_with_the_frame_on_screen(tmp_path: Path) -> None:
    """The frame on screen may have started many frame intervals earlier."""
    path = write_video(tmp_path / "slow.mkv", moving_square(6), pts_seconds=[0, 0.04, 3, 3.04, 15, 15.5])
    with VideoReader(path) as reader:
        resampled = [(k, f.pts_seconds) for k, f in reader.resampled_frames(10)]
        for start in range(0, len(resampled) + 2, 3):
            assert [(k, f.pts_seconds) for k, f in reader.resampled_frames(10, start)] == resampled[start:]
        for start in (29, 30, 31, 149, 150, 151):
            assert [(k, f.pts_seconds) for k, f in reader.resampled_frames(10, start)] == resampled[start:]


@kinds
def test_every_frame_is_read_once_and_in_order(kind: str, written: Callable[[str], Path]) -> None:
    _, options = KINDS[kind]
    with VideoReader(written(kind)) as reader:
        frames = list(reader.frames())
    expected = np.array(options.get("pts_seconds", np.arange(NUM_FRAMES) / 25))
    times = np.array([f.pts_seconds for f in frames])
    assert len(frames) == NUM_FRAMES
    # Where a container stores no start (avi, flv, streams), the clock may begin with the decoder's delay.
    assert np.allclose(times - times[0], expected - expected[0], atol=5e-4)
    if "pts_seconds" in options:
        assert np.allclose(times, expected, atol=5e-4)
    lefts = [int(f.pixels[1, 12].float().topk(10).indices.min()) for f in frames]
    assert np.abs(np.array(lefts) - np.arange(NUM_FRAMES) % 54).max() <= 2, "the square moves a pixel a frame"


@kinds
def test_resampled_frames_follow_the_sampling_rule(kind: str, written: Callable[[str], Path]) -> None:
    path = written(kind)
    with VideoReader(path) as reader:
        frames = [(f.pts_seconds, f.end_seconds) for f in reader.frames()]
        times = [t for t, _ in frames]
        for fps in (25.0, 10.0, 30000 / 1001, 60.0):
            resampled = [(k, f.pts_seconds) for k, f in reader.resampled_frames(fps)]
            chosen = resample_indices(times, frames[-1][1], fps, start_seconds=reader.start_seconds)
            assert resampled == [(k, times[i]) for k, i in enumerate(chosen)]


@kinds
def test_pixels_equal_pyav(kind: str, written: Callable[[str], Path]) -> None:
    with av.open(str(written(kind))) as container:
        expected = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    clip = read_clip(written(kind), fps=None)
    assert clip.frames.dtype == torch.uint8
    assert np.array_equal(clip.frames.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_lossless_video_has_the_written_pixels(clip_path: Path) -> None:
    clip = read_clip(clip_path)
    assert torch.equal(clip.frames, moving_square())
    assert clip.pts_seconds.tolist() == [k / 25 for k in range(30)]
    assert clip.source == str(clip_path)


@pytest.mark.parametrize("num_threads", [0, 1, 2])
def test_result_does_not_depend_on_the_number_of_threads(num_threads: int, written: Callable[[str], Path]) -> None:
    path = written("H.264 with B-frames, short groups")
    assert torch.equal(read_clip(path, num_threads=num_threads).frames, read_clip(path).frames)


def test_long_last_frame_is_not_damage(tmp_path: Path) -> None:
    """Many animated images end like this."""
    path = tmp_path / "a.gif"
    write_video(path, moving_square(10), codec="gif", pixel_format="rgb8", fps=10)
    content = bytearray(path.read_bytes())
    last = content.rindex(b"\x21\xf9\x04")  # the control block of the last frame: its delay is in 1/100 s
    content[last + 4 : last + 6] = (300).to_bytes(2, "little")
    path.write_bytes(content)
    clip = read_clip(path, fps=10)
    assert len(clip) == 9 + 30
    assert torch.equal(clip.frames[-1], clip.frames[9])


# --- one reader, several iterations ----------------------------------------------------------------------------------


def test_info_does_not_interrupt_an_iteration(clip_path: Path) -> None:
    with VideoReader(clip_path) as reader:
        times = []
        for frame in reader.frames():
            times.append(frame.pts_seconds)
            assert reader.info.width == 64
            assert reader.first_pts_seconds == 0.0
    assert len(times) == 30


def test_reader_can_iterate_repeatedly(clip_path: Path) -> None:
    with VideoReader(clip_path) as reader:
        first = shown(reader.frames())
        next(reader.frames(0.5))
        assert shown(reader.frames()) == first
        assert shown(reader.frames()) == first


@pytest.mark.parametrize("second", [None, 0.5])
def test_second_iteration_makes_the_first_raise(clip_path: Path, second: float | None) -> None:
    with VideoReader(clip_path) as reader:
        first = reader.frames()
        next(first)
        next(first)
        next(reader.frames(second))
        with pytest.raises(InvalidInputError, match="open a second VideoReader"):
            next(first)


def test_closed_reader_raises(clip_path: Path) -> None:
    with VideoReader(clip_path) as reader:
        frames = reader.frames()
        next(frames)
    with pytest.raises(InvalidInputError, match="closed"):
        next(frames)
    with pytest.raises(InvalidInputError, match="closed"):
        next(reader.frames())


def test_memory_use_is_a_few_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "long.mp4", moving_square(200), options={"g": "50", "preset": "ultrafast"})
    alive: weakref.WeakSet[VideoFrame] = weakref.WeakSet()
    original = VideoFrame.__init__

    def counted(self: VideoFrame, *args: Any) -> None:
        original(self, *args)
        alive.add(self)

    monkeypatch.setattr(reader_module.VideoFrame, "__init__", counted)
    most = seen = 0
    with VideoReader(path) as reader:
        for frame in reader.frames():
            seen += frame.pixels.shape[0] // 3
            most = max(most, len(alive))
        for _, frame in reader.resampled_frames(60):
            seen += frame.pixels.shape[0] // 3
            most = max(most, len(alive))
        for _, frame in reader.resampled_frames(25, 150):
            seen += frame.pixels.shape[0] // 3
            most = max(most, len(alive))
    del frame, reader
    gc.collect()
    assert seen == 200 + 480 + 50
    assert most <= 6  # the first of the file, the one in hand, the one that follows
    assert len(alive) == 0


# --- read_clip -------------------------------------------------------------------------------------------------------


def test_segment_is_selected_by_time(clip_path: Path) -> None:
    clip = read_clip(clip_path, start_seconds=0.2, stop_seconds=0.4)
    assert clip.pts_seconds.tolist() == pytest.approx([0.2, 0.24, 0.28, 0.32, 0.36])
    assert torch.equal(clip.frames, moving_square()[5:10])
    same = read_clip(clip_path, fps=None, start_seconds=0.2, stop_seconds=0.4)
    assert torch.equal(same.frames, clip.frames)


@pytest.mark.parametrize("cuts", [[0.5], [0.3, 0.61, 1.0], [0.02, 0.06, 1.9]])
def test_adjacent_segments_form_the_whole_video(tmp_path: Path, cuts: list[float]) -> None:
    """Also for a slow video, whose frames are repeated many times."""
    path = write_video(tmp_path / "slow.mp4", moving_square(5), fps=2, **LOSSLESS)
    whole = read_clip(path)
    edges = [None, *cuts, None]
    parts = [read_clip(path, start_seconds=a, stop_seconds=b) for a, b in pairwise(edges)]
    assert len(whole) == 63
    assert torch.equal(torch.cat([p.frames for p in parts]), whole.frames)
    assert len(parts[0]) == int(cuts[0] * 25 + 0.5)


def test_frame_stride(clip_path: Path) -> None:
    clip = read_clip(clip_path, frame_stride=7)
    assert torch.equal(clip.frames, moving_square()[::7])
    assert len(read_clip(clip_path, frame_stride=7, num_frames=2)) == 2


def test_resampling_by_time(clip_path: Path) -> None:
    assert torch.equal(read_clip(clip_path, fps=5).frames, moving_square()[2::5])
    doubled = read_clip(clip_path, fps=50)
    assert torch.equal(doubled.frames[0::2], moving_square())
    assert torch.equal(doubled.frames[1::2], moving_square())


@pytest.mark.parametrize(("short", "last"), [("loop", 4), ("pad", 29)])
def test_short_clip_is_filled(clip_path: Path, short: Any, last: int) -> None:
    clip = read_clip(clip_path, num_frames=35, short=short)
    assert len(clip) == 35
    assert torch.equal(clip.frames[-1], moving_square()[last])
    assert clip.pts_seconds[-1] == last / 25


def test_short_clip_is_skipped_or_refused(clip_path: Path) -> None:
    assert read_clip(clip_path, num_frames=31, short="skip") is None
    assert read_clip(clip_path, start_seconds=9, short="skip") is None
    with pytest.raises(TooFewFramesError, match=r"square.mp4 has 30 frames; this clip needs at least 31"):
        read_clip(clip_path, num_frames=31)


def test_error_for_segment_without_frames(clip_path: Path) -> None:
    with pytest.raises(TooFewFramesError, match=r"square.mp4 shows no frame from 9 s to its end"):
        read_clip(clip_path, start_seconds=9, num_frames=4, short="loop")
    with pytest.raises(TooFewFramesError, match=r"shows no frame from 0.8 s to 0.4 s"):
        read_clip(clip_path, start_seconds=0.8, stop_seconds=0.4)


WRONG: list[tuple[dict[str, Any], type[QuovadisError], str]] = [
    ({"fps": 0}, InvalidInputError, "fps must be above 0; got 0"),
    ({"fps": -1.0, "start_seconds": 0.5}, InvalidInputError, "fps must be above 0"),
    ({"fps": float("nan")}, InvalidInputError, "fps must be above 0"),
    ({"fps": float("inf")}, InvalidInputError, "fps must be above 0"),
    ({"num_frames": 0}, InvalidInputError, "at least 1; got 0 and 1"),
    ({"frame_stride": 0}, InvalidInputError, "at least 1; got None and 0"),
    ({"start_seconds": float("nan")}, InvalidInputError, "must be finite"),
    ({"stop_seconds": float("inf")}, InvalidInputError, "must be finite"),
    ({"short": "lop"}, UnknownNameError, "did you mean 'loop'"),
    ({"damaged": "kep"}, UnknownNameError, "did you mean 'keep'"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG, ids=[str(o) for o, *_ in WRONG])
def test_invalid_arguments_are_refused(
    clip_path: Path, options: dict[str, Any], error: type[QuovadisError], words: str
) -> None:
    with pytest.raises(error, match=words):
        read_clip(clip_path, **options)


def test_transform_is_called_once_per_frame(clip_path: Path) -> None:
    seen: list[tuple[int, ...]] = []

    def half(frame: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(frame.shape))
        return resize_frames(frame, 24)

    clip = read_clip(clip_path, fps=50, transform=half)
    assert (len(clip), clip.height, clip.width) == (60, 24, 32)
    assert seen == [(1, 3, 48, 64)] * 30
    assert torch.equal(clip.frames[::2], resize_frames(moving_square(), 24))


@pytest.mark.slow
def test_4k_frames_are_resized_one_at_a_time(tmp_path: Path) -> None:
    frames = moving_square(2, 2160, 3840)
    path = write_video(tmp_path / "4k.mp4", frames, options={"preset": "ultrafast", "g": "1"})
    assert (probe(path).width, probe(path).height) == (3840, 2160)
    sizes: list[int] = []

    def small(frame: torch.Tensor) -> torch.Tensor:
        sizes.append(frame.numel())
        return resize_frames(frame, 256)

    clip = read_clip(path, transform=small)
    assert clip.frames.shape == (2, 3, 256, 455)
    assert sizes == [3 * 2160 * 3840] * 2


# --- properties of files ---------------------------------------------------------------------------------------------


def test_info(clip_path: Path) -> None:
    info = quovadis.probe(clip_path)
    assert (info.path, info.width, info.height, info.fps) == (clip_path, 64, 48, 25.0)
    assert (info.num_frames, info.counted, info.duration_seconds) == (30, False, pytest.approx(1.2))
    assert (info.codec, info.rotation_degrees, info.has_audio) == ("h264", 0, False)
    assert info.variable_frame_rate is None


def test_counting_finds_frames_and_rate_that_the_header_lacks(written: Callable[[str], Path]) -> None:
    path = written("H.264, variable rate, mkv")
    assert probe(path).num_frames == NUM_FRAMES
    info = probe(path, count=True)
    assert (info.num_frames, info.counted, info.variable_frame_rate) == (NUM_FRAMES, True, True)
    assert info.fps == pytest.approx((NUM_FRAMES - 1) / (VARIABLE[-1] - VARIABLE[0]), rel=1e-3)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270, -90])
def test_frames_are_upright(tmp_path: Path, degrees: int) -> None:
    """Clockwise, by the display matrix, as in ``ffmpeg``."""
    stored = torch.zeros(3, 3, 32, 64, dtype=torch.uint8)
    stored[:, 0, :8, :16] = 255  # red in the upper left corner
    path = write_video(tmp_path / "a.mp4", stored, rotation_degrees=degrees, **LOSSLESS)
    clip = read_clip(path)
    red = clip.frames[0, 0] == 255
    corner = {
        0: red[:8, :16],  # upper left
        90: red[:16, -8:],  # upper right
        180: red[-8:, -16:],  # lower right
        270: red[-16:, :8],  # lower left
    }[degrees % 360]
    assert corner.all()
    assert red.sum() == 8 * 16
    info = probe(path)
    assert info.rotation_degrees == degrees % 360
    assert (info.height, info.width) == tuple(clip.frames.shape[2:])
    assert torch.equal(read_clip(path, start_seconds=0.08).frames, clip.frames[2:])


def test_display_matrix_is_a_clockwise_rotation(tmp_path: Path) -> None:
    """FFmpeg counts angles of display matrices counterclockwise: -90 is a quarter turn clockwise."""
    path = write_video(tmp_path / "a.mp4", moving_square(2), rotation_degrees=90, **LOSSLESS)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == -90


def add_stream_of_sound(container: av.container.OutputContainer, codec: str) -> av.AudioStream:
    stream = container.add_stream(codec, rate=16000)
    assert isinstance(stream, av.AudioStream)
    stream.layout = "mono"
    return stream


def write_sound(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = (1000 * np.sin(np.arange(int(16000 * seconds)) / 5)).astype(np.int16)
    for start in range(0, len(samples), 800):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 800], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("sound_seconds", [0.5, 3.0])
def test_audio_of_another_length_is_ignored(tmp_path: Path, ending: str, sound_seconds: float) -> None:
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = add_stream_of_sound(container, "aac" if ending == "mp4" else "mp2")
        for number, pixels in enumerate(moving_square(20)):
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        write_sound(container, sound, sound_seconds)
    assert probe(path).has_audio
    assert len(read_clip(path)) == 20
    assert len(read_clip(path, start_seconds=0.6, num_frames=3)) == 3


# --- errors ----------------------------------------------------------------------------------------------------------


def test_error_for_missing_file(tmp_path: Path, clip_path: Path) -> None:
    for path in (tmp_path / "none.mp4", clip_path / "below.mp4"):
        with pytest.raises(VideoNotFoundError, match="no file at") as caught:
            read_clip(path)
        assert isinstance(caught.value, FileNotFoundError)


def test_error_for_folder(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="is a folder"):
        probe(tmp_path)


def test_error_for_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(VideoError, match=r"is empty \(0 bytes\)"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"this is no video\n" * 99, b"\0" * 5000, bytes(range(256)) * 20])
def test_error_for_other_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"a.mp4 is not a video that FFmpeg can open: .+"):
        probe(tmp_path / "a.mp4")


def test_error_for_invalid_file_name(tmp_path: Path) -> None:
    for name in ("a" * 300, "a\0b"):
        with pytest.raises(VideoError, match="cannot be opened"):
            probe(tmp_path / name)


def test_error_for_pipe(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="is not a regular file"):
        probe(tmp_path / "pipe.mp4")


def test_error_for_missing_permission(clip_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip_path.read_bytes())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(VideoError, match="Permission denied"):
        probe(path)


@pytest.mark.parametrize(("ending", "codec"), [("m4a", "aac"), ("wav", "pcm_s16le"), ("mp4", "aac"), ("mkv", "aac")])
def test_error_for_audio_only(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        write_sound(container, add_stream_of_sound(container, codec), 1.0)
    with pytest.raises(VideoError, match=r"has no video stream; it contains audio"):
        read_clip(path)


@pytest.mark.parametrize("ending", ["mkv", "avi", "mp4"])
def test_error_for_stream_without_frames(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    for read in (probe, read_clip):
        with pytest.raises(VideoError, match=r"none of its frames can be decoded|is not a video|no video stream"):
            read(path)


def test_video_of_one_frame(tmp_path: Path) -> None:
    for ending in ("mp4", "mkv", "gif"):
        options = {"codec": "gif", "pixel_format": "rgb8"} if ending == "gif" else LOSSLESS
        path = write_video(tmp_path / f"one.{ending}", moving_square(1), **options)  # type: ignore[arg-type]
        assert len(read_clip(path, fps=None)) == 1
        assert len(read_clip(path, num_frames=9, short="loop")) == 9
        assert probe(path, count=True).variable_frame_rate is False


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_truncated_file_is_refused_or_read_in_part(tmp_path: Path, ending: str, fraction: float) -> None:
    codec = "mpeg4" if ending == "avi" else "libx264"
    noise = torch.randint(0, 256, (50, 3, 48, 64), dtype=torch.uint8)  # frames of about equal size in bytes
    options = {"g": "10", **({"qmin": "4", "qmax": "4"} if ending == "avi" else {})}
    path = write_video(tmp_path / f"a.{ending}", noise, codec=codec, options=options)
    if ending == "mp4":
        path = with_header_first(path)
    whole = read_clip(path)
    path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
    with pytest.raises(VideoDamagedError, match=rf"a.{ending} is damaged: .*(broken|ends at)"):
        read_clip(path)
    kept = read_clip(path, damaged="keep")
    assert abs(len(kept) - fraction * 50) <= 6
    assert torch.equal(kept.frames[:10], whole.frames[:10])
    # Frames before the truncation are intact.
    assert torch.equal(read_clip(path, num_frames=10).frames, whole.frames[:10])
    assert torch.equal(read_clip(path, start_seconds=0.2, num_frames=5).frames, whole.frames[5:10])


def with_header_first(path: Path) -> Path:
    """The same MP4 file with its header at the front."""
    moved = path.with_name("front_" + path.name)
    with (
        av.open(str(path)) as source,
        av.open(str(moved), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    os.replace(moved, path)
    return path


def test_error_for_mp4_without_header(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="is not a video that FFmpeg can open"):
        read_clip(path)


@pytest.mark.parametrize(
    ("ending", "codec", "pixel_format"), [("mp4", "libx264", "yuv420p"), ("mkv", "mjpeg", "yuvj420p")]
)
def test_broken_middle_is_detected(tmp_path: Path, ending: str, codec: str, pixel_format: str) -> None:
    noise = torch.randint(0, 256, (40, 3, 48, 64), dtype=torch.uint8)
    path = write_video(tmp_path / f"a.{ending}", noise, codec=codec, pixel_format=pixel_format, options={"g": "10"})
    content = bytearray(path.read_bytes())
    middle, length = len(content) // 2, len(content) // 20
    content[middle : middle + length] = bytes(length)
    path.write_bytes(content)
    assert len(read_clip(path, num_frames=10)) == 10
    with pytest.raises(VideoDamagedError, match=r"is damaged: \d+ broken packets or frames"):
        read_clip(path, num_frames=30)


def test_frames_of_changing_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / f"{n}.h264", moving_square(10, h, w), options={"preset": "ultrafast", "bf": "0"})
        for n, (h, w) in enumerate([(48, 64), (32, 48)])
    ]
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    with VideoReader(path) as reader:
        clip = reader.read(fps=None)
        assert reader.notes == ("the frame size changes from 64x48 to 48x32; all scaled to the first",)
    assert clip is not None
    assert clip.frames.shape == (20, 3, 48, 64)
    assert torch.equal(clip.frames[:10], read_clip(parts[0], fps=None).frames)
    scaled = torch.nn.functional.interpolate(read_clip(parts[1], fps=None).frames.float(), (48, 64), mode="bilinear")
    assert (clip.frames[10:].float() - scaled).abs().mean() < 8


def test_jump_of_timestamps_is_damage(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.08, 90_000.0]
    path = write_video(tmp_path / "a.mkv", moving_square(4), pts_seconds=times)
    with pytest.raises(VideoDamagedError, match=r"timestamps jump from 0.1 s to 90000.0 s"):
        read_clip(path)
    assert len(read_clip(path, fps=None)) == 4
    assert len(read_clip(path, num_frames=2)) == 2


FUZZ = """
import sys
import numpy as np
from pathlib import Path
import av
from quovadis.errors import QuovadisError
from quovadis.video.read import probe, read_clip

av.logging.set_level(None)
source, header, seed = Path(sys.argv[1]), sys.argv[2], 0
content, rng, target = source.read_bytes(), np.random.default_rng(seed), source.with_stem("fuzzed")
read = refused = 0
for _ in range(200):
    mutated = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        near = 0 if header == "front" else len(mutated) - 2000
        where = near + int(rng.integers(2000)) if rng.random() < 0.5 else int(rng.integers(len(mutated)))
        mutated[where] = rng.integers(256)
    target.write_bytes(mutated[: rng.integers(1, len(mutated))] if rng.random() < 0.2 else mutated)
    for call in (
        lambda: probe(target, count=True),
        lambda: read_clip(target, start_seconds=0.3, num_frames=16, short="loop"),
        lambda: read_clip(target, fps=None, damaged="keep"),
    ):
        try:
            call()
            read += 1
        except QuovadisError:
            refused += 1
print(read, refused)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "codec", "header"), [("mp4", "libx264", "end"), ("avi", "mpeg4", "front")])
def test_mutated_files_do_not_crash_or_hang(tmp_path: Path, ending: str, codec: str, header: str) -> None:
    """In a separate process, because a decoder may crash it."""
    path = write_video(tmp_path / f"a.{ending}", moving_square(20), codec=codec, options={"g": "6", "bf": "2"})
    found = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path), header],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert found.returncode == 0, found.stderr[-2000:]
    read, refused = map(int, found.stdout.split())
    assert read + refused == 600
    assert read > 100
    assert refused > 100


# --- real files ------------------------------------------------------------------------------------------------------


def manifest() -> list[dict[str, str]]:
    file = SHARED / "data" / "MANIFEST.tsv"
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return [row for row in csv.DictReader(lines, delimiter="\t") if row["path"].startswith("clips/")]


@pytest.mark.slow
@pytest.mark.shared
def test_real_files_have_the_frames_size_and_rate_of_the_manifest(shared: Path) -> None:
    wrong = []
    rows = manifest()
    assert len(rows) > 40
    for row in rows:
        path = shared / "data" / row["path"]
        info, fps = probe(path, count=True), probe(path).fps
        if any("video streams" in note for note in info.notes):
            continue  # the manifest describes the first stream, not the one that is shown
        stored = f"{round(info.width / info.pixel_aspect_ratio)}x{info.height}"
        found = (info.num_frames, stored, round(fps, 2), info.codec, info.has_audio)
        codec, _, sound = row["codec"].partition("+")
        if found != (int(row["frames"]), row["size_wxh"], round(float(row["fps"]), 2), codec, bool(sound)):
            wrong.append((row["path"], found))
    assert wrong == []


REAL = [
    "ucf_ApplyEyeMakeup_g01_c01.avi",
    "hmdb_wave_TrumanShow.avi",
    "ucf_CricketShot_g04_c01_rgb.gif",
    "asl_want.mkv",
    "k_tai_chi.mp4",
    "torchcodec_nasa_13013.mp4",
]


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_random_access_in_real_files(shared: Path, name: str) -> None:
    check_jumps(shared / "data" / "clips" / name, 2 if "nasa" not in name else 1, stop=12)


@pytest.mark.shared
@pytest.mark.parametrize("name", [*REAL, "vf_GGSY1Qvo990.mp4"])
def test_resampling_of_real_files(shared: Path, name: str) -> None:
    with VideoReader(shared / "data" / "clips" / name) as reader:
        frames = [(f.pts_seconds, f.end_seconds) for f in reader.frames()]
        times = [t for t, _ in frames]
        for fps in (25.0, 8.0):
            resampled = [(k, f.pts_seconds) for k, f in reader.resampled_frames(fps)]
            chosen = resample_indices(times, frames[-1][1], fps, start_seconds=reader.start_seconds)
            assert resampled == [(k, times[i]) for k, i in enumerate(chosen)]
