"""From a list of found videos to a manifest: classes numbered, missing splits made, missing and doubled files noted."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quovadis.datasets.class_names import similar_names
from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord, assign_splits, shorten
from quovadis.datasets.text_files import numbers_first
from quovadis.errors import DatasetError

_CURRENT_NOTE = re.compile(
    r"\d+ of \d+ listed (files|clips) are missing.*|listed (with several|under several).*|all videos have .*"
)
"""Notes on the files as they are now, made again whenever a dataset is read."""


@dataclass(frozen=True)
class Found:
    """A video as an annotation lists it."""

    path: Path
    label: str
    split: str = ""
    """``train``, ``val``, ``test``, or empty where none is given."""
    group: str = ""


def assemble(
    name: str,
    root: Path,
    found: Sequence[Found],
    *,
    labels: Sequence[str] | None = None,
    split_seed: int = 0,
    notes: Sequence[str] = (),
) -> Manifest:
    """A manifest of videos that were found.

    Without any split, one is made: 70 / 15 / 15 percent, whole groups only. With a training split and no validation
    split, a tenth of the training videos, whole groups, becomes the validation split; the test split stays as it is.
    A video that is listed again with the same label, split and group counts once. All entries of one file, also under
    several names (links), get into one split.

    Args:
        name: of the dataset.
        root: the folder that paths are told relative to.
        found: the videos.
        labels: the classes in the dataset's own order; else sorted, numbers by value.
        split_seed: of splits that are made here.
        notes: what the caller decided.

    Raises:
        DatasetError: no videos, or not one of their files exists; one file in two splits or with two groups; or what a
            manifest refuses.
    """
    unique = list(dict.fromkeys(found))
    told = list(notes)
    if len(unique) < len(found):
        repeated = [f.path.name for f, count in Counter(found).items() if count > 1]
        told.append(f"listed more than once, counted once: {shorten(repeated)}")
    labels = tuple(labels) if labels is not None else tuple(numbers_first(list({f.label for f in unique})))
    told += [f"classes that differ only in spelling: {' and '.join(group)}" for group in similar_names(labels)]
    number = {label: i for i, label in enumerate(labels)}
    splits, groups = [f.split for f in unique], [f.group for f in unique]
    by_group = "whole groups, " if any(groups) else ""
    kept_together = _join_same_files([f.path for f in unique], groups)
    if not any(splits):
        splits = assign_splits([number[f.label] for f in unique], kept_together, seed=split_seed)
        told.append(f"no split given: made one, {by_group}70/15/15 %, seed {split_seed}")
    elif "val" not in splits and "train" in splits:
        _hold_out_validation(splits, [number[f.label] for f in unique], kept_together, split_seed)
        told.append(f"no validation split given: held out a tenth of the training videos, {by_group}seed {split_seed}")
    records = (VideoRecord(f.path, number[f.label], split, f.group) for f, split in zip(unique, splits, strict=True))
    return require_files(Manifest(name, root, labels, tuple(records), tuple(told)))


def require_files(data: Manifest) -> Manifest:
    """The manifest with notes on its files as they are now, in place of older ones.

    The notes count missing files, files with several labels, and files that are listed under several names; and say if
    there is a single class.

    Raises:
        DatasetError: all files are missing, or a file is in two splits under two names.
    """
    absent = data.missing()
    if len(absent) == len(data.records):
        raise DatasetError(
            f"{data.name}: none of the {len(absent)} listed files exists, the first is {absent[0].path}"
            f"{_what_is_there(absent[0].path)}. If the videos are elsewhere, name their folder as the root"
        )
    notes = [*decisions(data), *_notes_on_same_files(data)]
    if absent:
        notes.append(f"{len(absent)} of {len(data.records)} listed files are missing, the first is {absent[0].path}")
    if len(present := {r.label for r in data.records} - {UNLABELED}) == 1:
        notes.append(f"all videos have the class {data.labels[present.pop()]!r}: a classifier needs at least two")
    return replace(data, notes=tuple(notes))


def decisions(data: Manifest) -> tuple[str, ...]:
    """The notes of a manifest that hold for good: those on the files as they are now do not."""
    return tuple(note for note in data.notes if not _CURRENT_NOTE.fullmatch(note))


def same_files(paths: Sequence[Path]) -> list[list[int]]:
    """Which paths name one file: equal paths, links, and hard links; the positions of each such set.

    >>> same_files([Path("a.mp4"), Path("b.mp4"), Path("a.mp4")])
    [[0, 2]]
    """
    of_file: dict[Hashable, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        try:
            status = os.stat(path)
            of_file[status.st_dev, status.st_ino].append(i)
        except (OSError, ValueError):
            of_file[os.path.abspath(path)].append(i)
    sets: dict[Hashable, list[int]] = defaultdict(list)
    for key, places in of_file.items():
        if len(places) > 1:  # some file systems number files badly, so links are proven
            for i in places:
                path = paths[i]
                hard = os.path.exists(path) and os.stat(path).st_nlink > 1
                sets[(key, "" if hard else os.path.realpath(path))].append(i)
    return [places for places in sets.values() if len(places) > 1]


def _join_same_files(paths: Sequence[Path], groups: Sequence[str]) -> list[str]:
    """Groups for making splits, in which the entries of one file are together."""
    joined = list(groups)
    for places in same_files(paths):
        known = sorted({groups[i] for i in places} - {""})
        if len(known) > 1:
            raise DatasetError(f"{paths[places[0]]} is listed with the groups {known[0]!r} and {known[1]!r}")
        for i in places:
            joined[i] = known[0] if known else f"\0file {places[0]}"
    return joined


def _notes_on_same_files(data: Manifest) -> list[str]:
    several_labels, several_names = [], []
    for places in same_files([r.path for r in data.records]):
        records = [data.records[i] for i in places]
        first = records[0]
        for other in records[1:]:
            if other.split != first.split:
                raise DatasetError(
                    f"{data.name}: {data.relative(first)} in {first.split} and {data.relative(other)} in {other.split} "
                    "are one file (a link), which must be in one split only: remove one of them"
                )
        names = " and ".join(dict.fromkeys(data.relative(r) for r in records))
        labels = list(dict.fromkeys(data.label_of(r) or "no label" for r in records))
        if len(labels) > 1:
            several_labels.append(f"{names} ({' and '.join(labels)})")
        elif len({r.path for r in records}) > 1:
            several_names.append(names)
    notes = []
    if several_labels:
        notes.append(f"listed with several labels: {shorten(several_labels)}")
    if several_names:
        notes.append(f"listed under several names (links): {shorten(several_names)}")
    return notes


def _what_is_there(path: Path) -> str:
    """What the folder of a missing file has instead, for a message."""
    folder = next((parent for parent in path.parents if os.path.isdir(parent)), None)
    if folder is None:
        return ""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return f"; the folder {folder} has {shorten(names) or 'nothing'}"


def _hold_out_validation(splits: list[str], labels: Sequence[int], groups: Sequence[str], seed: int) -> None:
    """Move a tenth of the training videos, whole groups, to the validation split; the test split is not touched."""
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = assign_splits([labels[i] for i in train], [groups[i] for i in train], seed=seed, fractions=(0.9, 0.1, 0.0))
    for i, part in zip(train, parts, strict=True):
        splits[i] = part
