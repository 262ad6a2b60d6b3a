"""Status of every clip of a download, in a table that survives interruptions at any moment."""

import json
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.errors import StorageError

TABLE_NAME = "download.jsonl"

AVAILABLE = {
    "ok": "the clip exists",
    "short": "the clip exists but is over a second shorter than listed, because its source ends early",
}
PERMANENT = {
    "private": "the video is private",
    "removed": "the video or its account was removed",
    "geo-blocked": "the video is not available in this country",
    "age-restricted": "the video requires signing in to confirm the age",
    "members-only": "the video is available to paying members only",
    "unplayable": "the video has no downloadable stream: live, or with copy protection",
    "too-short": "the video ends before the clip starts",
    "absent": "the archives do not contain the clip",
}
"""Failures that are not tried again, except on request."""
TRANSIENT = {
    "rate-limited": "the service asked to slow down",
    "network": "the connection failed",
    "damaged": "the downloaded file cannot be decoded",
    "unknown": "another error, reported by the download program",
}
"""Failures that the next run tries again."""
_NOT_TRIED = "not tried"
DESCRIPTIONS = {**AVAILABLE, **PERMANENT, **TRANSIENT, _NOT_TRIED: "run the command again"}
"""A description of every status."""


@dataclass(frozen=True)
class ClipStatus:
    """Result of the last attempt to download a clip."""

    path: str
    """Path of the clip inside the folder."""
    status: str
    """A key of ``AVAILABLE``, ``PERMANENT`` or ``TRANSIENT``."""
    source: str
    """``youtube``, or the name of an archive."""
    reason: str = ""
    """The full message."""
    seconds: float | None = None
    """Duration of the written clip, if measured."""

    @property
    def done(self) -> bool:
        """True if the clip exists."""
        return self.status in AVAILABLE


class StatusTable:
    """Table of clip statuses in a JSON lines file; safe to use from several threads.

    Rows are appended and reach the disk at once. The last row of a clip counts. An incomplete row at the end, left by
    a kill or a full disk, is ignored and overwritten.

    Args:
        folder: Folder of the table. The caller must hold its :class:`~quovadis.runtime.locks.FolderLock`.

    Raises:
        StorageError: If the table cannot be read or written.

    Example:
        >>> with StatusTable(getfixture("tmp_path")) as table:
        ...     table.record(ClipStatus("abseiling/x.mp4", "private", "youtube", "Private video"))
        >>> read_status(getfixture("tmp_path"))["abseiling/x.mp4"].status
        'private'
    """

    def __init__(self, folder: Path):
        self.path = folder / TABLE_NAME
        self._rows = dict(read_status(folder))
        self._lock = threading.Lock()
        try:
            self.path.touch()
            self._end = self.path.read_bytes().rfind(b"\n") + 1  # end of the last complete row
            self._file = self.path.open("r+b", buffering=0)
            self._file.truncate(self._end)
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}") from error

    def __enter__(self) -> "StatusTable":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, path: str) -> ClipStatus | None:
        """Return the status of a clip, or None if it was never tried."""
        return self._rows.get(path)

    def record(self, row: ClipStatus) -> None:
        """Append a row."""
        line = json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._file.seek(self._end)  # overwrite what an earlier failure may have left
                written = self._file.write(line) or 0
            except OSError as error:
                raise StorageError(f"cannot write {self.path}: {error.strerror}") from error
            if written < len(line):
                raise StorageError(f"cannot write {self.path}: no space left on the disk")
            self._end += len(line)
            self._rows[row.path] = row


def read_status(folder: Path) -> Mapping[str, ClipStatus]:
    """Read the last status of each clip by its path, without a lock; empty if nothing was downloaded.

    Raises:
        StorageError: If the table cannot be read, or has an invalid line.
    """
    path = folder / TABLE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    rows = {}
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            row = ClipStatus(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise StorageError(f"{path}:{number} is not a valid row: {error}; delete that line") from error
        rows[row.path] = row
    return rows


@dataclass(frozen=True)
class DownloadReport:
    """Summary of a download."""

    table: Path
    """The table with the status of every clip."""
    counts: Mapping[str, int]
    """Clips by status, most frequent first; ``not tried`` for clips without a status."""
    missing_by_class: Mapping[str, int]
    """Missing clips of each class that has any, most first."""
    problems: tuple[str, ...] = ()
    """Archives that could not be used, with the reason."""

    @classmethod
    def of(cls, clips: Collection[KineticsClip], folder: Path, problems: Sequence[str] = ()) -> "DownloadReport":
        """Create the report on these clips from the table of the folder."""
        rows = read_status(folder)
        status = {clip: row.status if (row := rows.get(str(clip.path))) else _NOT_TRIED for clip in clips}
        missing = Counter(clip.label or clip.split for clip in clips if status[clip] not in AVAILABLE)
        counts = Counter(status.values())
        return cls(folder / TABLE_NAME, dict(counts.most_common()), dict(missing.most_common()), tuple(problems))

    @property
    def num_clips(self) -> int:
        """Number of requested clips."""
        return sum(self.counts.values())

    @property
    def num_available(self) -> int:
        """Number of clips that exist."""
        return sum(count for status, count in self.counts.items() if status in AVAILABLE)
