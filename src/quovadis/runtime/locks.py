"""One process at a time in a folder."""

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType

from quovadis.errors import StorageError

LOCK_NAME = ".quovadis.lock"


class FolderLock:
    """Keep other processes out of a folder while this one writes there.

    The file ``.quovadis.lock`` says who works there. The lock itself is the operating system's (``flock``), which frees
    it when the process ends, however it ends: a file that was left by a process that was killed is taken over. Systems
    without such locks (Windows) trust the caller.

    Args:
        folder: the folder; made if it is not there.
        work: what is done there, for the message that the other process shows.

    Raises:
        StorageError: another process works there (says which), or the folder cannot be written to.

    >>> folder = getfixture("tmp_path")
    >>> with FolderLock(folder, "a download"):
    ...     with FolderLock(folder, "another"):
    ...         pass
    Traceback (most recent call last):
    quovadis.errors.StorageError: ... is in use by process ... (a download, since ...): wait for it, or stop it
    """

    def __init__(self, folder: Path, work: str):
        self.folder = folder
        self._path = folder / LOCK_NAME
        self._work = work
        self._file: TextIOWrapper | None = None

    def __enter__(self) -> "FolderLock":
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._acquire()
            self._file.truncate(0)
            who = {"pid": os.getpid(), "host": socket.gethostname(), "work": self._work, "since": _now()}
            self._file.write(json.dumps(who) + "\n")
            self._file.flush()
        except OSError as error:
            if self._file is not None:
                self._file.close()
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"cannot write to {self.folder}: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._path.unlink(missing_ok=True)  # while it is still held: who opened it before sees that it is gone
        self._file.close()

    def _acquire(self) -> TextIOWrapper:
        while True:
            file = self._path.open("a+", encoding="utf-8")
            if not _flock(file):
                file.seek(0)
                holder = file.read()
                file.close()
                raise StorageError(f"{self.folder} is in use by {_describe(holder)}: wait for it, or stop it")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return file
            file.close()  # the holder before removed this very file between our opening and our locking it


def _flock(file: TextIOWrapper) -> bool:
    """Lock an open file, or say that another holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe(holder: str) -> str:
    try:
        who = json.loads(holder)
        return f"process {who['pid']} on {who['host']} ({who['work']}, since {who['since']})"
    except (ValueError, KeyError, TypeError):  # it has the lock, and has not written yet who it is
        return "another process"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
