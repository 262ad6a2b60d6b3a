"""Parquet format of manifests: one row per video; name, labels and notes in the file's metadata.

Any tool that reads Parquet can read the table. This module converts between files and plain columns;
:class:`quovadis.datasets.manifest.Manifest` gives them their meaning.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quovadis.datasets.text_files import require_file
from quovadis.errors import DatasetError, StorageError
from quovadis.runtime.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
FORMAT_VERSION = 1
_METADATA_KEY = b"quovadis.manifest"
COLUMNS = {
    "path": "string",
    "label": "string",
    "split": "string",
    "group": "string",
    "num_frames": "int64",
    "fps": "double",
    "duration_seconds": "double",
    "width_px": "int32",
    "height_px": "int32",
    "size_bytes": "int64",
    "sha256": "string",
    "status": "string",
    "reason": "string",
}
"""Names and Arrow types of the columns; unknown values are null."""


def write_manifest_file(path: Path, columns: Mapping[str, list[Any]], metadata: Mapping[str, Any]) -> None:
    """Write a manifest atomically.

    Args:
        path: The Parquet file.
        columns: The values of each of :data:`COLUMNS`.
        metadata: ``name``, ``labels``, ``notes`` and ``root``, stored as JSON next to the format version.

    Raises:
        StorageError: If the file cannot be written, or exists and is not a manifest.
        DatasetError: If a file name is not valid UTF-8.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    refuse_to_replace(path)
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in COLUMNS.items()],
        metadata={_METADATA_KEY: json.dumps({"version": FORMAT_VERSION, **metadata}, ensure_ascii=False)},
    )
    try:
        with atomic_path(path) as partial:
            pq.write_table(pa.table(columns, schema=schema), partial, compression="zstd", write_page_checksum=True)
    except UnicodeEncodeError as error:
        raise DatasetError(f"{error.object!r} is not valid UTF-8, which Parquet requires: rename the file") from error


def read_manifest_file(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the rows and the metadata of a manifest.

    Raises:
        DatasetError: If the file is missing, damaged, not a Parquet file, not a manifest, of a newer format, or has
            other columns than :data:`COLUMNS`.
    """
    table = _read_table(path)
    metadata = _metadata(path, table)
    types = {field.name: str(field.type) for field in table.schema}
    wrong = [f"{n} is {types.get(n, 'absent')}, not {kind}" for n, kind in COLUMNS.items() if types.get(n) != kind]
    if wrong:
        raise DatasetError(f"{path} is a manifest with unexpected columns: {', '.join(wrong)}")
    return table.select(list(COLUMNS)).to_pylist(), metadata


def refuse_to_replace(path: Path) -> None:
    """Raise :class:`StorageError` if a file exists that is not a manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return
    try:
        if _METADATA_KEY in (pq.read_schema(path).metadata or {}):
            return
    except (pa.ArrowException, OSError):
        pass
    raise StorageError(f"{path} exists and is not a manifest: move it away, or choose another output file")


def portable_root(file: Path, root: Path) -> str:
    """Return the root relative to the folder of the manifest if one contains the other, else as an absolute path.

    With a relative root, a folder can be moved together with its manifest.
    """
    folder, root = file.absolute().parent.resolve(), root.resolve()
    if folder == root or root.is_relative_to(folder) or folder.is_relative_to(root):
        return Path(os.path.relpath(root, folder)).as_posix()
    return root.as_posix()


def _read_table(path: Path) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path, "manifest")
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DatasetError(f"{path} is damaged or not a Parquet file: {reason}") from error


def _metadata(path: Path, table: pyarrow.Table) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise DatasetError(
            f"{path} is a Parquet file but not a manifest; its columns: {', '.join(table.schema.names) or 'none'}. "
            "To make a manifest from a folder, or from a .csv with the columns path and label, run: quovadis data index"
        )
    try:
        metadata = json.loads(text)
        version = metadata["version"]
        if version > FORMAT_VERSION:
            raise DatasetError(
                f"{path} is a manifest of format {version}, and this version of quovadis reads up to "
                f"{FORMAT_VERSION}: upgrade quovadis, or index the videos again"
            )
        strings = [metadata["name"], metadata["root"], *metadata["labels"], *metadata["notes"]]
        if not all(isinstance(value, str) for value in strings) or isinstance(metadata["labels"], str):
            raise TypeError
        return dict(metadata)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path} is a manifest with invalid metadata: index the videos again") from error
