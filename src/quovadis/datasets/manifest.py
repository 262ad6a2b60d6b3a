"""The list of videos that a figure stands on."""

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

import numpy as np

from quovadis.datasets.class_names import match_names
from quovadis.errors import DatasetError, UnknownNameError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation"), "val"
)
"""What people call the splits, to what we call them."""
UNLABELED = -1
"""The label of a video whose class is not published, as in the test lists of Kinetics."""
STATUSES = ("listed", "ok", "missing", "corrupt")
"""Listed, and nothing wrong is known; decoded to its end; not there; there, and cannot be decoded to its end."""


@dataclass(frozen=True)
class VideoRecord:
    """One labeled video, and what is known of its file.

    Only path, label, split and group make the dataset; the rest is found by
    :func:`quovadis.datasets.inspection.index_videos` and :func:`quovadis.datasets.inspection.verify_videos`.
    """

    path: Path
    label: int
    """Index into ``Manifest.labels``, or :data:`UNLABELED`."""
    split: str
    group: str = ""
    """What it was cut from (a source video, a person, a place). Videos of one group never lie in two splits."""
    num_frames: int | None = None
    """Of the file as it is; from the header, or counted where the status is ``ok``."""
    fps: float | None = None
    duration_seconds: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    size_bytes: int | None = None
    sha256: str = ""
    """Of the file's bytes, 64 hexadecimal digits."""
    status: str = "listed"
    """One of :data:`STATUSES`."""
    reason: str = ""
    """Why it is missing or corrupt."""


@dataclass(frozen=True)
class Manifest:
    """Labeled videos with their splits.

    Raises:
        DatasetError: no videos, a group or a file that lies in two splits, or a label without a name.
    """

    name: str
    root: Path
    labels: tuple[str, ...]
    records: tuple[VideoRecord, ...]
    notes: tuple[str, ...] = ()
    """What was decided while reading: how splits were made, which files are missing ..."""

    def __post_init__(self) -> None:
        if not self.records:
            raise DatasetError(f"{self.name}: no videos found in {self.root}")
        nameless = sorted({r.label for r in self.records if not UNLABELED <= r.label < len(self.labels)})
        if nameless:
            raise DatasetError(f"{self.name} has {len(self.labels)} classes, and videos of class number {nameless[0]}")
        self._refuse_shared_files()
        splits_of = defaultdict(set)
        for record in self.records:
            if record.group:
                splits_of[record.group].add(record.split)
        leaks = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
        if leaks:
            raise DatasetError(
                f"{self.name}: {len(leaks)} groups lie in more than one split ({', '.join(leaks[:3])} ...): test "
                "videos would be cut from the same source as training videos. Mend the splits, or give none and have "
                "them made by group"
            )

    def _refuse_shared_files(self) -> None:
        split_of: dict[Path, str] = {}
        for record in self.records:
            other = split_of.setdefault(record.path, record.split)
            if other != record.split:
                raise DatasetError(f"{self.name}: {self.relative(record)} is listed in {other} and in {record.split}")

    def split(self, name: str) -> tuple[VideoRecord, ...]:
        """The videos of one split, to train on or to measure with.

        Raises:
            UnknownNameError: no such split. DatasetError: it has no videos, or some without a label.
        """
        if name not in SPLITS:
            raise UnknownNameError.among("split", name, SPLITS)
        chosen = tuple(r for r in self.records if r.split == name)
        if not chosen:
            raise DatasetError(f"{self.name} has no videos in its {name} split")
        unlabeled = sum(r.label == UNLABELED for r in chosen)
        if unlabeled:
            raise DatasetError(
                f"{unlabeled} of {len(chosen)} videos in the {name} split of {self.name} have no label: nothing can "
                "be learnt from them, nor measured with them"
            )
        return chosen

    def with_labels(self, labels: tuple[str, ...]) -> "Manifest":
        """The same videos with their classes numbered as in ``labels``: the order of a model's logits.

        Class names may differ in case, blanks, underscores and punctuation where that leaves no choice; a note says so.

        Raises:
            DatasetError: a class of these videos is not among ``labels``.
        """
        matches = match_names(self.labels, labels, self.name)
        number = {name: labels.index(match) for name, match in matches.items()}
        records = tuple(replace(r, label=number.get(self.label_of(r), UNLABELED)) for r in self.records)
        renamed = [f"{name} is {match}" for name, match in matches.items() if name != match]
        notes = (f"classes were matched with those of the model: {shorten(renamed)}",) if renamed else ()
        return replace(self, labels=labels, records=records, notes=(*self.notes, *notes))

    def keep_classes(self, classes: Sequence[str]) -> "Manifest":
        """The videos of some classes only, as in Mini-Kinetics; the classes stay in the order they have here.

        Raises:
            DatasetError: no classes, one twice, or one that this dataset does not have.

        >>> from pathlib import Path
        >>> records = [VideoRecord(Path(f"{i}.mp4"), i, "train") for i in range(3)]
        >>> data = Manifest("toy", Path(), ("jump", "run", "swim"), tuple(records)).keep_classes(["swim", "jump"])
        >>> data.labels, [(r.path.name, data.label_of(r)) for r in data.records]
        (('jump', 'swim'), [('0.mp4', 'jump'), ('2.mp4', 'swim')])
        """
        twice = sorted(name for name, count in Counter(classes).items() if count > 1)
        if twice or not classes:
            raise DatasetError(f"the list of classes names {shorten(twice)} twice" if twice else "no classes are named")
        unknown = [name for name in classes if name not in self.labels]
        if unknown:
            near = get_close_matches(unknown[0], self.labels, n=2)
            hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            raise DatasetError(
                f"{self.name} has no class {unknown[0]!r}{hint}, and lacks {len(unknown)} of the {len(classes)} that "
                f"were asked for; it has {shorten(self.labels)}"
            )
        labels = tuple(name for name in self.labels if name in set(classes))
        number = {name: i for i, name in enumerate(labels)}
        records = [(r, number.get(self.label_of(r))) for r in self.records]
        return replace(
            self,
            name=f"{self.name}-{len(labels)}classes",
            labels=labels,
            records=tuple(replace(r, label=label) for r, label in records if label is not None),
            notes=(*self.notes, f"{len(labels)} of {len(self.labels)} classes"),
        )

    def label_of(self, record: VideoRecord) -> str:
        """The name of a video's class; empty where it is not known."""
        return "" if record.label == UNLABELED else self.labels[record.label]

    def relative(self, record: VideoRecord) -> str:
        """The path of a video within the dataset; the whole path where it lies elsewhere."""
        # As text, because a manifest may have half a million paths, and pathlib takes its time.
        text = record.path.as_posix()
        if self._root_prefix == "./":
            return text
        return text.removeprefix(self._root_prefix)

    @cached_property
    def _root_prefix(self) -> str:
        return self.root.as_posix().rstrip("/") + "/"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the list: path, size in bytes, label, split and group of every video. Equal hashes, equal data.

        Sizes are those of the files as they are now, so a file that was lost or replaced by one of another length
        shows. What :meth:`save` stores beyond the list (frames, content hashes, status) is not covered: it describes
        the same data, so looking at them more closely does not change who they are. That the bytes are still those
        that were indexed is what ``quovadis data verify`` proves.
        """
        digest = hashlib.sha256()
        for path, record in sorted(((self.relative(r), r) for r in self.records), key=lambda pair: pair[0]):
            row = (path, str(_file_size(record.path)), self.label_of(record), record.split, record.group)
            digest.update("\t".join(row).encode(errors="surrogateescape") + b"\n")
        return digest.hexdigest()[:12]

    def save(self, path: str | PathLike[str]) -> Path:
        """Write everything to a Parquet file; see :func:`quovadis.datasets.manifest_file.save_manifest`."""
        from quovadis.datasets.manifest_file import save_manifest

        return save_manifest(self, path)

    @staticmethod
    def load(path: str | PathLike[str], *, root: str | PathLike[str] | None = None) -> "Manifest":
        """Read what :meth:`save` wrote; see :func:`quovadis.datasets.manifest_file.read_manifest`."""
        from quovadis.datasets.manifest_file import read_manifest

        return read_manifest(path, root=root)

    def missing(self) -> tuple[VideoRecord, ...]:
        """Listed videos that are not there."""
        return tuple(r for r in self.records if not os.path.isfile(r.path))

    def describe(self) -> str:
        """One line: how many videos of how many classes, by split."""
        counts = Counter(r.split for r in self.records)
        parts = ", ".join(f"{counts[s]} {s}" for s in SPLITS if counts[s])
        return (
            f"{self.name}: {len(self.records)} videos of {len(self.labels)} classes ({parts}), data {self.fingerprint}"
        )


def _file_size(path: Path) -> int:
    """Bytes; -1 where there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


def shorten(names: Sequence[str]) -> str:
    """A list of names for a message.

    >>> shorten(["a", "b", "c", "d"])
    'a, b, c ... (4 in all)'
    """
    return ", ".join(names[:3]) + (f" ... ({len(names)} in all)" if len(names) > 3 else "")


def assign_splits(
    labels: Sequence[int],
    groups: Sequence[str],
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
) -> list[str]:
    """Splits for videos that came without: whole groups only, each class spread by ``fractions``.

    Groups are taken in a random order, the largest first among equals, and each goes to the split that lacks most of
    the classes it brings. A video with an empty group is a group of its own.

    >>> assign_splits([0, 0, 0, 0, 1, 1, 1, 1], ["a", "a", "b", "c", "d", "d", "e", "f"], fractions=(0.5, 0.25, 0.25))
    ['train', 'train', 'test', 'val', 'train', 'train', 'test', 'val']
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group or f"\0{i}"].append(i)
    num_classes = max(labels) + 1
    totals = np.bincount(labels, minlength=num_classes).astype(float)
    lacking = np.outer(fractions, totals)
    rng = np.random.default_rng(seed)
    order = list(members.values())
    rng.shuffle(order)
    order.sort(key=len, reverse=True)
    splits = [""] * len(labels)
    for group_members in order:
        brings = np.bincount([labels[i] for i in group_members], minlength=num_classes)
        share = lacking / np.maximum(np.outer(fractions, totals), 1e-9)
        best = int(np.argmax((share * brings).sum(1)))
        lacking[best] -= brings
        for i in group_members:
            splits[i] = SPLITS[best]
    return splits
