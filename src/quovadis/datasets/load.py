"""From a name, a folder or a table to a :class:`~quovadis.datasets.manifest.Manifest`."""

import csv
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from quovadis.datasets.manifest import SPLIT_WORDS, Manifest, VideoRecord, assign_splits
from quovadis.errors import DatasetError, UnknownNameError

VIDEO_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"),
    )
)
EMBEDDED = ("motions",)

_COLUMNS = {
    "path": ("path", "file", "filename", "video", "video_path"),
    "label": ("label", "class", "action"),
    "split": ("split", "subset"),
    "group": ("group", "source_group"),
}


def load_dataset(source: str | PathLike[str], *, split_seed: int = 0) -> Manifest:
    """Labelled videos from a folder, a table, or by name.

    * A folder with one sub-folder per class; or with ``train``, ``val``, ``test`` folders that have one per class.
    * A ``.csv`` or ``.tsv`` file with the columns ``path`` and ``label``, and optionally ``split`` and ``group``.
      Paths are relative to the file.
    * ``"motions"``: the embedded dataset, written to disk on first use.

    Where no split is given, one is made: 70 / 15 / 15 percent, whole groups only, from ``split_seed``.

    Raises:
        DatasetError: it cannot be used as it is; says where and why.
        UnknownNameError: neither a path that exists nor a name.
    """
    path = Path(source)
    if path.is_dir():
        return from_folder(path, split_seed=split_seed)
    if path.suffix.lower() in (".csv", ".tsv"):
        return from_table(path, split_seed=split_seed)
    if str(source) == "motions":
        from quovadis.datasets.motions import load_motions

        return load_motions()
    if path.exists():
        raise DatasetError(f"{path} is neither a folder nor a .csv or .tsv file")
    raise UnknownNameError.among("dataset (and no such folder or file)", str(source), EMBEDDED)


def from_folder(root: Path, *, split_seed: int = 0) -> Manifest:
    """A folder with one sub-folder per class, or with such a folder per split.

    Raises:
        DatasetError: no class folders, or one without videos.
    """
    folders = _visible_folders(root)
    splits = {f.name: SPLIT_WORDS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_WORDS}
    homes = [(root / name, split) for name, split in splits.items()] if splits else [(root, "")]
    found: list[tuple[Path, str, str]] = []
    for home, split in homes:
        for class_folder in _visible_folders(home):
            videos = sorted(p for p in class_folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            if not videos:
                raise DatasetError(
                    f"class folder {class_folder} has no video files (looked for {', '.join(VIDEO_SUFFIXES)}): "
                    "add some, or remove the folder"
                )
            found += [(video, class_folder.name, split) for video in videos]
    if not found:
        raise DatasetError(f"{root} has no class folders with videos: expected {root.name}/CLASS/VIDEO.mp4")
    return _manifest(root.name, root, found, [""] * len(found), split_seed)


def from_table(path: Path, *, split_seed: int = 0) -> Manifest:
    """A table with columns ``path`` and ``label``, optionally ``split`` and ``group``; comma or tab separated.

    Listed files that are missing stay in the list: they count as wrong when measured, and a note says how many.

    Raises:
        DatasetError: no such file, a missing column, an empty cell, an unknown split, or every file is missing.
    """
    if not path.is_file():
        raise DatasetError(f"no table of videos at {path}")
    text = path.read_text(encoding="utf-8-sig")
    header = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in header else ",")
    columns = {
        column: next((name for name in reader.fieldnames or [] if name.strip().lower() in names), None)
        for column, names in _COLUMNS.items()
    }
    absent = [column for column in ("path", "label") if columns[column] is None]
    if absent:
        found_columns = ", ".join(reader.fieldnames or []) or "none"
        raise DatasetError(f"{path} has no column {' and no column '.join(absent)}; its columns: {found_columns}")
    found: list[tuple[Path, str, str]] = []
    groups: list[str] = []
    for line, row in enumerate(reader, start=2):
        cells = {column: (row[name] or "").strip() if name else "" for column, name in columns.items()}
        _check_row(cells, f"{path}:{line}", has_split=columns["split"] is not None)
        found.append((path.parent / cells["path"], cells["label"], SPLIT_WORDS.get(cells["split"].lower(), "")))
        groups.append(cells["group"])
    if not found:
        raise DatasetError(f"{path} has a header and no rows")
    return _manifest(path.parent.name, path.parent, found, groups, split_seed)


def _check_row(cells: Mapping[str, str], where: str, *, has_split: bool) -> None:
    for column in ("path", "label"):
        if not cells[column]:
            raise DatasetError(f"{where}: the {column} is empty")
    if has_split and cells["split"].lower() not in SPLIT_WORDS:
        raise DatasetError(f"{where}: split is {cells['split']!r}; expected train, val or test")


def _manifest(
    name: str, root: Path, found: Sequence[tuple[Path, str, str]], groups: Sequence[str], split_seed: int
) -> Manifest:
    labels = tuple(sorted({label for _, label, _ in found}))
    index = {label: i for i, label in enumerate(labels)}
    notes: list[str] = []
    splits = [split for _, _, split in found]
    if not any(splits):
        splits = assign_splits([index[label] for _, label, _ in found], groups, seed=split_seed)
        by_group = "whole groups, " if any(groups) else ""
        notes.append(f"no split given: made one, {by_group}70/15/15 %, seed {split_seed}")
    elif "val" not in splits and "train" in splits:
        _hold_out_validation(splits, [index[label] for _, label, _ in found], groups, split_seed)
        notes.append(f"no validation split given: held out a tenth of the training videos, seed {split_seed}")
    records = tuple(
        VideoRecord(path, index[label], split, group)
        for (path, label, _), split, group in zip(found, splits, groups, strict=True)
    )
    absent = [r for r in records if not r.path.is_file()]
    if len(absent) == len(records):
        raise DatasetError(f"{name}: none of the {len(records)} listed files exists, the first is {absent[0].path}")
    if absent:
        notes.append(f"{len(absent)} of {len(records)} listed files are missing, the first is {absent[0].path}")
    return Manifest(name, root, labels, records, tuple(notes))


def _hold_out_validation(splits: list[str], labels: Sequence[int], groups: Sequence[str], seed: int) -> None:
    """Move a tenth of the training videos, whole groups, to the validation split; the test split is not touched."""
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = assign_splits([labels[i] for i in train], [groups[i] for i in train], seed=seed, fractions=(0.9, 0.1, 0.0))
    for i, part in zip(train, parts, strict=True):
        splits[i] = part


def _visible_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
