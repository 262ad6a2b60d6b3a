"""Output folder of a download: clips in their places, a status for each, scratch space for unfinished files."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.datasets.kinetics.clip_status import ClipStatus, StatusTable
from quovadis.runtime.locks import FolderLock
from quovadis.runtime.scratch import scratch_folder


class ClipFolder:
    """Folder that clips are downloaded to; safe to use from several threads.

    Use :func:`open_clip_folder` to create one.

    Args:
        root: The folder.
        table: The status of its clips.
        scratch: A folder on the same disk for unfinished files.
    """

    def __init__(self, root: Path, table: StatusTable, scratch: Path):
        self.root = root
        self._table = table
        self._scratch = scratch
        self._number = itertools.count()

    def scratch_path(self, name: str = "") -> Path:
        """Return a new path for an unfinished file or folder."""
        return self._scratch / f"{next(self._number)}{name}"

    def status(self, clip: KineticsClip) -> ClipStatus | None:
        """Return the status of a clip, or None if it was never tried."""
        return self._table.get(str(clip.path))

    def contains(self, clip: KineticsClip) -> bool:
        """Return True if the clip exists. Existing clips get a status if they have none."""
        if not (self.root / clip.path).is_file():
            return False
        status = self.status(clip)
        if status is None or not status.done:  # killed between file and status, or copied from elsewhere
            self.record(clip, "ok", "found", "existed before the download")
        return True

    def record(
        self, clip: KineticsClip, status: str, source: str, reason: str = "", seconds: float | None = None
    ) -> None:
        """Store the status of a clip."""
        self._table.record(ClipStatus(str(clip.path), status, source, reason, seconds))

    def move_in(self, file: Path, clip: KineticsClip) -> None:
        """Move a finished file to the path of its clip."""
        target = self.root / clip.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


@contextmanager
def open_clip_folder(root: Path, purpose: str) -> Iterator[ClipFolder]:
    """Lock a folder for downloading clips.

    Args:
        root: The folder, created if needed.
        purpose: What the process does, shown to other processes that try to use the folder.

    Raises:
        StorageError: If the folder cannot be written, or another process uses it.
    """
    with FolderLock(root, purpose), StatusTable(root) as table, scratch_folder(root) as scratch:
        yield ClipFolder(root, table, scratch)
