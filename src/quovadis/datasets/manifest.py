"""The list of videos that a figure stands on."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from quovadis.errors import DatasetError, UnknownNameError

SPLITS = ("train", "val", "test")
SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validate", "validation"), "val"
)
"""What people call the splits, to what we call them."""


@dataclass(frozen=True)
class VideoRecord:
    """One labelled video."""

    path: Path
    label: int
    """Index into ``Manifest.labels``."""
    split: str
    group: str = ""
    """What it was cut from (a source video, a person, a place). Videos of one group never lie in two splits."""


@dataclass(frozen=True)
class Manifest:
    """Labelled videos with their splits.

    Raises:
        DatasetError: no videos, or a group that lies in two splits.
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
        splits_of = defaultdict(set)
        for record in self.records:
            if record.group:
                splits_of[record.group].add(record.split)
        leaks = sorted(group for group, splits in splits_of.items() if len(splits) > 1)
        if leaks:
            raise DatasetError(
                f"{self.name}: {len(leaks)} groups lie in more than one split ({', '.join(leaks[:3])} ...): test "
                "videos would be cut from the same source as training videos. Mend the split column, or leave it out "
                "and have the splits made by group"
            )

    def split(self, name: str) -> tuple[VideoRecord, ...]:
        """The videos of one split.

        Raises:
            UnknownNameError: no such split. DatasetError: it has no videos.
        """
        if name not in SPLITS:
            raise UnknownNameError.among("split", name, SPLITS)
        chosen = tuple(r for r in self.records if r.split == name)
        if not chosen:
            raise DatasetError(f"{self.name} has no videos in its {name} split")
        return chosen

    def with_labels(self, labels: tuple[str, ...]) -> "Manifest":
        """The same videos with their classes numbered as in ``labels``: the order of a model's logits.

        Raises:
            DatasetError: a class of these videos is not among ``labels``.
        """
        unknown = [name for name in self.labels if name not in labels]
        if unknown:
            raise DatasetError(
                f"{self.name} has {len(unknown)} classes that the model does not know: {shorten(unknown)}; it knows "
                f"{shorten(labels)}"
            )
        number = {name: i for i, name in enumerate(labels)}
        records = tuple(replace(r, label=number[self.labels[r.label]]) for r in self.records)
        return replace(self, labels=labels, records=records)

    def relative(self, record: VideoRecord) -> str:
        """The path of a video within the dataset."""
        return (
            record.path.relative_to(self.root).as_posix() if record.path.is_relative_to(self.root) else str(record.path)
        )

    @cached_property
    def identity(self) -> str:
        """Hash of the list: path, size in bytes, label, split and group of every video. Equal hashes, equal data."""
        digest = hashlib.sha256()
        for record in sorted(self.records, key=self.relative):
            size = record.path.stat().st_size if record.path.is_file() else -1
            row = (self.relative(record), str(size), self.labels[record.label], record.split, record.group)
            digest.update("\t".join(row).encode() + b"\n")
        return digest.hexdigest()[:12]

    def missing(self) -> tuple[VideoRecord, ...]:
        """Listed videos that are not there."""
        return tuple(r for r in self.records if not r.path.is_file())

    def describe(self) -> str:
        """One line: how many videos of how many classes, by split."""
        counts = Counter(r.split for r in self.records)
        parts = ", ".join(f"{counts[s]} {s}" for s in SPLITS if counts[s])
        return f"{self.name}: {len(self.records)} videos of {len(self.labels)} classes ({parts}), data {self.identity}"


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
