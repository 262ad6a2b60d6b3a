"""Download videos from YouTube with yt-dlp, and classify failures."""

import errno
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from quovadis.errors import DatasetError, StorageError
from quovadis.runtime.extras import missing_extra

_RESOLUTION_PX = 360
"""Requested short side: the smallest on YouTube that is not below the 256 of the models."""

# Status by pattern in the message of yt-dlp; the first match counts.
_STATUS_PATTERNS = (
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
    """A video could not be downloaded.

    Args:
        status: A key of ``PERMANENT`` or ``TRANSIENT`` in :mod:`quovadis.datasets.kinetics.clip_status`.
        reason: The full message.
    """

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status
        self.reason = reason


class VideoFetcher(Protocol):
    """Download a video by its ID; called from several threads."""

    def fetch(self, youtube_id: str, folder: Path) -> Path:
        """Download the whole video into an empty folder, and return its path.

        Raises:
            FetchFailure: If the video is not available.
            StorageError: If the video cannot be written.
        """
        ...


class YtDlpFetcher:
    """Download videos from YouTube with yt-dlp.

    Downloads video without sound if possible, so the ``ffmpeg`` program is not needed. Downloads the whole video,
    because partial downloads start at a key frame. Requires the extra ``kinetics``: yt-dlp, and Deno to run JavaScript.

    Args:
        cookies: Cookie file in Netscape format, for videos that require signing in. It is not modified.
        options: Options of ``yt_dlp.YoutubeDL`` that override the defaults chosen here.

    Raises:
        MissingExtraError: If yt-dlp is not installed.
        DatasetError: If the cookie file cannot be read.

    References:
        https://github.com/yt-dlp/yt-dlp
    """

    def __init__(self, *, cookies: Path | None = None, options: Mapping[str, Any] | None = None):
        try:
            import yt_dlp  # noqa: F401
        except ImportError as error:
            raise missing_extra("Downloads from YouTube", "kinetics") from error
        try:
            self._cookies = cookies.read_text() if cookies else None
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"cannot read the cookie file {cookies}: {error}") from error
        self._options = {
            "format": "bv*/b",
            # The largest resolution up to this one, preferably H.264 in MP4, which decodes fastest.
            "format_sort": [f"res:{_RESOLUTION_PX}", "vcodec:h264", "ext:mp4"],
            "format_sort_force": True,
            "allowed_extractors": ["youtube$"],  # do not interpret an ID as anything else
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
        """Download the whole video into the folder; see :meth:`VideoFetcher.fetch`."""
        from yt_dlp import YoutubeDL

        template = str(folder.absolute()).replace("%", "%%")
        if "$" in template:
            raise StorageError(f"yt-dlp expands the $ in {folder} as a variable: choose another folder")
        options = {**self._options, "outtmpl": f"{template}/video.%(ext)s"}
        if self._cookies is not None:
            options["cookiefile"] = StringIO(self._cookies)  # a copy, because yt-dlp writes them back
        try:
            with YoutubeDL(options) as downloader:
                downloader.extract_info(f"https://www.youtube.com/watch?v={youtube_id}")
        except Exception as error:  # yt-dlp raises many types
            raise _classify(error) from error
        files = sorted(folder.iterdir())
        if len(files) != 1:
            raise FetchFailure("unknown", f"yt-dlp wrote {len(files)} files; expected one")
        return files[0]


class _NullLogger:
    """Discard the log messages of yt-dlp; failures are raised as exceptions."""

    def debug(self, message: str) -> None: ...

    def warning(self, message: str) -> None: ...

    def error(self, message: str) -> None: ...


def _classify(error: Exception) -> Exception:
    """Convert an error of yt-dlp."""
    chain = list(_causes(error))
    for cause in chain:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return StorageError(f"cannot write the video: {cause.strerror}")
    # Messages have the form "ERROR: [youtube] ID: text", with colors in a terminal.
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).removeprefix("ERROR: ")
    text = re.sub(r"^\[\w+\] \S+: ", "", text).strip()
    if any(type(cause).__name__ == "GeoRestrictedError" for cause in chain):
        return FetchFailure("geo-blocked", text)
    status = next((name for name, pattern in _STATUS_PATTERNS if re.search(pattern, text, re.IGNORECASE)), "unknown")
    return FetchFailure(status, text or repr(error))


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and all its causes, including those that yt-dlp stores in attributes."""
    found: list[BaseException] = []
    todo: list[object] = [error]
    while todo:
        current = todo.pop()
        if isinstance(current, BaseException) and current not in found:
            found.append(current)
            exc_info = getattr(current, "exc_info", None) or ()
            todo += [current.__cause__, current.__context__, getattr(current, "cause", None), *exc_info[1:2]]
    return found
