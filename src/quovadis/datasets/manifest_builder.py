"""Build a manifest from a list of videos: number the classes, make missing splits, check the files."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quovadis.datasets.class_names import merge_spellings, similar_names
from quovadis.datasets.manifest import Manifest, VideoRecord, preview_names
from quovadis.datasets.splits import assign_splits, hold_out_validation
from quovadis.datasets.text_files import sort_labels
from quovadis.datasets.video_files import same_files
from quovadis.errors import DatasetError


@dataclass(frozen=True)
class ListedVideo:
    """A video as a folder, table or split file lists it."""

    path: Path
    label: str
    split: str = ""
    """``train``, ``val``, ``test``, or empty if not given."""
    group: str = ""


def build_manifest(
    name: str,
    root: Path,
    videos: Sequence[ListedVideo],
    *,
    labels: Sequence[str] | None = None,
    split_seed: int = 0,
    group_by: str | None = None,
    notes: Sequence[str] = (),
) -> Manifest:
    """Build a manifest from listed videos.

    If no split is given, the videos are split 70/15/15 by :func:`~quovadis.datasets.splits.assign_splits`. If there is
    a training split but no validation split, a tenth of the training videos is held out. Entries that are equal in
    path, label, split and group count once. All entries of one file, links included, get the same split. Without
    ``labels``, spellings of a class that differ only in case, spaces, underscores or hyphens are one class.

    Args:
        name: Name of the dataset.
        root: Folder that paths are printed relative to.
        videos: The listed videos.
        labels: Class names in the order of the dataset; by default sorted, numbers by value.
        split_seed: Seed of splits that are made here.
        group_by: Pattern of the group in the path of a video; see :func:`quovadis.datasets.load.load_dataset`.
        notes: Decisions of the caller, kept in :attr:`Manifest.reading_notes`.

    Raises:
        DatasetError: If there are no videos, none of the files exists, one file has two splits or two groups, or the
            manifest is invalid.
    """
    notes = list(notes)
    if labels is None:
        videos, merged = _merge_spellings(videos)
        notes += merged
    unique = list(dict.fromkeys(videos))
    if group_by is not None:
        unique, note = _group_by(unique, root, group_by)
        notes.append(note)
    if len(unique) < len(videos):
        repeated = [v.path.name for v, count in Counter(videos).items() if count > 1]
        notes.append(f"listed more than once, counted once: {preview_names(repeated)}")
    labels = tuple(labels) if labels is not None else tuple(sort_labels(list({v.label for v in unique})))
    notes += [f"classes that differ only in spelling: {' and '.join(group)}" for group in similar_names(labels)]
    index_of = {label: i for i, label in enumerate(labels)}
    indices = [index_of[v.label] for v in unique]
    splits, groups = [v.split for v in unique], [v.group for v in unique]
    by_group = "whole groups, " if any(groups) else ""
    groups = _group_same_files([v.path for v in unique], groups)
    if not any(splits):
        splits = assign_splits(indices, groups, seed=split_seed)
        notes.append(f"no split given: made one, {by_group}70/15/15 %, seed {split_seed}")
    elif "val" not in splits and "train" in splits:
        splits = hold_out_validation(splits, indices, groups, split_seed)
        notes.append(f"no validation split given: held out a tenth of the training videos, {by_group}seed {split_seed}")
    records = (VideoRecord(v.path, i, split, v.group) for v, i, split in zip(unique, indices, splits, strict=True))
    return check_files(Manifest(name, root, labels, tuple(records), tuple(notes)))


def check_files(data: Manifest) -> Manifest:
    """Return the manifest with the status ``missing`` for videos whose file does not exist, unless they are corrupt.

    A prepared dataset has no files for corrupt videos; their status and reason are kept.

    Raises:
        DatasetError: If all files are missing, or one file is listed in two splits under two names.
    """
    data = replace(data, records=tuple(_with_current_status(r) for r in data.records))
    if not any(os.path.isfile(r.path) for r in data.records):
        first_path = data.records[0].path
        raise DatasetError(
            f"{data.name}: none of the {len(data.records)} listed files exists, the first is {first_path}"
            f"{_nearest_folder(first_path)}. If the videos are elsewhere, pass their folder as the root"
        )
    for indices in same_files([r.path for r in data.records]):
        first, *others = (data.records[i] for i in indices)
        for other in others:
            if other.split != first.split:
                raise DatasetError(
                    f"{data.name}: {data.relative(first)} in {first.split} and {data.relative(other)} in {other.split} "
                    "are one file (a link). A file must be in one split only: remove one of them"
                )
    return data


def _merge_spellings(videos: Sequence[ListedVideo]) -> tuple[list[ListedVideo], list[str]]:
    """Give all spellings of a class the most frequent one, with a note for each changed class."""
    names = merge_spellings([v.label for v in videos])
    changed = defaultdict(list)
    for spelling, name in names.items():
        if spelling != name:
            changed[name].append(repr(spelling))
    notes = [f"{' and '.join(spellings)} counted as the class {name!r}" for name, spellings in changed.items()]
    return [replace(v, label=names[v.label]) for v in videos], notes


def _group_by(videos: Sequence[ListedVideo], root: Path, pattern: str) -> tuple[list[ListedVideo], str]:
    """Find the groups of videos in their paths relative to the root, and describe them in a note."""
    if any(v.group for v in videos):
        raise DatasetError("the table gives groups already: omit --group-by, or remove the column group")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"--group-by must be a regular expression; got {pattern!r}: {error}") from error
    names = [(v.path.relative_to(root) if v.path.is_relative_to(root) else v.path).as_posix() for v in videos]
    matches = [compiled.search(name) for name in names]
    groups = [(m.group(1 if compiled.groups else 0) or "") if m else "" for m in matches]
    unmatched = [name for name, group in zip(names, groups, strict=True) if not group]
    if len(unmatched) == len(videos):
        raise DatasetError(
            f"--group-by {pattern!r} matches no path, for example {preview_names(names[:2])}. The pattern "
            "'([^/]+)_[0-9]+' groups run/a_01.mp4 and run/a_02.mp4"
        )
    note = f"{len(set(groups) - {''})} groups by {pattern!r}"
    if unmatched:
        note += f"; without a match, each its own group: {preview_names(unmatched)}"
    return [replace(v, group=group) for v, group in zip(videos, groups, strict=True)], note


def _with_current_status(record: VideoRecord) -> VideoRecord:
    exists = os.path.isfile(record.path)
    if exists and record.status == "missing":
        return replace(record, status="listed", reason="")
    if not exists and record.status in ("listed", "ok"):
        return replace(record, status="missing", reason="no such file")
    return record


def _group_same_files(paths: Sequence[Path], groups: Sequence[str]) -> list[str]:
    """Put all entries of one file into one group, so that they get the same split."""
    joined = list(groups)
    for indices in same_files(paths):
        given = sorted({groups[i] for i in indices} - {""})
        if len(given) > 1:
            raise DatasetError(f"{paths[indices[0]]} is listed with the groups {given[0]!r} and {given[1]!r}")
        for i in indices:
            joined[i] = given[0] if given else f"\0file {indices[0]}"
    return joined


def _nearest_folder(path: Path) -> str:
    """Describe the content of the nearest existing folder of a missing file, for an error message."""
    folder = next((parent for parent in path.parents if os.path.isdir(parent)), None)
    if folder is None:
        return ""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    return f"; the folder {folder} contains {preview_names(names) or 'nothing'}"
