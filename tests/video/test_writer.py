"""Writing videos: round trips, reproducible bytes, atomic files, errors."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.errors import InvalidInputError, InvalidTypeError, QuovadisError, StorageError
from quovadis.video.read import probe, read_clip
from quovadis.video.reader import VideoReader
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import moving_square


@pytest.mark.parametrize("size", [(48, 64), (31, 45), (1, 1), (2, 3), (17, 200)], ids=str)
def test_lossless_round_trip(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = torch.randint(0, 256, (7, 3, *size), dtype=torch.uint8)
    path = write_video(tmp_path / "a.mp4", frames, **LOSSLESS)
    assert torch.equal(read_clip(path).frames, frames)


def test_frames_from_an_iterable(tmp_path: Path) -> None:
    frames = moving_square(5)
    path = write_video(tmp_path / "a.mkv", (f for f in frames), **LOSSLESS)
    assert torch.equal(read_clip(path).frames, frames)


def test_default_is_h264(tmp_path: Path) -> None:
    slope = torch.arange(65).mul(3).expand(8, 3, 49, 65).to(torch.uint8)
    path = write_video(tmp_path / "a.mp4", slope)
    info = probe(path, count=True)
    assert (info.codec, info.width, info.height, info.num_frames, info.fps) == ("h264", 64, 48, 8, 25.0)
    assert (read_clip(path).frames.float() - slope[:, :, :48, :64].float()).abs().mean() < 2


@pytest.mark.parametrize("fps", [25, 23.976, Fraction(30000, 1001), 60, 0.5, 12.5])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_frame_rates_are_kept(tmp_path: Path, fps: float | Fraction, container: str) -> None:
    info = probe(write_video(tmp_path / f"a.{container}", moving_square(12), fps=fps), count=True)
    assert info.fps == pytest.approx(float(fps), rel=2e-5)
    assert info.variable_frame_rate is False


def test_variable_frame_rate_is_kept_to_the_millisecond(tmp_path: Path) -> None:
    times = [0.0, 0.001, 0.5, 0.5334, 2.0]
    for name in ("a.mp4", "a.mkv"):
        path = write_video(tmp_path / name, moving_square(5), pts_seconds=times)
        with VideoReader(path) as reader:
            assert [round(f.pts_seconds, 4) for f in reader.frames()] == [0.0, 0.001, 0.5, 0.533, 2.0]
        assert probe(path, count=True).variable_frame_rate is True


@pytest.mark.parametrize("options", [None, {"crf": "20", "preset": "veryfast"}], ids=["default", "veryfast"])
def test_equal_frames_give_equal_bytes_for_any_number_of_cores(tmp_path: Path, options: dict[str, str] | None) -> None:
    frames = motions_clip(MotionsConfig(size_px=128), "train", 3, 0).frames
    files = [write_video(tmp_path / f"{number}.mp4", frames, options=options) for number in range(6)]
    files.append(write_video(tmp_path / "one_thread.mp4", frames, options={**(options or {}), "threads": "1"}))
    assert len({file.read_bytes() for file in files}) == 1


FRAMES = moving_square(3)
WRONG: list[tuple[object, dict[str, object], type[QuovadisError], str]] = [
    (FRAMES.float(), {}, InvalidTypeError, "frame 0 must be a uint8 tensor"),
    (FRAMES.numpy(), {}, InvalidTypeError, "frame 0 must be a uint8 tensor"),
    (FRAMES.permute(0, 2, 3, 1), {}, InvalidInputError, r"frame 0 must have shape \(3, H, W\); got \(48, 64, 3\)"),
    (
        [FRAMES[0], FRAMES[1, :, :9]],
        {},
        InvalidInputError,
        r"frame 1 has size \(9, 64\); the frames before it",
    ),
    (FRAMES[:0], {}, InvalidInputError, "at least one frame"),
    ([], {}, InvalidInputError, "at least one frame"),
    (FRAMES[:, :, :1], {}, InvalidInputError, "does not support frames of size"),
    (FRAMES, {"fps": 0}, InvalidInputError, "fps must be above 0; got 0"),
    (FRAMES, {"fps": -25}, InvalidInputError, "fps must be above 0; got -25"),
    (FRAMES, {"fps": float("nan")}, InvalidInputError, "fps must be above 0; got nan"),
    (FRAMES, {"pts_seconds": [0.0, 0.1]}, InvalidInputError, "has 2 times, but there are more"),
    (FRAMES, {"pts_seconds": [0.0, 0.2, 0.1]}, InvalidInputError, "must increase"),
    (FRAMES, {"pts_seconds": [0.0, 0.1, 0.1004]}, InvalidInputError, "must increase"),
    (FRAMES, {"rotation_degrees": 45}, InvalidInputError, "multiple of 90; got 45"),
    (FRAMES, {"codec": "h266x"}, InvalidInputError, "codec 'h266x'"),
    (FRAMES, {"pixel_format": "rgb2"}, InvalidInputError, "pixel format 'rgb2'"),
]


@pytest.mark.parametrize(("frames", "options", "error", "words"), WRONG, ids=[words[:40] for *_, words in WRONG])
def test_invalid_arguments_are_refused_and_leave_no_file(
    tmp_path: Path, frames: object, options: dict[str, object], error: type[QuovadisError], words: str
) -> None:
    with pytest.raises(error, match=words):
        write_video(tmp_path / "a.mp4", frames, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot write .*a\.nothing"):
        write_video(tmp_path / "a.nothing", FRAMES)
    assert list(tmp_path.iterdir()) == []


def test_failing_iterable_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    before = path.read_bytes()

    def source() -> Iterator[torch.Tensor]:
        yield FRAMES[0]
        raise RuntimeError("the camera was unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        write_video(path, source())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    path = write_video(tmp_path / "a.mp4", FRAMES)
    before = path.read_bytes()
    noise = torch.randint(0, 256, (10, 3, 64, 64), dtype=torch.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*a.mp4: File too large"):
            write_video(path, noise, **LOSSLESS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_error_for_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        write_video(tmp_path / "text" / "a.mp4", FRAMES)


@pytest.mark.parametrize("name", ["12:30.mp4", "a b%03d.mp4", "concat:x|y.mp4", "näh é.mp4", "-o.mp4"])
def test_any_file_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Also as a relative path, in which FFmpeg would parse the part before a colon as a protocol."""
    monkeypatch.chdir(tmp_path)
    write_video(name, FRAMES, **LOSSLESS)
    assert torch.equal(read_clip(name).frames, FRAMES)


@pytest.mark.parametrize("name", ["x.m3u8", "x.mpd", "%03d.png", "x.chk"])
def test_formats_of_several_files_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"is a format of several files \(.+\); use \.mp4 or \.mkv"):
        write_video(tmp_path / name, moving_square(5), fps=25, codec="png" if "png" in name else "libx264")
    assert list(tmp_path.iterdir()) == []
