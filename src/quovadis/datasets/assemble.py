"""From a list of found videos to a manifest: classes numbered, missing splits made, missing files told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quovadis.datasets.manifest import Manifest, VideoRecord, assign_splits
from quovadis.errors import DatasetError

_MISSING_NOTE = re.compile(r"\d+ of \d+ listed (files|clips) are missing.*")


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

    Args:
        name: of the dataset.
        root: the folder that paths are told relative to.
        found: the videos.
        labels: the classes in the dataset's own order; else sorted.
        split_seed: of splits that are made here.
        notes: what the caller decided.

    Raises:
        DatasetError: no videos, or not one of their files exists; or what a manifest refuses.
    """
    labels = tuple(labels) if labels is not None else tuple(sorted({f.label for f in found}))
    number = {label: i for i, label in enumerate(labels)}
    splits, groups = [f.split for f in found], [f.group for f in found]
    told = list(notes)
    by_group = "whole groups, " if any(groups) else ""
    if not any(splits):
        splits = assign_splits([number[f.label] for f in found], groups, seed=split_seed)
        told.append(f"no split given: made one, {by_group}70/15/15 %, seed {split_seed}")
    elif "val" not in splits and "train" in splits:
        _hold_out_validation(splits, [number[f.label] for f in found], groups, split_seed)
        told.append(f"no validation split given: held out a tenth of the training videos, {by_group}seed {split_seed}")
    records = (VideoRecord(f.path, number[f.label], split, f.group) for f, split in zip(found, splits, strict=True))
    return require_files(Manifest(name, root, labels, tuple(records), tuple(told)))


def require_files(data: Manifest) -> Manifest:
    """The manifest with a note that says how many of the listed files are missing now, in place of an older one.

    Raises:
        DatasetError: all of them are.
    """
    absent = data.missing()
    if len(absent) == len(data.records):
        raise DatasetError(
            f"{data.name}: none of the {len(absent)} listed files exists, the first is {absent[0].path}. If the videos "
            "lie elsewhere, name their folder as the root"
        )
    notes = decisions(data)
    if absent:
        notes += (f"{len(absent)} of {len(data.records)} listed files are missing, the first is {absent[0].path}",)
    return replace(data, notes=notes)


def decisions(data: Manifest) -> tuple[str, ...]:
    """The notes of a manifest that hold for good: those on missing files do not."""
    return tuple(note for note in data.notes if not _MISSING_NOTE.fullmatch(note))


def _hold_out_validation(splits: list[str], labels: Sequence[int], groups: Sequence[str], seed: int) -> None:
    """Move a tenth of the training videos, whole groups, to the validation split; the test split is not touched."""
    train = [i for i, split in enumerate(splits) if split == "train"]
    parts = assign_splits([labels[i] for i in train], [groups[i] for i in train], seed=seed, fractions=(0.9, 0.1, 0.0))
    for i, part in zip(train, parts, strict=True):
        splits[i] = part
