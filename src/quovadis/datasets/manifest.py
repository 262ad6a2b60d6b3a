"""Manifest of a dataset: labeled videos with their splits, groups and file metadata."""

import hashlib
import os
import stat
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from quovadis.datasets.class_names import match_names
from quovadis.datasets.manifest_file import COLUMNS, portable_root, read_manifest_file, write_manifest_file
from quovadis.datasets.text_files import path_within
from quovadis.datasets.video_files import same_files
from quovadis.errors import DatasetError, UnknownNameError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation"), "val"
)
"""Common names of splits, in lower case, and the split each stands for."""
UNLABELED = -1
"""Label of a video whose class is not published, as in the test lists of Kinetics."""
STATUSES = ("listed", "ok", "missing", "corrupt")
"""Not fully decoded yet; decoded to the end without errors; no such file; cannot be decoded to the end."""


@dataclass(frozen=True)
class VideoRecord:
    """One video of a dataset: its label and split, and what is known about its file.

    Path, label, split and group define the dataset. The other fields are filled in by
    :func:`quovadis.datasets.inspection.index_videos` and :func:`quovadis.datasets.inspection.verify_videos`.

    Example:
        >>> VideoRecord(Path("clips/run/a.mp4"), label=0, split="train", group="person01").status
        'listed'
    """

    path: Path
    label: int
    """Index into :attr:`Manifest.labels`, or :data:`UNLABELED`."""
    split: str
    """``train``, ``val`` or ``test``."""
    group: str = ""
    """Source of the video (a longer video, a person, a place). All videos of a group are in one split."""
    num_frames: int | None = None
    """Frames in the file, from its header; counted if the status is ``ok``."""
    fps: float | None = None
    duration_seconds: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    size_bytes: int | None = None
    sha256: str = ""
    """SHA-256 of the file, 64 hexadecimal digits."""
    status: str = "listed"
    """One of :data:`STATUSES`."""
    reason: str = ""
    """Why the video is missing or corrupt."""


@dataclass(frozen=True)
class Manifest:
    """A dataset: labeled videos, their classes and splits.

    Use :func:`quovadis.load_dataset` to create a manifest from a folder or a table.

    Args:
        name: Name of the dataset.
        root: Folder of the videos. Paths are printed and saved relative to it.
        labels: Class names; the position is the label.
        records: The videos.
        reading_notes: Decisions made while reading the dataset, such as how splits were made.

    Raises:
        DatasetError: If there are no videos, a group or a file is in two splits, or a label has no name.

    Example:
        >>> records = (VideoRecord(Path("a.mp4"), 0, "train"), VideoRecord(Path("b.mp4"), 1, "test"))
        >>> data = Manifest("toy", Path("."), ("run", "jump"), records)
        >>> data.describe()
        'toy: 2 videos of 2 classes (1 train, 1 test), data eca5536ea90f'
        >>> [data.label_of(record) for record in data.split("test")]
        ['jump']
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    reading_notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.records:
            raise DatasetError(f"{self.name}: no videos found in {self.root}")
        nameless = sorted({r.label for r in self.records if not UNLABELED <= r.label < len(self.labels)})
        if nameless:
            raise DatasetError(f"{self.name} has {len(self.labels)} classes, but a video has the label {nameless[0]}")
        split_of: dict[Path, str] = {}
        splits_of_group = defaultdict(set)
        for record in self.records:
            other = split_of.setdefault(record.path, record.split)
            if other != record.split:
                raise DatasetError(f"{self.name}: {self.relative(record)} is listed in {other} and in {record.split}")
            if record.group:
                splits_of_group[record.group].add(record.split)
        leaks = sorted(group for group, splits in splits_of_group.items() if len(splits) > 1)
        if leaks:
            raise DatasetError(
                f"{self.name}: {len(leaks)} groups are in more than one split ({preview_names(leaks)}), so test videos "
                "share their source with training videos. Fix the splits, or omit them to have them made by group"
            )

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user should know: the reading notes, then repeated, missing and corrupt files, and a single class."""
        notes = [*self.reading_notes, *self._notes_on_same_files()]
        for status in ("missing", "corrupt"):
            bad = [r for r in self.records if r.status == status]
            if bad:
                notes.append(f"{len(bad)} of {len(self.records)} listed files are {status}, the first is {bad[0].path}")
        used = {r.label for r in self.records} - {UNLABELED}
        if len(used) == 1:
            notes.append(f"all videos have the class {self.labels[used.pop()]!r}: a classifier needs at least two")
        return tuple(notes)

    def split(self, name: str) -> tuple[VideoRecord, ...]:
        """Return the videos of one split, for training or evaluation.

        Args:
            name: ``train``, ``val`` or ``test``.

        Raises:
            UnknownNameError: If there is no such split.
            DatasetError: If the split has no videos, or has videos without a label.
        """
        if name not in SPLITS:
            raise UnknownNameError.among("split", name, SPLITS)
        chosen = tuple(r for r in self.records if r.split == name)
        if not chosen:
            found = [f"{sum(r.split == split for r in self.records)} {split}" for split in SPLITS]
            raise DatasetError(
                f"{self.name} has no videos in its {name} split (found {', '.join(found)}): assign some to it in the "
                "column split of a table, or add videos"
            )
        unlabeled = sum(r.label == UNLABELED for r in chosen)
        if unlabeled:
            raise DatasetError(
                f"{unlabeled} of {len(chosen)} videos in the {name} split of {self.name} have no label. Training and "
                "evaluation need labels"
            )
        return chosen

    def with_labels(self, labels: tuple[str, ...]) -> "Manifest":
        """Return the same videos with classes numbered as in ``labels``, for example in the order of a model's logits.

        Class names may differ in case, spaces, underscores and punctuation if the match is unique; a note lists them.

        Raises:
            DatasetError: If a class of this dataset is not among ``labels``.
        """
        matches = match_names(self.labels, labels, self.name)
        index_of = {name: labels.index(match) for name, match in matches.items()}
        records = tuple(replace(r, label=index_of.get(self.label_of(r), UNLABELED)) for r in self.records)
        renamed = [f"{name} is {match}" for name, match in matches.items() if name != match]
        notes = (f"classes were matched with those of the model: {preview_names(renamed)}",) if renamed else ()
        return replace(self, labels=labels, records=records, reading_notes=(*self.reading_notes, *notes))

    def keep_classes(self, classes: Sequence[str]) -> "Manifest":
        """Return the videos of some classes only, as in Mini-Kinetics. The order of the classes does not change.

        Raises:
            DatasetError: If ``classes`` is empty, repeats a class, or names a class that this dataset does not have.

        Example:
            >>> records = [VideoRecord(Path(f"{i}.mp4"), i, "train") for i in range(3)]
            >>> data = Manifest("toy", Path(), ("jump", "run", "swim"), tuple(records)).keep_classes(["swim", "jump"])
            >>> data.labels, [(r.path.name, data.label_of(r)) for r in data.records]
            (('jump', 'swim'), [('0.mp4', 'jump'), ('2.mp4', 'swim')])
        """
        repeated = sorted(name for name, count in Counter(classes).items() if count > 1)
        if repeated:
            raise DatasetError(f"the list of classes repeats {preview_names(repeated)}")
        if not classes:
            raise DatasetError("the list of classes is empty")
        unknown = [name for name in classes if name not in self.labels]
        if unknown:
            near = get_close_matches(unknown[0], self.labels, n=2)
            hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            raise DatasetError(
                f"{self.name} has no class {unknown[0]!r}{hint}; {len(unknown)} of the {len(classes)} requested "
                f"classes are unknown. Its classes: {preview_names(self.labels)}"
            )
        labels = tuple(name for name in self.labels if name in set(classes))
        index_of = {name: i for i, name in enumerate(labels)}
        records = [(r, index_of.get(self.label_of(r))) for r in self.records]
        return replace(
            self,
            name=f"{self.name}-{len(labels)}classes",
            labels=labels,
            records=tuple(replace(r, label=label) for r, label in records if label is not None),
            reading_notes=(*self.reading_notes, f"{len(labels)} of {len(self.labels)} classes"),
        )

    def missing(self) -> tuple[VideoRecord, ...]:
        """Return the videos whose file did not exist when the dataset was loaded, indexed or verified."""
        return tuple(r for r in self.records if r.status == "missing")

    def label_of(self, record: VideoRecord) -> str:
        """Return the class name of a video, or an empty string if it has no label."""
        return "" if record.label == UNLABELED else self.labels[record.label]

    def relative(self, record: VideoRecord) -> str:
        """Return the path of a video relative to the root, or the whole path if it is outside of the root."""
        # String operations, because pathlib is slow for half a million paths.
        text = record.path.as_posix()
        return text if self._root_prefix == "./" else text.removeprefix(self._root_prefix)

    @cached_property
    def _root_prefix(self) -> str:
        return self.root.as_posix().rstrip("/") + "/"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the dataset: path, current size in bytes, label, split and group of every video.

        Datasets with equal fingerprints have the same videos. A file that was deleted, or replaced by one of another
        size, changes the fingerprint. Indexing and verifying do not. To check the content of files too, run
        ``quovadis data verify``.
        """
        digest = hashlib.sha256()
        for path, record in sorted(((self.relative(r), r) for r in self.records), key=lambda pair: pair[0]):
            row = (path, str(file_size(record.path)), self.label_of(record), record.split, record.group)
            digest.update("\t".join(row).encode(errors="surrogateescape") + b"\n")
        return digest.hexdigest()[:12]

    def describe(self) -> str:
        """Return one line with the numbers of videos, classes and videos per split, and the fingerprint."""
        counts = Counter(r.split for r in self.records)
        parts = ", ".join(f"{counts[s]} {s}" for s in SPLITS if counts[s])
        return (
            f"{self.name}: {len(self.records)} videos of {len(self.labels)} classes ({parts}), data {self.fingerprint}"
        )

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the manifest to a Parquet file, atomically.

        The columns are the fields of :class:`VideoRecord`, with the class name as label and null for unknown values.
        Paths are relative to the root. The root is relative to the file if one of their folders contains the other,
        so that a folder can be moved together with its manifest.

        Args:
            path: Name of the file, usually ending in ``.parquet``.

        Returns:
            The path of the file.

        Raises:
            StorageError: If the file cannot be written, or exists and is not a manifest.
            DatasetError: If a file name is not valid UTF-8.

        Example:
            >>> folder = getfixture("tmp_path")
            >>> data = Manifest("toy", folder, ("run",), (VideoRecord(folder / "a.mp4", 0, "train"),))
            >>> Manifest.load(data.save(folder / "toy.parquet")) == data
            True
        """
        target = Path(path)
        columns: dict[str, list[Any]] = {name: [getattr(r, name, None) for r in self.records] for name in COLUMNS}
        columns |= {
            "path": [
                r.path.relative_to(self.root).as_posix()
                if r.path.is_relative_to(self.root)
                else os.path.abspath(r.path)
                for r in self.records
            ],
            "label": [self.label_of(r) or None for r in self.records],
            "sha256": [r.sha256 or None for r in self.records],
        }
        metadata = {"name": self.name, "labels": self.labels, "notes": self.reading_notes}
        write_manifest_file(target, columns, metadata | {"root": portable_root(target, self.root)})
        return target

    @staticmethod
    def load(path: str | PathLike[str], *, root: str | PathLike[str] | None = None) -> "Manifest":
        """Read a manifest that :meth:`save` wrote, without checking whether the videos exist.

        Args:
            path: The Parquet file.
            root: Folder of the videos, if it is not the one stored in the file.

        Raises:
            DatasetError: If the file is missing, damaged, not a manifest, of a newer format or inconsistent: a label
                without a name, an unknown split or status, a path that leaves the root.
        """
        source = Path(path)
        rows, metadata = read_manifest_file(source)
        folder = Path(root) if root is not None else source.parent / metadata["root"]
        labels = tuple(metadata["labels"])
        index_of = {label: i for i, label in enumerate(labels)}
        records = tuple(
            _record_from_row(row, folder, index_of, f"{source}, row {number}")
            for number, row in enumerate(rows, start=1)
        )
        return Manifest(metadata["name"], folder, labels, records, tuple(metadata["notes"]))

    def _notes_on_same_files(self) -> list[str]:
        several_labels, several_names = [], []
        for indices in same_files([r.path for r in self.records]):
            records = [self.records[i] for i in indices]
            names = " and ".join(dict.fromkeys(self.relative(r) for r in records))
            labels = list(dict.fromkeys(self.label_of(r) or "no label" for r in records))
            if len(labels) > 1:
                several_labels.append(f"{names} ({' and '.join(labels)})")
            elif len({r.path for r in records}) > 1:
                several_names.append(names)
        notes = []
        if several_labels:
            notes.append(f"listed with several labels: {preview_names(several_labels)}")
        if several_names:
            notes.append(f"listed under several names (links): {preview_names(several_names)}")
        return notes


def preview_names(names: Sequence[str]) -> str:
    """Join the first three names for a message, with the total if there are more.

    Example:
        >>> preview_names(["a", "b", "c", "d"])
        'a, b, c ... (4 in all)'
    """
    return ", ".join(names[:3]) + (f" ... ({len(names)} in all)" if len(names) > 3 else "")


def _record_from_row(row: dict[str, Any], root: Path, index_of: dict[str, int], where: str) -> VideoRecord:
    label, split, status = row["label"], row["split"], row["status"]
    if label is not None and label not in index_of:
        raise DatasetError(f"{where}: class {label!r} is not among the {len(index_of)} labels of the manifest")
    if split not in SPLITS:
        raise DatasetError(f"{where}: split is {split!r}; expected {', '.join(SPLITS)}")
    if status not in STATUSES:
        raise DatasetError(f"{where}: status is {status!r}; expected {', '.join(STATUSES)}")
    if not row["path"]:
        raise DatasetError(f"{where}: the path is empty")
    values = row | {name: row[name] or "" for name in ("group", "sha256", "reason")}
    path = path_within(root, row["path"], where)
    return VideoRecord(**values | {"path": path, "label": UNLABELED if label is None else index_of[label]})


def file_size(path: Path) -> int:
    """Return the size in bytes, or -1 if there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1
