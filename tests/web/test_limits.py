from pathlib import Path

import pytest

from quovadis.errors import InvalidInputError, VideoError
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits
from tests.synthetic import moving_square
from tests.web.conftest import gif_bomb, long_video, png_bomb


def test_frames_and_seconds_are_counted(clip: Path) -> None:
    info = Limits().check(clip)
    assert (info.width, info.height, info.num_frames, info.codec) == (64, 48, 50, "h264")
    assert info.seconds == pytest.approx(2.0)


@pytest.mark.parametrize("ending", ["mkv", "avi", "gif", "webm"])
def test_other_containers_are_measured(ending: str, tmp_path: Path) -> None:
    codecs = {"avi": ("mpeg4", "yuv420p"), "gif": ("gif", "rgb8"), "webm": ("libvpx-vp9", "yuv420p")}
    codec, pixels = codecs.get(ending, ("libx264", "yuv420p"))
    path = write_video(tmp_path / f"v.{ending}", moving_square(20, 32, 40), fps=25, codec=codec, pixel_format=pixels)
    info = Limits().check(path)
    assert (info.width, info.height, info.num_frames) == (40, 32, 20)
    assert info.seconds == pytest.approx(0.8, abs=0.05)


def test_a_long_video_is_rejected_with_its_duration(tmp_path: Path) -> None:
    path = long_video(tmp_path / "v.mp4")
    with pytest.raises(InvalidInputError, match=r"v\.mp4 is 2:00:00 long; the limit is 10:00"):
        Limits().check(path)
    Limits(max_seconds=8000).check(path)


def test_decompression_bombs_are_rejected_without_decoding(tmp_path: Path) -> None:
    for bomb in (gif_bomb(tmp_path / "b.gif"), png_bomb(tmp_path / "b.png")):
        # FFmpeg does not report the size because it is not allowed to open the file.
        with pytest.raises(
            InvalidInputError,
            match=r"b\.(gif|png) has frames that are damaged or larger than the limit of 9\.44 million pixels",
        ):
            Limits().check(bomb)
    many = write_video(tmp_path / "v.mp4", moving_square(40, 64, 64), fps=25)
    with pytest.raises(InvalidInputError, match="decodes to more than the limit"):
        Limits(max_total_pixels=30 * 64 * 64).check(many)
    Limits(max_total_pixels=40 * 64 * 64).check(many)


def test_size_limits_in_bytes_and_pixels(clip: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"the limit is 0 MiB"):
        Limits(max_bytes=100).check(clip)
    with pytest.raises(InvalidInputError, match=r"(frames of 64 x 48|larger than the limit of 0\.003 million)"):
        Limits(max_frame_pixels=3000).check(clip)


def test_errors_use_the_display_name(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video\n" * 99)
    with pytest.raises(VideoError, match=r"^holiday\.mp4 is not a video") as caught:
        Limits().check(bad, "holiday.mp4")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(VideoError, match="no file"):
        Limits().check(tmp_path / "none.mp4")
