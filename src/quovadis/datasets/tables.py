"""Read a dataset from a table with a header (CSV, TSV), or from a list with lines ``path label``."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from quovadis.datasets.manifest import SPLIT_WORDS, Manifest
from quovadis.datasets.manifest_builder import ListedVideo, build_manifest
from quovadis.datasets.text_files import (
    LIST_SUFFIXES,
    Text,
    path_within,
    read_text,
    require_file,
    sort_labels,
    split_list_line,
)
from quovadis.datasets.ucf101 import read_class_index
from quovadis.datasets.video_files import is_video
from quovadis.errors import DatasetError

TABLE_SUFFIXES = (".csv", ".tsv")
_COLUMNS = {
    "path": ("path", "file", "filename", "video", "video_path"),
    "label": ("label", "class", "action"),
    "split": ("split", "subset"),
    "group": ("group", "source_group"),
}
"""Columns, each with the names that are accepted for it."""
_DELIMITERS = (",", "\t", ";")
_CLASS_INDEX = "classInd.txt"

_Row = tuple[str, Mapping[str, str]]
"""``file:line`` and the cells by column."""


def from_table(path: Path, *, split_seed: int = 0, root: Path | None = None, group_by: str | None = None) -> Manifest:
    """Read a table with the columns ``path`` and ``label``, optionally ``split`` and ``group``, or a list.

    Cells are separated by commas, tabs or semicolons. A list has no header; each line has a path and a label,
    separated by a comma, a tab, a semicolon or spaces. If the labels are numbers and there is a ``classInd.txt`` (as in
    UCF-101) next to the table, classes get their names from it.

    Listed files that do not exist stay in the dataset with the status ``missing``. They count as wrong in evaluation.

    Args:
        path: The table or list.
        split_seed: Seed of splits that are made here.
        root: Folder of the videos; by default the folder of the table.
        group_by: Pattern of the group in the path of a video; see :func:`quovadis.datasets.load.load_dataset`.

    Raises:
        DatasetError: If the file does not exist, a column is missing, a row has more cells than the header, a cell is
            empty, a split is unknown, a path leaves the folder, or all videos are missing.
    """
    require_file(path, "table of videos")
    text = read_text(path)
    text = replace(text, text=re.sub(r"\Asep=.", "", text.text))  # Excel's line with the separator
    folder = path.parent if root is None else root
    rows = list(_rows(text, folder))
    if not rows:
        raise DatasetError(f"{path} has a header but no rows" if text.text.strip() else f"{path} is empty")
    names, notes = _class_names(path, rows)
    videos = []
    for where, cells in rows:
        label = _label(cells["label"], names, where)
        split = SPLIT_WORDS.get(cells.get("split", "").lower(), "")
        videos.append(ListedVideo(_video_path(folder, cells["path"], where), label, split, cells.get("group", "")))
    notes = [text.note, *notes] if text.note else notes
    return build_manifest(
        folder.absolute().name,
        folder,
        videos,
        labels=names or None,
        split_seed=split_seed,
        group_by=group_by,
        notes=notes,
    )


def _video_path(folder: Path, text: str, where: str) -> Path:
    """Resolve the path of a row; backslashes, as on Windows, are understood."""
    video = path_within(folder, text, where)
    if "\\" in text and not os.path.lexists(video):
        return path_within(folder, text.replace("\\", "/"), where)
    return video


def _rows(text: Text, folder: Path) -> Iterator[_Row]:
    """Detect the format, table or list, and yield its rows."""
    first = next(text.lines(), ("", ""))[1]
    headers = {delimiter: _first_row(text, delimiter) for delimiter in _DELIMITERS}
    for delimiter, header in headers.items():
        if {"path", "label"} <= _columns_of(header):
            return _table_rows(text, delimiter)
    for delimiter, cells in headers.items():
        if len(cells) > 1 and is_video(cells[0].strip()):
            return _list_rows(_pairs(text, delimiter))
    is_list = text.path.suffix.lower() in LIST_SUFFIXES
    if is_list or any(is_video(word) for word in first.split()):
        return _list_rows((where, *split_list_line(line, where, folder)) for where, line in text.lines())
    header = max(headers.values(), key=len)
    missing = [column for column in ("path", "label") if column not in _columns_of(header)]
    if not first:
        return iter(())
    raise DatasetError(
        f"{text.path} has no column {' and no column '.join(missing)}; its columns: {', '.join(header)[:200]}. "
        "Expected a header with path and label, or a list with a path and a label on every line"
    )


def _table_rows(text: Text, delimiter: str) -> Iterator[_Row]:
    rows = text.rows(delimiter)
    where, header = next(rows)
    positions = _column_positions(header, where)
    for where, cells in rows:
        if any(cell.strip() for cell in cells[len(header) :]):
            raise DatasetError(
                f"{where}: {len(cells)} cells, but the header has {len(header)}: {delimiter.join(cells)[:200]!r}. Put "
                f"cells that contain {delimiter!r} in double quotes"
            )
        cells += [""] * (len(header) - len(cells))
        row = {column: cells[position].strip() for column, position in positions.items()}
        _check_row(row, where)
        yield where, row


def _pairs(text: Text, delimiter: str) -> Iterator[tuple[str, str, str]]:
    for where, cells in text.rows(delimiter):
        if len(cells) != 2:
            raise DatasetError(
                f"{where}: {len(cells)} cells; expected two, path and label, in a table without a header. For more "
                "columns, add a header such as path,label,split. If the label contains the separator, put it in double "
                "quotes"
            )
        yield where, cells[0].strip(), cells[1].strip()


def _list_rows(lines: Iterator[tuple[str, str, str]]) -> Iterator[_Row]:
    for number, (where, path, label) in enumerate(lines):
        if number == 0 and _columns_of([path, label]) == {"path", "label"}:
            continue  # a header
        if re.fullmatch(r"\d+(\s+\d+)+", label):
            raise DatasetError(
                f"{where}: several numbers after the path: {label!r}. Lists of frame folders (path, number of frames, "
                "label) and several labels per video are not supported; expected a path and a label"
            )
        row = {"path": path, "label": label}
        _check_row(row, where)
        yield where, row


def _check_row(row: Mapping[str, str], where: str) -> None:
    for column in ("path", "label"):
        if not row[column]:
            raise DatasetError(f"{where}: the {column} is empty")
    for column in ("label", "split", "group"):
        if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in row.get(column, "")):
            raise DatasetError(
                f"{where}: the {column} {row[column]!r} contains a line break or another control character. Is a quote "
                "not closed?"
            )
    if "split" in row and row["split"].lower() not in SPLIT_WORDS:
        raise DatasetError(f"{where}: split is {row['split']!r}; expected train, val or test")


def _columns_of(header: Sequence[str]) -> set[str]:
    """Return the columns of :data:`_COLUMNS` that a header has."""
    names = {name.strip().lower() for name in header}
    return {column for column, aliases in _COLUMNS.items() if names & set(aliases)}


def _column_positions(header: Sequence[str], where: str) -> dict[str, int]:
    """Find the position of each column; its main name takes precedence over its aliases."""
    names = [name.strip().lower() for name in header]
    positions = {}
    for column, aliases in _COLUMNS.items():
        matches = [i for i, name in enumerate(names) if name == column]
        matches = matches or [i for i, name in enumerate(names) if name in aliases]
        if len(matches) > 1:
            raise DatasetError(
                f"{where}: several columns for the {column}: {', '.join(header[i].strip() for i in matches)}. Name one "
                f"of them {column}"
            )
        if matches:
            positions[column] = matches[0]
    return positions


def _first_row(text: Text, delimiter: str) -> list[str]:
    try:
        return next(text.rows(delimiter), ("", []))[1]
    except DatasetError:  # another delimiter
        return []


def _class_names(path: Path, rows: Sequence[_Row]) -> tuple[list[str], list[str]]:
    """Return the names of numbered classes, empty if unknown, and notes."""
    if not all(cells["label"].isascii() and cells["label"].isdigit() for _, cells in rows):
        return [], []
    index = path.parent / _CLASS_INDEX
    if index.is_file():
        return read_class_index(index), [f"class names are from {index}"]
    numbers = sort_labels(list({cells["label"] for _, cells in rows}))
    return [], [
        f"the labels are numbers from {numbers[0]} to {numbers[-1]}; to name the classes, put a {_CLASS_INDEX} with "
        "lines '1 NAME' next to the list, or use names as labels"
    ]


def _label(label: str, names: Sequence[str], where: str) -> str:
    if not names:
        return label
    if not 1 <= int(label) <= len(names):
        raise DatasetError(f"{where}: class {label} is not in {_CLASS_INDEX}, which has 1 to {len(names)}")
    return names[int(label) - 1]
