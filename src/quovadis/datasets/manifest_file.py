"""A manifest as a Parquet file: one row a video, and in the file's metadata what holds for all of them."""

from __future__ import annotations

import json
import os
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from quovadis.datasets.assemble import decisions
from quovadis.datasets.manifest import SPLITS, STATUSES, UNLABELED, Manifest, VideoRecord
from quovadis.datasets.text_files import require_file
from quovadis.errors import DatasetError, StorageError
from quovadis.runtime.atomic import atomic_path

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
FORMAT_VERSION = 1
_LONGEST_NAME_BYTES = 255
_LONGEST_PATH_BYTES = 4095
_METADATA_KEY = b"quovadis.manifest"
_FACTS = {
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
_COLUMNS = {"path": "string", "label": "string", "split": "string", "group": "string"} | _FACTS


def save_manifest(data: Manifest, path: str | PathLike[str]) -> Path:
    """Write a manifest; the file appears whole or not at all.

    The columns are those of :class:`~quovadis.datasets.manifest.VideoRecord`, with the label by name and null where a
    fact is unknown, so that any tool for tables can read it. The metadata ``quovadis.manifest`` is JSON: format
    version, name, labels in order, notes, root. Paths are relative to the root, and the root to the file's folder
    where one lies in the other, so that a folder with its manifest can be moved; else the root is written in full.

    Raises:
        StorageError: it cannot be written, or something else than a manifest stands there.
        DatasetError: a file name that is not valid UTF-8.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = Path(path)
    refuse_to_replace(target)
    rows: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    for record in data.records:
        rows["path"].append(_stored_path(data, record.path))
        rows["label"].append(data.label_of(record) or None)
        for name in ("split", "group", *_FACTS):
            value = getattr(record, name)
            rows[name].append(None if value == "" and name == "sha256" else value)
    about = {
        "version": FORMAT_VERSION,
        "name": data.name,
        "labels": data.labels,
        "notes": decisions(data),
        "root": _root_from(target, data.root),
    }
    schema = pa.schema(
        [(name, pa.type_for_alias(kind)) for name, kind in _COLUMNS.items()],
        metadata={_METADATA_KEY: json.dumps(about, ensure_ascii=False)},
    )
    try:
        with atomic_path(target) as partial:
            pq.write_table(pa.table(rows, schema=schema), partial, compression="zstd", write_page_checksum=True)
    except UnicodeEncodeError as error:
        raise DatasetError(f"{error.object!r} is not valid UTF-8, which a Parquet file needs: rename it") from error
    return target


def read_manifest(path: str | PathLike[str], *, root: str | PathLike[str] | None = None) -> Manifest:
    """Read a manifest. Whether the files are there is not looked at.

    Args:
        path: the Parquet file.
        root: the folder of the videos, where it is no longer the one that the file names.

    Raises:
        DatasetError: no Parquet file, one of something else, a damaged one, one of a newer format, or one that
            contradicts itself: a label without a name, an unknown split or status, a path that leaves the root.
    """
    source = Path(path)
    table = _read_table(source)
    about = _metadata(source, table)
    there = {field.name: str(field.type) for field in table.schema}
    wrong = [f"{n} is {there.get(n, 'absent')}, not {kind}" for n, kind in _COLUMNS.items() if there.get(n) != kind]
    if wrong:
        raise DatasetError(f"{source} says that it is a manifest, and its columns are others: {', '.join(wrong)}")
    folder = Path(root) if root is not None else source.parent / about["root"]
    number = {label: i for i, label in enumerate(about["labels"])}
    records = [
        _record(row, folder, number, f"{source}, row {line}")
        for line, row in enumerate(table.select(list(_COLUMNS)).to_pylist(), start=1)
    ]
    return Manifest(about["name"], folder, tuple(about["labels"]), tuple(records), tuple(about["notes"]))


def path_within(root: Path, text: str, where: str) -> Path:
    """A listed path: relative to the root and inside it, or written in full.

    Raises:
        DatasetError: it leaves the root, or no file can have that name.

    >>> path_within(Path("videos"), "run/a.mp4", "list.csv:2").as_posix()
    'videos/run/a.mp4'
    """
    if ".." in text and ".." in PurePosixPath(text.replace("\\", "/")).parts:
        raise DatasetError(
            f"{where}: the path {text!r} leaves the dataset's folder {root}. Paths are relative to that folder and "
            "stay inside it: write this one in full, or name the folder that holds all videos as the root"
        )
    longest = max(text.replace("\\", "/").split("/"), key=len)
    if len(os.fsencode(longest)) > _LONGEST_NAME_BYTES or len(os.fsencode(text)) > _LONGEST_PATH_BYTES:
        raise DatasetError(
            f"{where}: no file can have the path {text[:60]!r}..., of {len(text)} characters: names have at most "
            f"{_LONGEST_NAME_BYTES} bytes and paths {_LONGEST_PATH_BYTES}. Is a quote not closed?"
        )
    return root / text


def _record(row: dict[str, Any], root: Path, number: dict[str, int], where: str) -> VideoRecord:
    label, split, status = row["label"], row["split"], row["status"]
    if label is not None and label not in number:
        raise DatasetError(f"{where}: class {label!r} is not among the {len(number)} labels of the manifest")
    if split not in SPLITS:
        raise DatasetError(f"{where}: split is {split!r}; expected {', '.join(SPLITS)}")
    if status not in STATUSES:
        raise DatasetError(f"{where}: status is {status!r}; expected {', '.join(STATUSES)}")
    if not row["path"]:
        raise DatasetError(f"{where}: the path is empty")
    values = {name: row[name] for name in _FACTS} | {"sha256": row["sha256"] or "", "reason": row["reason"] or ""}
    path = path_within(root, row["path"], where)
    return VideoRecord(path, UNLABELED if label is None else number[label], split, row["group"] or "", **values)


def _read_table(path: Path) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path, "manifest")
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DatasetError(f"{path} is not a Parquet file, or a damaged one: {reason}") from error


def _metadata(path: Path, table: pyarrow.Table) -> dict[str, Any]:
    text = (table.schema.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise DatasetError(
            f"{path} is a Parquet file of something else; its columns: {', '.join(table.schema.names) or 'none'}. A "
            "manifest is made by: quovadis data NAME_OR_PATH index (of a .csv with the columns path and label, too)"
        )
    try:
        about = json.loads(text)
        version = about["version"]
        if version > FORMAT_VERSION:
            raise DatasetError(
                f"{path} is a manifest of format {version}, and this quovadis reads up to {FORMAT_VERSION}: use a "
                "newer quovadis, or index the videos again"
            )
        strings = [about["name"], about["root"], *about["labels"], *about["notes"]]
        if not all(isinstance(value, str) for value in strings) or isinstance(about["labels"], str):
            raise TypeError
        return dict(about)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{path} is a manifest whose metadata cannot be understood: index the videos again"
        ) from error


def refuse_to_replace(target: Path) -> None:
    """A table that somebody made is not ours to overwrite.

    Raises:
        StorageError: there is a file, and it is no manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not target.exists():
        return
    try:
        if _METADATA_KEY in (pq.read_schema(target).metadata or {}):
            return
    except (pa.ArrowException, OSError):
        pass
    raise StorageError(f"{target} exists and is no manifest: move it away, or write elsewhere")


def _root_from(file: Path, root: Path) -> str:
    """The root as seen from the file's folder where one lies in the other; else in full."""
    folder, root = file.absolute().parent.resolve(), root.resolve()
    if folder == root or root.is_relative_to(folder) or folder.is_relative_to(root):
        return Path(os.path.relpath(root, folder)).as_posix()
    return root.as_posix()


def _stored_path(data: Manifest, path: Path) -> str:
    """Relative to the root, or in full where it is not in there."""
    return path.relative_to(data.root).as_posix() if path.is_relative_to(data.root) else os.path.abspath(path)
