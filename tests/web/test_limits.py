from pathlib import Path

import pytest

from quovadis.errors import InvalidInputError, VideoError
from quovadis.video.writer import write_video
from quovadis.web.limits import Limits
from tests.synthetic import moving_square
from tests.web.conftest import gif_bomb, long_video, png_bomb


def test_facts_are_counted(clip: Path) -> None:
    facts = Limits().check(clip)
    assert (facts.width, facts.height, facts.num_frames, facts.codec) == (64, 48, 50, "h264")
    assert facts.seconds == pytest.approx(2.0)


@pytest.mark.parametrize("ending", ["mkv", "avi", "gif", "webm"])
def test_facts_of_other_containers(ending: str, tmp_path: Path) -> None:
    codecs = {"avi": ("mpeg4", "yuv420p"), "gif": ("gif", "rgb8"), "webm": ("libvpx-vp9", "yuv420p")}
    codec, pixels = codecs.get(ending, ("libx264", "yuv420p"))
    path = write_video(tmp_path / f"v.{ending}", moving_square(20, 32, 40), fps=25, codec=codec, pixel_format=pixels)
    facts = Limits().check(path)
    assert (facts.width, facts.height, facts.num_frames) == (40, 32, 20)
    assert facts.seconds == pytest.approx(0.8, abs=0.05)


def test_a_long_video_is_refused_with_its_length(tmp_path: Path) -> None:
    path = long_video(tmp_path / "v.mp4")
    with pytest.raises(InvalidInputError, match=r"v\.mp4 is 2:00:00 long; at most 10:00 are taken here"):
        Limits().check(path)
    Limits(max_seconds=8000).check(path)


def test_bombs_are_refused_without_unpacking_them(tmp_path: Path) -> None:
    for bomb in (gif_bomb(tmp_path / "b.gif"), png_bomb(tmp_path / "b.png")):
        # Where FFmpeg had opened it without a bound, it would know the size.
        with pytest.raises(InvalidInputError, match=r"b\.(gif|png) has pictures of more than 9\.44 million pixels"):
            Limits().check(bomb)
    many = write_video(tmp_path / "v.mp4", moving_square(40, 64, 64), fps=25)
    with pytest.raises(InvalidInputError, match="unpacks to more than"):
        Limits(max_total_pixels=30 * 64 * 64).check(many)
    Limits(max_total_pixels=40 * 64 * 64).check(many)


def test_size_in_bytes_and_in_pixels(clip: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"at most 0 MiB"):
        Limits(max_bytes=100).check(clip)
    with pytest.raises(InvalidInputError, match=r"pictures of (64 x 48|more than 0\.003 million)"):
        Limits(max_frame_pixels=3000).check(clip)


def test_what_is_no_video_is_called_by_its_own_name(tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video\n" * 99)
    with pytest.raises(VideoError, match=r"^holiday\.mp4 is not a video") as caught:
        Limits().check(bad, "holiday.mp4")
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(VideoError, match="no file"):
        Limits().check(tmp_path / "none.mp4")
