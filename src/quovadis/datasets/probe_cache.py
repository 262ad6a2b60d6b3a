"""What was found out about video files, kept between runs: a file that has not changed is not looked at again."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import warnings
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

from quovadis.errors import StorageError
from quovadis.runtime.cache import cache_folder

_VERSION = 1
_WRITE_EVERY_SECONDS = 1.0


class ProbeCache:
    """Facts about files, by absolute path, size and time of the last change.

    What is put is on disk within about a second, so a run that is killed goes on nearly where it was. Several
    processes may use one file.

    Args:
        path: an SQLite file, made when it is not there; by default ``facts.sqlite`` in
            :func:`quovadis.runtime.cache.cache_folder`. If it cannot be used (read-only, disk full, damaged), a warning
            is printed and the facts of this run are kept in memory.

    Raises:
        StorageError: the file ``path`` cannot be read or written.

    >>> file = getfixture("tmp_path") / "a.mp4"
    >>> _ = file.write_bytes(b"1234")
    >>> with ProbeCache(getfixture("tmp_path") / "facts.sqlite") as cache:
    ...     cache.put(file, file.stat(), {"num_frames": 30})
    ...     print(cache.get(file, file.stat()))
    {'num_frames': 30}
    """

    def __init__(self, path: str | PathLike[str] | None = None):
        self.path = Path(path) if path is not None else cache_folder() / "facts.sqlite"
        self._is_optional = path is None
        self._pending: dict[tuple[bytes, int, int], str] = {}
        self._written_at = 0.0
        self._database: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._prepare(self._database)
        except (OSError, sqlite3.Error) as error:
            self._fail(error)

    def get(self, file: Path, status: os.stat_result) -> dict[str, Any] | None:
        """The facts of a file that is still what it was; else None."""
        key = _key(file, status)
        if key in self._pending:
            return dict(json.loads(self._pending[key]))
        row = None
        if self._database is not None:
            select = "SELECT facts FROM facts WHERE path = ? AND size = ? AND changed_ns = ?"
            try:
                row = self._database.execute(select, key).fetchone()
            except sqlite3.Error as error:
                self._fail(error)
        return None if row is None else dict(json.loads(row[0]))

    def put(self, file: Path, status: os.stat_result, facts: dict[str, Any]) -> None:
        """Remember facts; ``status`` is that of before the file was read, so that a change meanwhile is noticed."""
        self._pending[_key(file, status)] = json.dumps(facts)
        if time.monotonic() - self._written_at > _WRITE_EVERY_SECONDS:
            self._write()

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._close()

    @staticmethod
    def _prepare(database: sqlite3.Connection) -> None:
        def version() -> int:
            return int(database.execute("PRAGMA user_version").fetchone()[0])

        if version() == _VERSION:
            return
        database.execute("BEGIN IMMEDIATE")
        if version() != _VERSION:  # another process may have been quicker
            database.execute("DROP TABLE IF EXISTS facts")
            database.execute(
                "CREATE TABLE facts (path BLOB PRIMARY KEY, size INTEGER, changed_ns INTEGER, facts TEXT) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")

    def _write(self) -> None:
        """In one short transaction, so that another process never waits for long."""
        if self._database is None or not self._pending:
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            rows = [(*key, facts) for key, facts in self._pending.items()]
            self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._pending.clear()
            self._written_at = time.monotonic()

    def _fail(self, error: OSError | sqlite3.Error) -> None:
        """Go on in memory with a warning; raise if the caller named the file."""
        self._close()
        reason = getattr(error, "strerror", None) or error
        if self._is_optional:
            warnings.warn(
                f"cannot use the cache {self.path}: {reason}. Continuing without it; set QUOVADIS_CACHE to a folder "
                "that can be written to",
                stacklevel=3,
            )
            return
        raise StorageError(
            f"the cache of facts {self.path} cannot be used: {reason}. Delete it (it is only a cache), or set "
            "QUOVADIS_CACHE to another folder"
        ) from error

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _key(file: Path, status: os.stat_result) -> tuple[bytes, int, int]:
    return os.fsencode(file.absolute()), status.st_size, status.st_mtime_ns
