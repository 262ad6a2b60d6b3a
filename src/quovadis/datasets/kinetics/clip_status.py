"""What became of each clip of a download: a table that survives being killed at any moment."""

import json
import threading
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.errors import StorageError

TABLE_NAME = "download.jsonl"

DONE = MappingProxyType(
    {
        "ok": "the clip is there",
        "short": "the clip is there, and more than a second shorter than listed: its source ends before",
    }
)
FINAL = MappingProxyType(
    {
        "private": "its uploader made the video private",
        "removed": "the video was removed, or its account",
        "geo-blocked": "the video is not shown in this country",
        "age-restricted": "the video is shown to adults who are signed in",
        "members-only": "the video is shown to those who pay",
        "unplayable": "the video has no stream that can be had: live, or with copy protection",
        "too-short": "the video ends before the clip begins",
        "absent": "the archives do not hold the clip",
    }
)
"""Asking again will not help, so it is done only on demand."""
PASSING = MappingProxyType(
    {
        "rate-limited": "the service asked to slow down",
        "network": "the connection failed",
        "damaged": "the file that came cannot be decoded",
        "unknown": "something else, in the words of the program that fetches",
    }
)
"""May pass, so the next run tries again."""


@dataclass(frozen=True)
class ClipStatus:
    """One row: how the last try at a clip came out."""

    path: str
    """Of the clip, in its folder; the key of the table."""
    status: str
    """A word of ``DONE``, ``FINAL`` or ``PASSING``."""
    source: str
    """``youtube``, or the archive that it came from."""
    reason: str = ""
    """What was said, in full."""
    seconds: float | None = None
    """Of video that was written, where it was measured."""

    @property
    def done(self) -> bool:
        """True when the clip is there."""
        return self.status in DONE


class StatusTable:
    """The rows of a folder, by the path of the clip; every row is on the disk before the next clip begins.

    A file of JSON lines that only grows; the last row of a clip counts. Safe to use from several threads.

    Args:
        folder: where the table lies; the caller holds the :class:`~quovadis.runtime.locks.FolderLock`.

    Raises:
        StorageError: it cannot be read or written.

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
            self._end = self.path.read_bytes().rfind(b"\n") + 1  # then comes what a kill or a full disk left of a row
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
        """The row of a clip."""
        return self._rows.get(path)

    def record(self, row: ClipStatus) -> None:
        """Add a row."""
        line = json.dumps(asdict(row), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                self._file.seek(self._end)  # over what an earlier failure may have left
                written = self._file.write(line) or 0
            except OSError as error:
                raise StorageError(f"cannot write {self.path}: {error.strerror}") from error
            if written < len(line):
                raise StorageError(f"cannot write {self.path}: no space left on the disk")
            self._end += len(line)
            self._rows[row.path] = row


def read_status(folder: Path) -> Mapping[str, ClipStatus]:
    """The last row of each clip, by its path; empty where nothing was downloaded. Needs no lock.

    Raises:
        StorageError: the table cannot be read, or has a line that is no row.
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
            raise StorageError(f"{path}:{number} is no row of a download: {error}; delete that line") from error
        rows[row.path] = row
    return rows


@dataclass(frozen=True)
class DownloadReport:
    """How a download stands."""

    table: Path
    """Says of every clip what became of it, and why."""
    counts: Mapping[str, int]
    """Clips by status, the most first; ``not tried`` for those that have no row."""
    missing_by_class: Mapping[str, int]
    """Clips that are not there, of each class that lacks any, the most first."""
    problems: tuple[str, ...] = ()
    """What could not be used: archives that are broken or not to be trusted."""

    @classmethod
    def of(cls, clips: Collection[KineticsClip], folder: Path, problems: Sequence[str] = ()) -> "DownloadReport":
        """The report on these clips, from the table of the folder."""
        rows = read_status(folder)
        status = {clip: row.status if (row := rows.get(str(clip.path))) else "not tried" for clip in clips}
        missing = Counter(clip.label or clip.split for clip in clips if status[clip] not in DONE)
        counts = Counter(status.values())
        return cls(folder / TABLE_NAME, dict(counts.most_common()), dict(missing.most_common()), tuple(problems))

    @property
    def num_clips(self) -> int:
        """All that were wanted."""
        return sum(self.counts.values())

    @property
    def num_there(self) -> int:
        """Clips that are there."""
        return sum(count for status, count in self.counts.items() if status in DONE)
