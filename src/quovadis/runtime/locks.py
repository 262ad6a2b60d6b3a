"""File locks between processes, released by the operating system when the process ends."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from quovadis.errors import StorageError

LOCK_NAME = ".quovadis.lock"
_ATTEMPT_SECONDS = 0.2
"""Longer than one attempt: a holder that leaves removes the file, perhaps while another process opens it."""


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait until no other process writes a file, and keep other processes out during the block.

    The lock is a file ``NAME.lock`` next to the path; it is removed at the end.
    """
    lock = path.with_name(path.name + ".lock")
    with FileLock(lock, fallback_to_soft=False):
        try:
            yield
        finally:
            _remove(lock)


class FolderLock:
    """Keep other processes out of a folder while this one writes to it.

    The file ``.quovadis.lock`` in the folder names the holder of the lock. A file left by a killed process does not
    block others.

    Args:
        folder: The folder. It is created.
        work: What this process does there, for the error message in other processes.

    Raises:
        StorageError: If another process holds the lock, or the folder is not writable.

    >>> folder = getfixture("tmp_path")
    >>> with FolderLock(folder, "a download"):
    ...     with FolderLock(folder, "another"):
    ...         pass
    Traceback (most recent call last):
    quovadis.errors.StorageError: ... is in use by process ... (a download, since ...): wait for it, or stop it
    """

    def __init__(self, folder: Path, work: str):
        self.folder = folder
        self._work = work
        self._path = folder / LOCK_NAME
        self._lock = FileLock(self._path, timeout=_ATTEMPT_SECONDS, thread_local=False, fallback_to_soft=False)

    def __enter__(self) -> "FolderLock":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._write_holder()
        except Timeout as error:
            raise StorageError(f"{self.folder} is in use by {self._holder()}: wait for it, or stop it") from error
        except OSError as error:
            self._lock.release()
            raise StorageError(f"cannot write to {self.folder}: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self._path)
        self._lock.release()

    def _write_holder(self) -> None:
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "work": self._work, "since": since}
        with suppress(PermissionError):  # Windows does not write to a locked file
            self._path.write_text(json.dumps(holder) + "\n", encoding="utf-8")

    def _holder(self) -> str:
        try:
            holder = json.loads(self._path.read_text(encoding="utf-8"))
            return f"process {holder['pid']} on {holder['host']} ({holder['work']}, since {holder['since']})"
        except (OSError, ValueError, KeyError, TypeError):  # the holder has not written it yet
            return "another process"


def _remove(lock: Path) -> None:
    """Remove a lock file that this process holds. A process that has opened it tries again with a new file."""
    with suppress(OSError):
        lock.unlink()
