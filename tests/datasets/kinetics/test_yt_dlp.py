"""yt-dlp with a local server in place of YouTube."""

import errno
import gc
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quovadis.datasets.kinetics.clip_status import PERMANENT, TRANSIENT
from quovadis.datasets.kinetics.yt_dlp import FetchFailure, YtDlpFetcher
from quovadis.errors import DatasetError, MissingExtraError, StorageError
from tests.http_server import Server

# yt-dlp leaves sockets open when a server refuses; collect them here, not in another test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("_tidied"),
]
yt_dlp = pytest.importorskip("yt_dlp", reason="needs yt-dlp: pip install '.[kinetics]'")

ID = "-3B32lodo2M"
QUICK = {"retries": 0, "extractor_retries": 0, "sleep_interval_requests": 0, "cachedir": False}
Answer = Callable[[Any, str], dict[str, Any]]


@pytest.fixture
def _tidied() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture
def youtube(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Replace what yt-dlp reads from YouTube's page of a video."""
    from yt_dlp.extractor.youtube import YoutubeIE

    return lambda answer: monkeypatch.setattr(YoutubeIE, "_real_extract", answer)


def video(server: Server, *formats: dict[str, Any]) -> Answer:
    def answer(_: Any, url: str) -> dict[str, Any]:
        assert url == f"https://www.youtube.com/watch?v={ID}"
        for one in formats:
            server.files[f"/{one['format_id']}"] = one["format_id"].encode() * 100
        described = [{"url": f"{server.root}/{one['format_id']}", "ext": "mp4", **one} for one in formats]
        return {"id": ID, "title": "a/../b", "formats": described}

    return answer


def side(name: str, height: int, width: int, vcodec: str = "avc1.4d401e", **more: Any) -> dict[str, Any]:
    return {"format_id": name, "height": height, "width": width, "vcodec": vcodec, "acodec": "none", **more}


SOUND = {"format_id": "140", "vcodec": "none", "acodec": "mp4a.40.2", "ext": "m4a"}


@pytest.mark.parametrize(
    ("formats", "chosen"),
    [
        ([SOUND, side("133", 240, 426), side("134", 360, 640), side("137", 1080, 1920)], "134"),
        ([SOUND, side("136", 720, 1280), side("137", 1080, 1920)], "136"),  # nothing smaller: the smallest above
        ([side("160", 144, 256), side("133", 240, 426)], "133"),
        ([side("243", 360, 640, "vp9", ext="webm"), side("134", 360, 640)], "134"),  # H.264 decodes fastest
        ([side("243", 360, 640, "vp9", ext="webm"), side("133", 240, 426)], "243"),  # but size takes precedence
        ([side("upright", 640, 360), side("133", 426, 240)], "upright"),  # the short side counts
        ([{**side("18", 360, 640), "acodec": "mp4a.40.2"}, SOUND], "18"),
    ],
)
def test_the_stream_has_short_side_360_and_no_sound(
    server: Server, tmp_path: Path, youtube: Callable[[Answer], None], formats: list[dict[str, Any]], chosen: str
) -> None:
    youtube(video(server, *formats))
    path = YtDlpFetcher(options=QUICK).fetch(ID, tmp_path)
    assert path.read_bytes() == chosen.encode() * 100
    assert path.parent == tmp_path
    assert path.stem == "video"


def test_a_folder_with_special_characters_is_not_changed(
    server: Server, tmp_path: Path, youtube: Callable[[Answer], None]
) -> None:
    youtube(video(server, side("134", 360, 640)))
    folder = tmp_path / "100% %(id)s ~ x'"
    folder.mkdir()
    assert YtDlpFetcher(options=QUICK).fetch(ID, folder).parent == folder
    with pytest.raises(StorageError, match="choose another folder"):
        YtDlpFetcher(options=QUICK).fetch(ID, tmp_path / "$HOME")


# Messages of YouTube and yt-dlp.
@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("Private video. Sign in if you've been granted access to this video", "private"),
        ("Video unavailable. This video is private", "private"),
        ("Sign in to confirm your age. This video may be inappropriate for some users.", "age-restricted"),
        ("Sign in to confirm you’re not a bot. Use --cookies-from-browser or --cookies", "rate-limited"),
        ("This content isn't available, try again later. The current session has been rate-limited", "rate-limited"),
        ("Unable to download webpage: HTTP Error 429: Too Many Requests", "rate-limited"),
        ("Join this channel to get access to members-only content like this video", "members-only"),
        ("This video requires payment to watch", "members-only"),
        ("Video unavailable. The uploader has not made this video available in your country", "geo-blocked"),
        ("Video unavailable. This video contains content from X, who has blocked it in your country", "geo-blocked"),
        ("Video unavailable", "removed"),
        ("Video unavailable. This video has been removed by the uploader", "removed"),
        ("This video has been removed for violating YouTube's policy on hate speech.", "removed"),
        ("Video unavailable. This video is no longer available because the YouTube account associated with this "
         "video has been terminated.", "removed"),
        ("This video is DRM protected", "unplayable"),
        ("This live event will begin in a few moments.", "unplayable"),
        ("Unable to download webpage: <urlopen error timed out>", "network"),
        ("Something that nobody has seen before", "unknown"),
    ],
)  # fmt: skip
def test_unavailable_videos_have_a_status(
    tmp_path: Path, youtube: Callable[[Answer], None], words: str, status: str
) -> None:
    def answer(*_: Any) -> Any:
        raise yt_dlp.utils.ExtractorError(words, expected=True)

    youtube(answer)
    with pytest.raises(FetchFailure) as failure:
        YtDlpFetcher(options=QUICK).fetch(ID, tmp_path)
    assert failure.value.status == status
    assert status in {**PERMANENT, **TRANSIENT}
    assert failure.value.reason.startswith(words[:20])
    assert list(tmp_path.iterdir()) == []


def test_geo_blocking_is_recognized_by_the_type_of_the_error(tmp_path: Path, youtube: Callable[[Answer], None]) -> None:
    youtube(lambda self, _: self.raise_geo_restricted("Nicht verfügbar"))
    with pytest.raises(FetchFailure, match="Nicht verfügbar") as failure:
        YtDlpFetcher(options=QUICK).fetch(ID, tmp_path)
    assert failure.value.status == "geo-blocked"


@pytest.mark.parametrize(
    ("script", "status"), [(["429"] * 9, "rate-limited"), (["403"] * 9, "network"), (["hang up"] * 9, "network")]
)
def test_a_server_that_refuses_the_stream(
    server: Server, tmp_path: Path, youtube: Callable[[Answer], None], script: list[str], status: str
) -> None:
    youtube(video(server, side("134", 360, 640)))
    server.script = script
    with pytest.raises(FetchFailure) as failure:
        YtDlpFetcher(options=QUICK).fetch(ID, tmp_path)
    assert failure.value.status == status, failure.value.reason


def test_no_stream_at_all_is_unplayable(server: Server, tmp_path: Path, youtube: Callable[[Answer], None]) -> None:
    youtube(video(server, SOUND))
    with pytest.raises(FetchFailure) as failure:
        YtDlpFetcher(options={**QUICK, "format": "bv*"}).fetch(ID, tmp_path)
    assert failure.value.status == "unplayable"


def test_a_full_disk_is_a_storage_error(
    server: Server, tmp_path: Path, youtube: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    youtube(video(server, side("134", 360, 640)))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("yt_dlp.downloader.http.HttpFD.sanitize_open", full)
    with pytest.raises(StorageError, match="No space left on device"):
        YtDlpFetcher(options=QUICK).fetch(ID, tmp_path)


def test_cookies_are_used_and_the_file_is_not_changed(
    server: Server, tmp_path: Path, youtube: Callable[[Answer], None]
) -> None:
    text = "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t2147483647\tLOGIN\tme\n"
    (tmp_path / "cookies.txt").write_text(text)
    seen = []

    def answer(self: Any, url: str) -> dict[str, Any]:
        seen.append(self._get_cookies("https://www.youtube.com/")["LOGIN"].value)
        return video(server, side("134", 360, 640))(self, url)

    youtube(answer)
    (tmp_path / "out").mkdir()
    YtDlpFetcher(cookies=tmp_path / "cookies.txt", options=QUICK).fetch(ID, tmp_path / "out")
    assert seen == ["me"]
    assert (tmp_path / "cookies.txt").read_text() == text
    with pytest.raises(DatasetError, match="cannot read the cookie file"):
        YtDlpFetcher(cookies=tmp_path / "none.txt")


def test_without_yt_dlp_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[kinetics\]"):
        YtDlpFetcher()
