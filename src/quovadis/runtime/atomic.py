"""Write files so that they appear complete or not at all.

All files of quovadis are written through this module. Use :func:`write_atomically` for content in memory,
:func:`atomic_path` for a library that writes to a path, and :class:`PartialFile` for an object that writes over time.

Data are written next to the target as ``.quovadis-HOST-RANDOM.part`` and renamed at the end. The writer holds an
operating system lock on that file, which is released when the process exits or is killed. The first write to a folder
removes the partial files that are no longer locked.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quovadis.errors import QuovadisError, StorageError
from quovadis.runtime.hashing import sha256_text

_PARTIAL = re.compile(r"\.quovadis-([0-9a-f]{8})-[0-9a-f]{16}\.part(\.[^.]+)?")
_LONGEST_SUFFIX = 16
# Used where locks cannot be checked: files of another host, or file systems without locks.
_ABANDONED_AFTER_SECONDS = 24 * 3600.0

_swept: set[Path] = set()


class PartialFile:
    """A file or folder that is moved to its target when it is complete.

    Args:
        target: The final path. Its parent folder is created.
        folder: Write a folder instead of a file. It replaces an existing folder.

    Raises:
        StorageError: If the target cannot be written.

    >>> target = getfixture("tmp_path") / "a.txt"
    >>> partial = PartialFile(target)
    >>> _ = partial.path.write_text("text")
    >>> target.exists()
    False
    >>> partial.commit()
    >>> target.read_text()
    'text'
    """

    path: Path
    """The path to write to. It has the suffix of the target."""
    _descriptor: int | None = None

    def __init__(self, target: Path, *, folder: bool = False):
        self.target = target
        self._is_folder = folder
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _require_kind(target, folder=folder)
            _sweep_once(target.parent)
            self._create()

    def commit(self) -> None:
        """Move the complete file to its target.

        Raises:
            StorageError: If it cannot be moved. The target is unchanged.
        """
        with storage_errors(self.target):
            if self._is_folder:
                shutil.rmtree(self.target, ignore_errors=True)
            os.replace(self.path, self.target)
        self._unlock()

    def discard(self) -> None:
        """Remove the partial file. No-op after :meth:`commit`."""
        if self._descriptor is not None:
            _remove(self.path)
            self._unlock()

    def _create(self) -> None:
        suffix = self.target.suffix if len(self.target.suffix) <= _LONGEST_SUFFIX else ""
        while True:
            name = f".quovadis-{_host()}-{secrets.token_hex(8)}.part{suffix}"
            self.path = self.target.with_name(name)
            if self._is_folder:
                self.path.mkdir()
            else:
                self.path.touch(exist_ok=False)
            # Another process may remove the file as abandoned before it is locked.
            with suppress(FileNotFoundError):
                self._descriptor = _open(self.path)
                if _lock(self._descriptor) is not False and self.path.exists():
                    return
            self._unlock()

    def _unlock(self) -> None:
        if self._descriptor is not None and self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = None


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path; the file is moved to ``target`` at the end of the block.

    If the block raises an exception, the temporary file is removed and ``target`` is unchanged.

    Args:
        target: The final path. Its parent folder is created.

    Yields:
        A path in the same folder, with the same suffix.

    Raises:
        StorageError: If the target cannot be written, or the block raised an OSError.

    >>> target = getfixture("tmp_path") / "a.txt"
    >>> with atomic_path(target) as path:
    ...     _ = path.write_text("text")
    >>> target.read_text()
    'text'
    """
    partial = PartialFile(Path(target))
    try:
        with storage_errors(partial.target):
            yield partial.path
        partial.commit()
    finally:
        partial.discard()


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> Path:
    """Write a file, flushed to disk before it replaces an existing one.

    Args:
        path: The file. Its parent folder is created.
        content: Bytes, or text that is written as UTF-8.

    Returns:
        The path.

    Raises:
        StorageError: If the file cannot be written. An existing file is unchanged.

    >>> write_atomically(getfixture("tmp_path") / "a.txt", "text").read_text()
    'text'
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


@contextmanager
def storage_errors(target: Path, hint: str = "an existing file is unchanged") -> Iterator[None]:
    """Turn an OSError into a :class:`~quovadis.errors.StorageError` that names the target."""
    try:
        yield
    except QuovadisError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {target}: {_reason(target, error)}; {hint}") from error


def sweep_partials(folder: Path) -> None:
    """Remove partial files of terminated processes from a folder and its subfolders.

    Files of another host, and files on a file system without locks, are removed a day after their last change.
    """
    for root, folders, files in os.walk(folder):
        _remove_abandoned(Path(root), folders + files)
        folders[:] = [name for name in folders if not _PARTIAL.fullmatch(name)]


def _sweep_once(folder: Path) -> None:
    """Sweep one folder without its subfolders, once per process."""
    folder = folder.absolute()
    if folder not in _swept:
        _swept.add(folder)
        with suppress(OSError):
            _remove_abandoned(folder, os.listdir(folder))


def _remove_abandoned(folder: Path, names: list[str]) -> None:
    for name in names:
        if match := _PARTIAL.fullmatch(name):
            with suppress(OSError):  # moved to its target in the meantime, or owned by another user
                _remove_if_abandoned(folder / name, own_host=match[1] == _host())


def _remove_if_abandoned(path: Path, *, own_host: bool) -> None:
    unchanged_seconds = time.time() - path.lstat().st_mtime
    descriptor = _open(path)
    try:
        locked = _lock(descriptor)
        proven = locked is True and own_host
        if locked is not False and (proven or unchanged_seconds > _ABANDONED_AFTER_SECONDS):
            _remove(path)
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open(path: Path) -> int:
    """Open a file or folder to lock it. Returns -1 on Windows, which has no such locks."""
    if os.name == "nt":  # open files cannot be renamed or removed
        return -1
    mode = os.O_RDONLY if stat.S_ISDIR(path.lstat().st_mode) else os.O_RDWR
    return os.open(path, mode | os.O_NOFOLLOW | os.O_CLOEXEC)


def _lock(descriptor: int) -> bool | None:
    """Lock an open file. Returns False if another process holds the lock, None if locks are not supported."""
    if descriptor < 0:
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _host() -> str:
    return sha256_text(socket.gethostname())[:8]


def _require_kind(target: Path, *, folder: bool) -> None:
    """Raise before any work if the name is too long or the target is of the other kind."""
    with suppress(FileNotFoundError):
        is_folder = stat.S_ISDIR(target.lstat().st_mode)
        if is_folder and not folder:
            raise StorageError(f"cannot write {target}: it is a folder")
        if folder and not is_folder:
            raise StorageError(f"cannot write {target}: it is not a folder")


def _reason(target: Path, error: OSError) -> str:
    for folder in target.parents:
        with suppress(OSError):
            if folder.exists() and not folder.is_dir():
                return f"{folder} is a file, not a folder"
    return error.strerror or str(error)
