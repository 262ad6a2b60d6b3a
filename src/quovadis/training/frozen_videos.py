"""The videos of a classifier on frozen features, and whether they can train one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord, preview_names
from quovadis.errors import TrainingError
from quovadis.training.frozen_features import CachedVideos, Features


@dataclass(frozen=True)
class FrozenVideos:
    """Videos of a dataset with their features."""

    data: Manifest
    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    samples: Tensor
    """float32 (readable videos, views, D): the mean over time."""
    files: tuple[Path, ...]
    """The cache file of each readable video, with its filmstrip."""

    @property
    def readable(self) -> list[VideoRecord]:
        """The videos with features."""
        return [r for r, error in zip(self.records, self.errors, strict=True) if not error]

    @property
    def targets(self) -> Tensor:
        """int64: the classes of the readable videos."""
        return torch.tensor([r.label for r in self.readable])

    def rows(self, split: str) -> Tensor:
        """Positions of the readable videos of a split."""
        return torch.tensor([i for i, r in enumerate(self.readable) if r.split == split], dtype=torch.int64)


def require_classes(data: Manifest, records: Sequence[VideoRecord], num_folds: int) -> None:
    """Raise TrainingError before anything is computed if the listed videos cannot train a classifier."""
    if len(data.labels) < 2:
        raise TrainingError(
            f"{data.name} has only the class {data.labels[0]!r}: a classifier needs at least two, for example a folder "
            "of videos that show something else"
        )
    groups: dict[int, set[str]] = {label: set() for label in range(len(data.labels))}
    for i, record in enumerate(records):
        if num_folds or record.split == "train":
            groups[record.label].add(record.group or f"\0{i}")
    empty = [data.labels[label] for label, own in groups.items() if not own]
    if empty:
        where = "video" if num_folds else "video in the training split"
        raise TrainingError(
            f"{preview_names(empty)} of {data.name} {'has' if len(empty) == 1 else 'have'} no {where}: add videos, or "
            "remove the class"
        )
    single = [data.labels[label] for label, own in groups.items() if len(own) == 1]
    if num_folds and single:
        raise TrainingError(
            f"cross-validation needs two videos or groups of videos in each class, and {preview_names(single)} of "
            f"{data.name} {'has' if len(single) == 1 else 'have'} one: add videos of another source, remove the class, "
            "or train without --folds"
        )
    num_groups = len(set().union(*groups.values()))
    if num_folds > num_groups:
        raise TrainingError(
            f"{num_folds} folds need at least {num_folds} groups of videos, and {data.name} has {num_groups}: use "
            "fewer --folds, or add videos of other sources"
        )


def frozen_records(data: Manifest, num_folds: int) -> tuple[VideoRecord, ...]:
    """The videos that are needed: all labeled ones, or those of the three splits."""
    if num_folds:
        return tuple(r for r in data.records if r.label != UNLABELED)
    return tuple(r for split in ("train", "val", "test") for r in data.split(split))


def require_readable_classes(videos: FrozenVideos, num_folds: int) -> None:
    """Raise TrainingError if a class has no readable training video, or a split no readable video."""
    rows = {split: videos.rows(split) for split in ("train", "val", "test")}
    present = videos.targets if num_folds else videos.targets[rows["train"]]
    missing = sorted(set(range(len(videos.data.labels))) - set(present.tolist()))
    if missing:
        names = preview_names([videos.data.labels[i] for i in missing])
        where = "readable video" if num_folds else "readable video in the training split"
        reasons = sorted({e for r, e in zip(videos.records, videos.errors, strict=True) if e and r.label in missing})
        raise TrainingError(
            f"{names} of {videos.data.name} {'has' if len(missing) == 1 else 'have'} no {where}"
            f"{f' ({reasons[0]})' if reasons else ''}: add videos, or remove the class"
        )
    empty = [split for split, own in rows.items() if not len(own)]
    if empty and not num_folds:
        raise TrainingError(
            f"no {empty[0]} video of {videos.data.name} can be read; add videos, or use --folds 5 (num_folds=5)"
        )


def join_features(
    features: Sequence[Features],
) -> tuple[tuple[VideoRecord, ...], tuple[str, ...], Tensor, tuple[Path, ...]]:
    """Concatenate the features of several networks. A video that one of them could not use is left out."""
    first = features[0]
    errors = tuple(next(filter(None, of_video), "") for of_video in zip(*(f.errors for f in features), strict=True))
    parts = []
    for part in features:
        own = [i for i, error in enumerate(part.errors) if not error]
        kept = [row for row, i in enumerate(own) if not errors[i]]
        parts.append(part.values[kept].mean(2))
    own = [i for i, error in enumerate(first.errors) if not error]
    files = tuple(first.files[row] for row, i in enumerate(own) if not errors[i])
    return first.records, errors, torch.cat(parts, 2), files


def require_same_videos(videos: FrozenVideos, stored: CachedVideos) -> None:
    """Raise TrainingError if a video became readable or unreadable after its features were computed."""
    both = zip(videos.records, videos.errors, stored.errors, strict=True)
    changed = [record.path.name for record, a, b in both if bool(a) != bool(b)]
    if changed:
        raise TrainingError(f"{preview_names(changed)} changed during the run: run the command again")
