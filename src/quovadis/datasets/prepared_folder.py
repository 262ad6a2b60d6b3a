"""Bookkeeping of a prepared dataset's folder: its settings, corrupt videos and free space."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from quovadis.errors import StorageError
from quovadis.runtime.atomic import sweep_partials, write_atomically

MANIFEST_NAME = "manifest.parquet"
QUARANTINE_NAME = "quarantine.jsonl"
_SETTINGS_NAME = "prepared.json"


def claim_folder(root: Path, settings: dict[str, Any]) -> None:
    """Store the settings in the folder, so that videos of different settings are never mixed.

    Raises:
        StorageError: If the folder has other settings or other files.
    """
    sweep_partials(root)
    file = root / _SETTINGS_NAME
    if file.is_file():
        stored = _read_settings(file)
        if stored != settings:
            names = [name for name in settings if stored.get(name) != settings[name]]
            differing = ", ".join(f"{name} is {stored.get(name)}, not {settings[name]}" for name in names)
            raise StorageError(
                f"{root} contains a dataset that was prepared with other settings ({differing}): choose another --out"
            )
        return
    foreign = [p.name for p in root.iterdir() if not p.name.startswith(".")]
    if foreign:
        raise StorageError(f"{root} contains other files ({foreign[0]} ...): choose an empty folder")
    write_atomically(file, json.dumps(settings, indent=2) + "\n")


def is_prepared(root: Path) -> bool:
    """Return whether a folder contains a prepared dataset.

    >>> is_prepared(Path("videos"))
    False
    """
    return (root / _SETTINGS_NAME).is_file()


def require_space(root: Path, num_bytes: int) -> None:
    """Raise :class:`StorageError` if the disk has less free space than this."""
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < num_bytes:
        raise StorageError(
            f"{root} has {free / 1e9:.1f} GB of free space, but the prepared dataset needs about "
            f"{num_bytes / 1e9:.1f} GB: choose another --out, or prepare fewer videos"
        )


class Quarantine:
    """List of corrupt videos in a JSON lines file, each valid until the video changes."""

    def __init__(self, path: Path):
        self._path = path
        self._reasons: dict[tuple[str, int, int], str] = {}
        with suppress(FileNotFoundError):
            for line in path.read_text().splitlines():
                with suppress(ValueError, KeyError):  # an incomplete line, after a kill
                    row = json.loads(line)
                    self._reasons[row["source"], row["size_bytes"], row["mtime_ns"]] = row["reason"]

    def reason(self, video: Path) -> str | None:
        """Return why a video is corrupt, or None if it is not listed or has changed."""
        key = _file_state(video)
        return None if key is None else self._reasons.get(key)

    def add(self, video: Path, reason: str) -> None:
        """List a corrupt video."""
        key = _file_state(video)
        if key is None:
            return
        row = dict(zip(("source", "size_bytes", "mtime_ns"), key, strict=True)) | {"reason": reason}
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self._path}: {error.strerror}") from error


def _file_state(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return str(path), status.st_size, status.st_mtime_ns


def _read_settings(file: Path) -> dict[str, Any]:
    try:
        settings = json.loads(file.read_bytes())
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise StorageError(
            f"{file} is damaged; expected the settings of this folder as JSON. Delete it together with the videos in "
            "the folder, or choose another --out"
        )
    return settings
