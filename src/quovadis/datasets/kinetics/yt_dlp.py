"""Fetch whole videos from YouTube with yt-dlp, and say in one word why one cannot be had."""

import errno
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from quovadis.errors import DatasetError, StorageError
from quovadis.runtime.extras import missing_extra

SIDE_PX = 360
"""The short side that is asked for: the nearest that YouTube has to the 256 that models are trained at, from above."""

# The first that matches. YouTube's words as yt-dlp hands them on; what it raises by type is told by type.
_REASONS = (
    ("rate-limited", r"HTTP Error 429|Too Many Requests|try again later|rate-limited|not a bot|captcha"),
    ("private", r"private video|video is private|granted access to this video"),
    ("age-restricted", r"confirm your age|age.restricted|inappropriate for some users"),
    ("members-only", r"members.only|join this channel|requires payment|available to .*members|purchase"),
    ("geo-blocked", r"in your country|from your location|geo.?restrict"),
    ("unplayable", r"requested format is not available|no video formats|DRM|live event will|premieres in|live stream"),
    ("network", r"HTTP Error|timed out|connection|failed to resolve|unreachable|SSL|bytes read|urlopen error"),
    ("removed", r"unavailable|removed|terminated|no longer available|not available|does not exist|deleted|closed"),
)


class FetchFailure(Exception):
    """A video that could not be had, and why.

    Args:
        status: a word of ``FINAL`` or ``PASSING`` in :mod:`quovadis.datasets.kinetics.clip_status`.
        reason: what was said.
    """

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Extractor(Protocol):
    """Whatever brings a video by its id; called from several threads."""

    def fetch(self, youtube_id: str, folder: Path) -> Path:
        """Bring the whole video into an empty folder, and say where.

        Raises:
            FetchFailure: it cannot be had. StorageError: it cannot be written.
        """
        ...


class YtDlpExtractor:
    """Videos from YouTube, by yt-dlp.

    Sound is not fetched where it can be avoided, as nothing here uses it; so no ``ffmpeg`` program is needed. The whole
    video comes, not only the stretch that is wanted: cutting while downloading begins at a key frame. YouTube needs a
    program that runs JavaScript beside yt-dlp (Deno), which the extra brings.

    Args:
        cookies: a file in Netscape format, for videos that are shown only to who is signed in. It is not changed.
        options: for ``yt_dlp.YoutubeDL``, over those chosen here.

    Raises:
        MissingExtraError: yt-dlp is not installed. DatasetError: no such file of cookies.
    """

    def __init__(self, *, cookies: Path | None = None, options: Mapping[str, Any] | None = None):
        try:
            import yt_dlp  # noqa: F401
        except ImportError as error:
            raise missing_extra("Downloads from YouTube", "kinetics") from error
        try:
            self._cookies = cookies.read_text() if cookies else None
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{cookies} is no file of cookies that can be read: {error}") from error
        self._options = {
            "format": "bv*/b",
            # The largest that is not above; of these H.264 in MP4, which decodes fastest.
            "format_sort": [f"res:{SIDE_PX}", "vcodec:h264", "ext:mp4"],
            "format_sort_force": True,
            "allowed_extractors": ["youtube$"],  # an id is never taken for anything else
            "noplaylist": True,
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _NullLogger(),
            "overwrites": True,
            "updatetime": False,
            "retries": 3,
            "extractor_retries": 2,
            "socket_timeout": 30,
            "sleep_interval_requests": 0.75,  # as yt-dlp advises for many videos
            **(options or {}),
        }

    def fetch(self, youtube_id: str, folder: Path) -> Path:
        """The whole video, in the folder."""
        from yt_dlp import YoutubeDL

        place = str(folder.absolute()).replace("%", "%%")
        if "$" in place:
            raise StorageError(f"yt-dlp takes the $ in {folder} for a variable: choose another folder")
        options = {**self._options, "outtmpl": f"{place}/video.%(ext)s"}
        if self._cookies is not None:
            options["cookiefile"] = StringIO(self._cookies)  # a copy, because yt-dlp writes them back
        try:
            with YoutubeDL(options) as downloader:
                downloader.extract_info(f"https://www.youtube.com/watch?v={youtube_id}")
        except Exception as error:  # of yt-dlp, which hands on whatever its parts raise
            raise _judged(error) from error
        files = sorted(folder.iterdir())
        if len(files) != 1:
            raise FetchFailure("unknown", f"{len(files)} files came instead of one")
        return files[0]


class _NullLogger:
    """Takes what yt-dlp has to say; what matters comes as an error."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def _judged(error: Exception) -> Exception:
    """The error to raise for one that came out of yt-dlp."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return StorageError(f"cannot write the video: {cause.strerror}")
    # Its messages are "ERROR: [youtube] ID: words", in colors where a terminal looks on.
    words = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).removeprefix("ERROR: ")
    words = re.sub(r"^\[\w+\] \S+: ", "", words).strip()
    if any(type(cause).__name__ == "GeoRestrictedError" for cause in chain):
        return FetchFailure("geo-blocked", words)
    status = next((name for name, pattern in _REASONS if re.search(pattern, words, re.IGNORECASE)), "unknown")
    return FetchFailure(status, words or repr(error))


def _causes(error: BaseException) -> list[BaseException]:
    """An error and all that it came from, yt-dlp's own ways of handing on included."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            handed_on = getattr(one, "exc_info", None) or ()
            todo += [one.__cause__, one.__context__, getattr(one, "cause", None), *handed_on[1:2]]
    return found
