"""Read generated videos of many kinds, and compare images and times with FFmpeg: its filters, and its program.

Every kind combines an orientation, a pixel aspect ratio, a frame rate, a start, a container and a codec.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.filter import Graph
from numpy.typing import NDArray

from quovadis.video.read import probe
from quovadis.video.reader import VideoReader
from tests.synthetic import moving_square

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 24
ONE = 65536

# Filters that display a frame stored with this matrix (a, b, c, d); the ffmpeg program inserts the same.
ORIENTATIONS: dict[str, tuple[tuple[int, int, int, int], list[str]]] = {
    "upright": ((1, 0, 0, 1), []),
    "rotated by 90": ((0, 1, -1, 0), ["transpose=clock"]),
    "rotated by 180": ((-1, 0, 0, -1), ["hflip", "vflip"]),
    "rotated by 270": ((0, -1, 1, 0), ["transpose=cclock"]),
    "mirrored left-right": ((-1, 0, 0, 1), ["hflip"]),
    "mirrored top-bottom": ((1, 0, 0, -1), ["vflip"]),
    "transposed": ((0, 1, 1, 0), ["transpose=cclock_flip"]),
    "transposed the other way": ((0, -1, -1, 0), ["transpose=clock_flip"]),
}
# H.264 carries an orientation in its key frames: counterclockwise degrees, and mirrors.
IN_KEY_FRAMES = {
    "rotated by 90": "rotate=270",
    "rotated by 180": "rotate=180",
    "rotated by 270": "rotate=90",
    "mirrored left-right": "flip=horizontal",
    "mirrored top-bottom": "flip=vertical",
}


class Kind(NamedTuple):
    orientation: str
    aspect: Fraction
    rate: Fraction
    uneven: bool
    late_seconds: Fraction
    container: str
    codec: str
    pixel_format: str

    def __str__(self) -> str:
        rate = "uneven" if self.uneven else f"{float(self.rate):.4g} fps"
        start = f", {float(self.late_seconds)} s late" if self.late_seconds else ""
        return f"{self.codec} {self.pixel_format} {self.container}, {self.orientation}, {self.aspect}, {rate}{start}"


def kinds() -> Iterator[Kind]:
    """Combine the lists so that neighbors differ in every property."""
    aspects = cycle(map(Fraction, ("1", "2", "8/9", "16/11", "1/2")))
    rates = cycle(map(Fraction, ("25", "30", "12", "30000/1001", "50", "8", "25")))
    late = cycle(map(Fraction, ("0", "0", "0.023", "0", "1.013", "3")))
    codecs = cycle(
        [
            ("mp4", "libx264", "yuv420p"),
            ("mov", "libx264", "yuv420p10le"),
            ("mp4", "mpeg4", "yuv420p"),
            ("ts", "libx264", "yuv420p"),
            ("mov", "libx264", "yuv444p"),
        ]
    )
    turned = ((o, *c) for o, c in zip(cycle(ORIENTATIONS), codecs, strict=False))
    straight = [
        ("upright", "avi", "mpeg4", "yuv420p"),
        ("upright", "avi", "libx264", "yuv420p"),
        ("upright", "mkv", "libx264", "yuv420p"),
        ("upright", "mkv", "ffv1", "yuv420p10le"),
        ("upright", "webm", "libvpx-vp9", "yuv420p"),
        ("upright", "h264", "libx264", "yuv420p"),
        ("upright", "mpg", "mpeg2video", "yuv420p"),
    ]
    chosen = [*islice(turned, 20), *straight]
    for number, (orientation, *codec) in enumerate(chosen):
        rate, seconds = next(rates), next(late)
        keeps_times = codec[0] not in ("avi", "h264", "mpg", "webm")
        if codec[0] == "mpg":
            rate = Fraction(30000, 1001)
        if codec[0] == "ts" and orientation not in IN_KEY_FRAMES:
            orientation = "upright"
        aspect = next(aspects) if codec[1] in ("libx264", "mpeg4") else Fraction(1)
        yield Kind(orientation, aspect, rate, number % 4 == 3 and keeps_times, seconds * keeps_times, *codec)


KINDS = list(kinds())
every_kind = pytest.mark.parametrize("kind", KINDS, ids=map(str, KINDS))


def times_of(kind: Kind) -> list[Fraction]:
    """Presentation times of the frames."""
    steps = np.random.default_rng(7).integers(1, 6, NUM_FRAMES) if kind.uneven else np.ones(NUM_FRAMES, int)
    return [kind.late_seconds + Fraction(int(before)) / kind.rate for before in np.cumsum(steps) - steps[0]]


def write(path: Path, kind: Kind) -> Path:
    options = {
        "libx264": {"preset": "ultrafast", "g": "9", "bf": "2"},
        "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "g": "9"},
        "mpeg4": {"bf": "2", "g": "9"},
        "mpeg2video": {"bf": "2", "g": "9"},
    }
    with av.open(str(path), "w") as container:
        stream = container.add_stream(kind.codec, rate=kind.rate, options=options.get(kind.codec, {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, kind.pixel_format
        stream.codec_context.time_base = Fraction(1, 30000) if kind.uneven or kind.late_seconds else 1 / kind.rate
        stream.codec_context.sample_aspect_ratio = kind.aspect
        (a, b, c, d), _ = ORIENTATIONS[kind.orientation]
        if kind.container in ("mp4", "mov"):
            stream.set_display_matrix([ONE * a, ONE * b, 0, ONE * c, ONE * d, 0, 0, 0, 1 << 30])
        in_key_frames = None
        if kind.container == "ts" and kind.orientation != "upright":
            spec = f"h264_metadata=display_orientation=insert:{IN_KEY_FRAMES[kind.orientation]}"
            in_key_frames = BitStreamFilterContext(spec, stream)
        if kind.late_seconds:
            sound = container.add_stream("aac" if kind.container in ("mp4", "mov") else "mp2", rate=16000)
            assert isinstance(sound, av.AudioStream)
            sound.layout = "mono"
        for pixels, seconds in zip(moving_square(NUM_FRAMES, HEIGHT, WIDTH), times_of(kind), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(seconds / frame.time_base)
            for packet in stream.encode(frame):
                container.mux(in_key_frames.filter(packet) if in_key_frames else packet)
        for packet in stream.encode(None):
            container.mux(in_key_frames.filter(packet) if in_key_frames else packet)
        if kind.late_seconds:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 2304), np.int16), format="s16", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def video_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    """A file of that kind, written once."""
    folder = tmp_path_factory.mktemp("kinds")

    def path_of(kind: Kind) -> Path:
        path = folder / f"{KINDS.index(kind)}.{kind.container}"
        return path if path.exists() else write(path, kind)

    return path_of


def shown_size(kind: Kind) -> tuple[int, int]:
    """Displayed width and height."""
    size = round(WIDTH * kind.aspect), HEIGHT
    return size if ORIENTATIONS[kind.orientation][0][0] else size[::-1]


def read(path: Path, fps: float) -> NDArray[np.uint8]:
    """All resampled frames, (T, H, W, 3)."""
    with VideoReader(path) as reader:
        images = [frame.pixels.permute(1, 2, 0).numpy() for _, frame in reader.resampled_frames(fps)]
        assert reader.damage == ""
        assert reader.num_resampled_frames(fps) == len(images)
    return np.stack(images)


def filtered(path: Path, kind: Kind, fps: int) -> NDArray[np.uint8]:
    """The same with FFmpeg's filters."""
    graph = Graph()
    images = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        start = Fraction(container.start_time or 0, av.time_base)
        if kind.container in ("ts", "mpg"):  # there the program counts from the streams that it uses
            start = (stream.start_time or 0) * base
        source = graph.add_buffer(width=WIDTH, height=HEIGHT, format=stream.format, time_base=base)
        size = "scale={}:{}".format(*shown_size(kind))
        specs = [*ORIENTATIONS[kind.orientation][1], size, f"fps={fps}", "format=rgb24", "buffersink"]
        graph.link_nodes(source, *[graph.add(*spec.split("=", 1)) for spec in specs]).configure()
        stamp = next_stamp = 0
        for frame in [*container.decode(stream), None]:
            if frame is not None:
                given = frame.dts if kind.container == "avi" or frame.pts is None else frame.pts
                stamp = next_stamp if given is None else given - round(start / base)
                frame.pts, next_stamp = stamp, stamp + (frame.duration or 0)
            graph.vpush(frame)
            while True:
                try:
                    images.append(graph.vpull().to_ndarray())
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    return np.stack(images)


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg program, version 8 or later: earlier versions differ in colors and mirrored orientations."""
    program = shutil.which("ffmpeg")
    version = subprocess.run([program, "-version"], capture_output=True, text=True).stdout if program else ""
    found = re.match(r"ffmpeg version n?(\d+)", version)
    if program is None or found is None or int(found[1]) < 8:
        pytest.skip("needs the ffmpeg program, version 8 or later")
    return program


def run_ffmpeg(program: str, path: Path, filters: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) that the program decodes."""
    command = [program, "-v", "error", "-i", str(path), "-an", "-vf", filters]
    raw = subprocess.run(
        [*command, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, size[1], size[0], 3)


def assert_same(found: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: int) -> None:
    assert found.shape == expected.shape
    worst = np.abs(found.astype(int) - expected).reshape(len(found), -1).max(1)
    assert (worst <= tolerance).all(), f"frames {np.flatnonzero(worst > tolerance).tolist()} differ by {worst.max()}"


@every_kind
def test_frames_and_times_equal_ffmpeg_filters(kind: Kind, video_of: Callable[[Kind], Path]) -> None:
    found, expected = read(video_of(kind), 25), filtered(video_of(kind), kind, 25)
    if kind.container == "ts":  # the filter does not know how long the last frame is shown
        assert len(found) - 3 < len(expected) <= len(found)
        found = found[: len(expected)]
    assert_same(found, expected, 1)


@every_kind
def test_frames_and_times_equal_ffmpeg_program(kind: Kind, video_of: Callable[[Kind], Path], ffmpeg: str) -> None:
    if kind.container == "ts" and kind.orientation != "upright":
        pytest.skip("the program turns key frames only; players turn all")
    width, height = shown_size(kind)
    expected = run_ffmpeg(ffmpeg, video_of(kind), f"fps=25,scale={width}:{height},setsar=1", (width, height))
    assert_same(read(video_of(kind), 25), expected, 1)


@every_kind
def test_length_size_and_orientation_are_reported(kind: Kind, video_of: Callable[[Kind], Path]) -> None:
    info, counted = probe(video_of(kind)), probe(video_of(kind), count=True)
    assert (info.width, info.height) == shown_size(kind)
    assert info.pixel_aspect_ratio == pytest.approx(float(kind.aspect))
    assert info.num_frames == counted.num_frames == NUM_FRAMES
    assert info.duration_seconds == pytest.approx(counted.duration_seconds, abs=1e-6)
    assert (info.rotation_degrees, info.mirrored) == {
        "upright": (0, False),
        "rotated by 90": (90, False),
        "rotated by 180": (180, False),
        "rotated by 270": (270, False),
        "mirrored left-right": (0, True),
        "mirrored top-bottom": (180, True),
        "transposed": (90, True),
        "transposed the other way": (270, True),
    }[kind.orientation]


@every_kind
def test_seeking_yields_the_frames_of_sequential_reading(kind: Kind, video_of: Callable[[Kind], Path]) -> None:
    every = read(video_of(kind), 25)
    with VideoReader(video_of(kind)) as reader:
        for start in (3, len(every) // 2, len(every) - 2):
            found = list(reader.resampled_frames(25, start))
            assert [k for k, _ in found] == list(range(start, len(every)))
            pixels = np.stack([frame.pixels.permute(1, 2, 0).numpy() for _, frame in found])
            assert_same(pixels, every[start:], 0)
