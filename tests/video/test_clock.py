"""Times and lengths of files whose timestamps or headers are wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from quovadis.errors import VideoDamagedError
from quovadis.video.read import probe, read_clip
from quovadis.video.reader import VideoReader
from quovadis.video.writer import write_video
from tests.synthetic import moving_square

FAST = {"preset": "ultrafast", "g": "10"}
PLAIN = {**FAST, "bf": "0"}


def lengths(path: Path) -> tuple[int, int]:
    """Numbers of resampled frames, from the packets and by decoding."""
    with VideoReader(path) as reader:
        decoded = sum(1 for _ in reader.resampled_frames(25))
        assert reader.damage == ""
    with VideoReader(path) as reader:
        return reader.num_resampled_frames(25), decoded


def restamp(source: Path, target: Path, change: Callable[[int, int], int]) -> Path:
    """Copy a video with other presentation times; ``change`` takes frame number and milliseconds."""
    with av.open(str(source)) as old, av.open(str(target), "w", options={"avoid_negative_ts": "disabled"}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is None:
                continue
            assert packet.pts is not None
            packet.pts = change(number, packet.pts)
            packet.dts = number - 100_000  # Matroska stores none; it must only be below and increase
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames at 25 fps in Matroska, without B-frames."""
    return write_video(tmp_path_factory.mktemp("plain") / "plain.mkv", moving_square(50), options=PLAIN)


# --- jumps ------------------------------------------------------------------------------------------------------------


def part(path: Path, start_seconds: float, seed: int) -> Path:
    """One second of a transport stream."""
    whole = write_video(path.with_stem("whole"), moving_square(25, seed=seed), options=FAST)
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                assert packet.pts is not None
                packet.pts += round(90_000 * start_seconds)
                packet.dts += round(90_000 * start_seconds)
                packet.stream = stream
                new.mux(packet)
    return path


@pytest.mark.parametrize("starts", [(0, 20), (0, 1000), (20, 0), (1000, 0), (0, 0), (0, 40, 3, 3000)])
def test_jumps_between_parts_of_a_transport_stream_are_removed(tmp_path: Path, starts: tuple[float, ...]) -> None:
    """For any start of the next part, as in ``ffmpeg -vf fps=25``."""
    parts = [part(tmp_path / f"{n}.ts", start, n) for n, start in enumerate(starts)]
    path = tmp_path / "all.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    assert lengths(path) == (25 * len(parts), 25 * len(parts))
    assert torch.equal(read_clip(path).frames, torch.cat([read_clip(p).frames for p in parts]))
    info, counted = probe(path), probe(path, count=True)
    assert info.num_frames == counted.num_frames == 25 * len(parts)
    assert info.duration_seconds == pytest.approx(len(parts), abs=1e-3)
    assert counted.duration_seconds == pytest.approx(len(parts), abs=1e-3)


def test_gap_below_ten_seconds_is_kept(tmp_path: Path) -> None:
    parts = [part(tmp_path / f"{n}.ts", start, n) for n, start in enumerate((0, 5))]
    path = tmp_path / "all.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    assert lengths(path) == (150, 150)


# --- doubled and backward stamps --------------------------------------------------------------------------------------


def test_duplicate_timestamps_delay_no_frame(plain: Path, tmp_path: Path) -> None:
    """A frame with the timestamp of the previous one replaces it; all others keep their times."""
    path = restamp(plain, tmp_path / "doubled.mkv", lambda n, ms: ms - 40 * (n % 2) + 30_000 * (n >= 20))
    with VideoReader(path) as reader:
        times = [f.pts_seconds for f in reader.frames()]
    expected = [(n + 750 * (n >= 20)) / 25 for n in range(50)]
    assert np.abs(np.array(times) - expected).max() < 0.041
    assert times[-1] == pytest.approx(expected[-1], abs=0.041)
    assert lengths(path) == (799, 799)  # the last one is a doubled one


@pytest.mark.parametrize("back_ms", [333, 900])
def test_decreasing_timestamp_moves_no_other_frame(plain: Path, tmp_path: Path, back_ms: int) -> None:
    path = restamp(plain, tmp_path / "back.mkv", lambda n, ms: ms - back_ms * (n == 23))
    with VideoReader(path) as reader:
        times = [f.pts_seconds for f in reader.frames()]
        assert np.delete(times, 23) == pytest.approx(np.delete(np.arange(50) / 25, 23))
        assert times[22] <= times[23] <= times[24]
        every = [(f.pts_seconds, f.pixels.sum().item()) for f in reader.frames()]
        for start in (0.5, 0.9, 0.95, 1.2):
            found = [(f.pts_seconds, f.pixels.sum().item()) for f in reader.frames(start)]
            assert found == [f for f in every if f[0] >= start - 1e-9]
    assert lengths(path) == (50, 50)


def test_timestamp_far_ahead_holds_the_frame(plain: Path, tmp_path: Path) -> None:
    path = restamp(plain, tmp_path / "ahead.mkv", lambda n, ms: ms + 3000 * (n == 20))
    assert lengths(path) == (95, 95)  # as ffmpeg -vf fps=25


def test_seeking_finds_groups_with_decreasing_timestamps(plain: Path, tmp_path: Path) -> None:
    """Frame 20 is a key frame; the index then has decreasing times."""
    path = restamp(plain, tmp_path / "groups.mkv", lambda n, ms: ms - 600 * (n >= 20))
    with VideoReader(path) as reader:
        every = [(f.pts_seconds, f.pixels.sum().item()) for f in reader.frames()]
        for start in (0.1, 0.3, 0.5, 0.75, 1.2):
            found = [(f.pts_seconds, f.pixels.sum().item()) for f in reader.frames(start)]
            assert found == [f for f in every if f[0] >= start - 1e-9], start


# --- raw streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
@pytest.mark.parametrize("rate", [30, 12, 50])
def test_frame_rate_of_raw_streams(tmp_path: Path, ending: str, codec: str, rate: int) -> None:
    options = {"preset": "ultrafast"} | ({"x265-params": "log-level=none"} if codec == "libx265" else {})
    path = write_video(tmp_path / f"a.{ending}", moving_square(24), codec=codec, fps=rate, options=options)
    assert probe(path).fps == pytest.approx(rate)
    assert probe(path).num_frames == 24
    assert probe(path).duration_seconds == pytest.approx(24 / rate)
    assert lengths(path) == (round(24 / rate * 25), round(24 / rate * 25))


# --- length -----------------------------------------------------------------------------------------------------------


def with_sound(path: Path, video_from_seconds: float, sound_seconds: float) -> Path:
    """25 frames, and audio from zero."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options=FAST)
        sound = container.add_stream("aac" if path.suffix == ".mp4" else "mp2", rate=16000)
        assert isinstance(video, av.VideoStream)
        assert isinstance(sound, av.AudioStream)
        video.width, video.height, video.pix_fmt, sound.layout = 64, 48, "yuv420p", "mono"
        video.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(moving_square(25)):
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = round(1000 * video_from_seconds) + 40 * number, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, int(16000 * sound_seconds)), np.int16), format="s16", layout="mono"
        )
        silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("ending", ["mkv", "mp4", "ts", "avi"])
@pytest.mark.parametrize(("late", "sound_seconds"), [(0.0, 9.0), (3.0, 2.0), (3.013, 9.0)])
def test_length_is_that_of_the_video_stream(tmp_path: Path, ending: str, late: float, sound_seconds: float) -> None:
    if ending == "avi":
        late = 0.0  # it has no times
    path = with_sound(tmp_path / f"a.{ending}", late, sound_seconds)
    assert lengths(path) == (25, 25)
    assert probe(path).duration_seconds == pytest.approx(1.0, abs=0.002)
    assert probe(path, count=True).duration_seconds == pytest.approx(1.0, abs=0.002)


def patch(path: Path, target: Path, *changes: tuple[bytes, int, bytes]) -> Path:
    """Write bytes at an offset after each occurrence of a name."""
    content = bytearray(path.read_bytes())
    for name, offset, new in changes:
        at = content.find(name)
        assert at > 0
        while at > 0:
            content[at + offset : at + offset + len(new)] = new
            at = content.find(name, at + 1)
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("claim", [5, 45, 1_048_576])
@pytest.mark.parametrize("ending", ["mp4", "avi", "mkv"])
def test_wrong_lengths_in_headers_are_ignored(tmp_path: Path, ending: str, claim: int) -> None:
    codec = "mpeg4" if ending == "avi" else "libx264"
    path = write_video(tmp_path / f"a.{ending}", moving_square(50), codec=codec, options={"g": "10"})
    seconds = claim / 25
    changes = {
        # Durations: of the movie and the track in 1/1000 s, of the media in its own units.
        "mp4": [
            (b"mvhd", 4 + 16, struct.pack(">I", int(1000 * seconds))),
            (b"tkhd", 4 + 20, struct.pack(">I", int(1000 * seconds))),
            (b"mdhd", 4 + 16, struct.pack(">I", int(12800 * seconds))),
        ],
        # Total frames of the file, and length of the stream.
        "avi": [
            (b"avih", 8 + 16, struct.pack("<I", claim)),
            (b"strh", 8 + 32, struct.pack("<I", claim)),
        ],
        "mkv": [(b"\x44\x89\x88", 3, struct.pack(">d", 1000 * seconds))],
    }[ending]
    lying = patch(path, tmp_path / f"lying.{ending}", *changes)
    info = probe(lying)
    assert (info.num_frames, info.duration_seconds) == (50, pytest.approx(2.0))
    counted = probe(lying, count=True)
    assert (counted.num_frames, counted.duration_seconds) == (50, pytest.approx(2.0))
    with VideoReader(lying) as reader:
        assert reader.num_resampled_frames(25) == sum(1 for _ in reader.resampled_frames(25)) == 50


def test_cached_length_is_dropped_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    for num_frames in (20, 30):
        write_video(path, moving_square(num_frames), options=FAST)
        assert probe(path).num_frames == num_frames


@pytest.mark.parametrize(("missing", "damaged"), [(0.035, False), (0.045, False), (0.055, True), (0.065, True)])
def test_up_to_five_percent_may_be_missing(tmp_path: Path, missing: float, damaged: bool) -> None:
    """The video is so long that this is more than three frames."""
    source = write_video(tmp_path / "a.mkv", moving_square(125), fps=25, options=PLAIN)
    promise = 5.0 / (1 - missing)
    path = patch(source, tmp_path / "b.mkv", (b"\x44\x89\x88", 3, struct.pack(">d", 1000 * promise)))
    if damaged:
        with pytest.raises(VideoDamagedError, match=r"it ends at 4\.96 s, its header says 5\.\d+ s"):
            read_clip(path)
    else:
        assert len(read_clip(path)) == 125


@pytest.mark.shared
def test_empty_packets_repeat_the_frame(shared: Path) -> None:
    """Theora writes them for still frames. Decoders refuse them, but they are not damage."""
    path = shared / "cases" / "video" / "static.ogv"
    with av.open(str(path)) as container:
        assert sum(p.size == 0 for p in container.demux(video=0)) > 40
    clip = read_clip(path)
    assert lengths(path) == (100, 100)
    assert torch.equal(clip.frames[0], clip.frames[40])
