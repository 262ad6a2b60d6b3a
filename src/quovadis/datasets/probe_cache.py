"""Cache of probe results, so that unchanged video files are not inspected again."""

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
_WRITE_INTERVAL_SECONDS = 1.0


class ProbeCache:
    """SQLite cache of file properties, keyed by absolute path, size and modification time.

    New entries are written to disk about once per second, so an interrupted run loses little. Several processes may
    use one file.

    Args:
        path: SQLite file, created if needed. By default ``probes.sqlite`` in
            :func:`quovadis.runtime.cache.cache_folder`; if that cannot be used (read-only, disk full, damaged), a
            warning is printed and the cache is kept in memory.

    Raises:
        StorageError: If ``path`` is given and cannot be read or written.

    Example:
        >>> file = getfixture("tmp_path") / "a.mp4"
        >>> _ = file.write_bytes(b"1234")
        >>> with ProbeCache(getfixture("tmp_path") / "probes.sqlite") as cache:
        ...     cache.put(file, file.stat(), {"num_frames": 30})
        ...     print(cache.get(file, file.stat()))
        {'num_frames': 30}
    """

    def __init__(self, path: str | PathLike[str] | None = None):
        self.path = Path(path) if path is not None else cache_folder() / "probes.sqlite"
        self._is_optional = path is None
        self._pending: dict[tuple[bytes, int, int], str] = {}
        self._written_at = 0.0
        self._database: sqlite3.Connection | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            self._create_table(self._database)
        except (OSError, sqlite3.Error) as error:
            self._fail(error)

    def get(self, file: Path, status: os.stat_result) -> dict[str, Any] | None:
        """Return the cached properties of a file, or None if it is unknown or has changed."""
        key = _key(file, status)
        if key in self._pending:
            return dict(json.loads(self._pending[key]))
        row = None
        if self._database is not None:
            select = "SELECT probe FROM probes WHERE path = ? AND size = ? AND mtime_ns = ?"
            try:
                row = self._database.execute(select, key).fetchone()
            except sqlite3.Error as error:
                self._fail(error)
        return None if row is None else dict(json.loads(row[0]))

    def put(self, file: Path, status: os.stat_result, properties: dict[str, Any]) -> None:
        """Store the properties of a file.

        Args:
            file: The file.
            status: Its ``stat`` result from before it was read, so that a change while reading is detected.
            properties: Values that can be converted to JSON.
        """
        self._pending[_key(file, status)] = json.dumps(properties)
        if time.monotonic() - self._written_at > _WRITE_INTERVAL_SECONDS:
            self._write()

    def __enter__(self) -> ProbeCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()
        self._close()

    @staticmethod
    def _create_table(database: sqlite3.Connection) -> None:
        def version() -> int:
            return int(database.execute("PRAGMA user_version").fetchone()[0])

        if version() == _VERSION:
            return
        database.execute("BEGIN IMMEDIATE")
        if version() != _VERSION:  # check again, because another process may have created it meanwhile
            database.execute("DROP TABLE IF EXISTS probes")
            database.execute(
                "CREATE TABLE probes (path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, probe TEXT) WITHOUT ROWID"
            )
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")

    def _write(self) -> None:
        """Write pending entries in one short transaction, so that other processes do not wait long."""
        if self._database is None or not self._pending:
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            rows = [(*key, probe) for key, probe in self._pending.items()]
            self._database.executemany("INSERT OR REPLACE INTO probes VALUES (?, ?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._pending.clear()
            self._written_at = time.monotonic()

    def _fail(self, error: OSError | sqlite3.Error) -> None:
        """Continue in memory with a warning, or raise an error if the caller chose the file."""
        self._close()
        reason = getattr(error, "strerror", None) or error
        if self._is_optional:
            warnings.warn(
                f"cannot use the cache {self.path}: {reason}. Continuing without it; set QUOVADIS_CACHE to a writable "
                "folder",
                stacklevel=3,
            )
            return
        raise StorageError(
            f"cannot use the probe cache {self.path}: {reason}. Delete the file (it is only a cache), or set "
            "QUOVADIS_CACHE to another folder"
        ) from error

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _key(file: Path, status: os.stat_result) -> tuple[bytes, int, int]:
    return os.fsencode(file.absolute()), status.st_size, status.st_mtime_ns
