"""From a name, a folder or a table to a :class:`~quovadis.datasets.manifest.Manifest`."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

from quovadis.datasets.assemble import Found, assemble, require_files
from quovadis.datasets.groups import groups_by_name
from quovadis.datasets.manifest import SPLIT_WORDS, Manifest, shorten
from quovadis.datasets.manifest_file import SUFFIX, path_within
from quovadis.datasets.motions import EMBEDDED, load_motions
from quovadis.errors import DatasetError, UnknownNameError

VIDEO_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("3gp", "asf", "avi", "flv", "gif", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg"),
        *("mpg", "mts", "mxf", "ogv", "ts", "vob", "webm", "wmv"),
    )
)

_COLUMNS = {
    "path": ("path", "file", "filename", "video", "video_path"),
    "label": ("label", "class", "action"),
    "split": ("split", "subset"),
    "group": ("group", "source_group"),
}


def load_dataset(
    source: str | PathLike[str], *, split_seed: int = 0, root: str | PathLike[str] | None = None
) -> Manifest:
    """Labelled videos from a folder, a table, a manifest, or by name.

    * A folder with one sub-folder per class; or with ``train``, ``val``, ``test`` folders that have one per class.
    * A ``.csv`` or ``.tsv`` file with the columns ``path`` and ``label``, and optionally ``split`` and ``group``.
      Paths are relative to the file's folder and stay inside it, or are written in full.
    * A ``.parquet`` file that ``quovadis data NAME_OR_PATH index`` or :meth:`Manifest.save` wrote; see
      :func:`quovadis.datasets.ucf101.load_ucf101` and its neighbours for the datasets of the paper.
    * ``"motions"``, ``"motions-source"``, ``"motions-target"``: the embedded datasets, written to disk on first use.

    Args:
        source: one of these.
        split_seed: where no split is given, one is made from it: 70 / 15 / 15 percent, whole groups only.
        root: the folder that holds the videos of a table or a manifest, where it is another than the file says; or
            where to write the embedded dataset.

    Raises:
        DatasetError: it cannot be used as it is; says where and why.
        UnknownNameError: neither a path that exists nor a name.
    """
    path = Path(source)
    if path.is_dir():
        if root is not None:
            raise DatasetError(f"{path} is a folder, and so its own root: leave the root {root} out")
        return from_folder(path, split_seed=split_seed)
    if path.suffix.lower() in (".csv", ".tsv"):
        return from_table(path, split_seed=split_seed, root=None if root is None else Path(root))
    if path.suffix.lower() == SUFFIX:
        return require_files(Manifest.load(path, root=root))
    if str(source) in EMBEDDED:
        return load_motions(EMBEDDED[str(source)], root=root)
    if path.exists():
        raise DatasetError(f"{path} is neither a folder nor a .csv, .tsv or {SUFFIX} file")
    raise UnknownNameError.among("dataset (and no such folder or file)", str(source), EMBEDDED)


def from_folder(root: Path, *, split_seed: int = 0) -> Manifest:
    """A folder with one sub-folder per class, or with such a folder per split.

    Where all files are named as those of UCF-101, HMDB-51 or Kinetics, their groups are known from that.

    Raises:
        DatasetError: no class folders, one without videos, or a group in two splits.
    """
    folders = _visible_folders(root)
    splits = {f.name: SPLIT_WORDS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_WORDS}
    homes = [(root / name, split) for name, split in splits.items()] if splits else [(root, "")]
    found: list[Found] = []
    for home, split in homes:
        for class_folder in _visible_folders(home):
            videos = sorted(p for p in class_folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            if not videos:
                raise DatasetError(
                    f"class folder {class_folder} has no video files (looked for {', '.join(VIDEO_SUFFIXES)}): "
                    "add some, or remove the folder"
                )
            found += [Found(video, class_folder.name, split) for video in videos]
    if not found:
        raise DatasetError(f"{root} has no class folders with videos: expected {root.name}/CLASS/VIDEO.mp4")
    dataset, groups = groups_by_name([f.path for f in found])
    notes = [f"the file names are those of {dataset}: groups are taken from them"] if dataset else []
    if dataset == "Kinetics":  # whose published lists put a few videos in two splits
        sides = {(group, f.split) for f, group in zip(found, groups, strict=True)}
        shared = {group for group, count in Counter(group for group, _ in sides).items() if count > 1}
        groups = ["" if group in shared else group for group in groups]
        notes += [f"{len(shared)} videos have clips in two splits: {shorten(sorted(shared))}"] if shared else []
    found = [replace(f, group=group) for f, group in zip(found, groups, strict=True)]
    return assemble(root.absolute().name, root, found, split_seed=split_seed, notes=notes)


def from_table(path: Path, *, split_seed: int = 0, root: Path | None = None) -> Manifest:
    """A table with columns ``path`` and ``label``, optionally ``split`` and ``group``; comma or tab separated.

    Listed files that are missing stay in the list: they count as wrong when measured, and a note says how many.

    Raises:
        DatasetError: no such file, a missing column, an empty cell, an unknown split, a path that leaves the folder,
            or every file is missing.
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
    found: list[Found] = []
    folder = path.parent if root is None else root
    for line, row in enumerate(reader, start=2):
        cells = {column: (row[name] or "").strip() if name else "" for column, name in columns.items()}
        _check_row(cells, f"{path}:{line}", has_split=columns["split"] is not None)
        video = path_within(folder, cells["path"], f"{path}:{line}")
        found.append(Found(video, cells["label"], SPLIT_WORDS.get(cells["split"].lower(), ""), cells["group"]))
    if not found:
        raise DatasetError(f"{path} has a header and no rows")
    return assemble(folder.absolute().name, folder, found, split_seed=split_seed)


def _check_row(cells: Mapping[str, str], where: str, *, has_split: bool) -> None:
    for column in ("path", "label"):
        if not cells[column]:
            raise DatasetError(f"{where}: the {column} is empty")
    if has_split and cells["split"].lower() not in SPLIT_WORDS:
        raise DatasetError(f"{where}: split is {cells['split']!r}; expected train, val or test")


def _visible_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
