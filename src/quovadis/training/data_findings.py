"""What a classifier and its features say about the videos of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quovadis.datasets.manifest import preview_names
from quovadis.training.data_checks import (
    LabelDoubt,
    LeakageEffect,
    LookAlike,
    accuracy_without,
    find_label_errors,
    find_near_duplicates,
    leaking_videos,
    nearest_neighbors,
)
from quovadis.training.feature_map import map_features

_UNEQUAL = 3
"""A ratio of class sizes above this is noted."""


@dataclass(frozen=True)
class DataFindings:
    """Doubtful labels, look-alikes and a map of the readable videos of a dataset. Indices are positions of videos."""

    names: tuple[str, ...]
    """Path of each video, relative to the dataset."""
    labels: tuple[str, ...]
    """Names of the classes."""
    targets: Tensor
    """int64 (N,): the class of each video."""
    parts: tuple[str, ...]
    """The fold or split of each video."""
    groups: tuple[str, ...]
    """The group of each video; empty for a video on its own."""
    files: tuple[Path, ...]
    """Cache file of each video; see :func:`quovadis.training.frozen_features.read_filmstrip`."""
    points: Tensor
    """float64 (N, 2) in [0, 1]: the map; see :func:`quovadis.training.feature_map.map_features`."""
    neighbors: Tensor
    """int64 (N,): the most similar other video."""
    scored: Tensor
    """int64 (M,): the videos with probabilities, which the classifier of the probabilities did not train on."""
    probabilities: Tensor
    """float64 (M, K): calibrated probabilities."""
    doubts: tuple[LabelDoubt, ...]
    """Videos whose label is contradicted, most confident first."""
    look_alikes: tuple[LookAlike, ...]
    """Pairs in different parts or classes, most similar first; pairs of one group and class are left out."""
    leakage: LeakageEffect
    """Accuracy with and without the tested videos that have a look-alike in another part."""

    def notes(self, *, balanced: bool) -> Iterator[str]:
        """Yield sentences about what a user should check.

        Args:
            balanced: Whether the classes have equal weight, so that unequal sizes matter less.
        """
        counts = torch.bincount(self.targets, minlength=len(self.labels))
        if not balanced and counts.max() > _UNEQUAL * counts.min():
            small, large = self.labels[int(counts.argmin())], self.labels[int(counts.argmax())]
            yield (
                f"{large!r} has {int(counts.max())} videos and {small!r} has {int(counts.min())}: consider --balanced, "
                "and look at the mean per class"
            )
        if self.leakage.num_leaking:
            pair = next(p for p in self.look_alikes if self.parts[p.first] != self.parts[p.second])
            yield (
                f"{self.leakage.num_leaking} tested videos look like one of another part and may be cuts of one "
                f"recording, for example {self.names[pair.first]} and {self.names[pair.second]}: "
                f"{self.describe_leakage()}. Give groups in a table or with --group-by"
            )
        if self.doubts:
            listed = [f"{self.names[d.index]} ({self.labels[d.predicted]} {d.probability:.0%})" for d in self.doubts]
            counted = f"{len(self.doubts)} label{'s' if len(self.doubts) > 1 else ''}"
            yield f"{counted} may be wrong: {preview_names(listed)}"

    def describe_leakage(self) -> str:
        """Describe the accuracy with and without look-alikes."""
        clean = self.leakage.clean_accuracy
        return f"top-1 is {self.leakage.accuracy:.1%}, without them {'unknown' if clean is None else f'{clean:.1%}'}"


def find_in_data(
    features: Tensor,
    targets: Tensor,
    logits: Tensor,
    scored: Tensor,
    *,
    names: Sequence[str],
    labels: Sequence[str],
    parts: Sequence[str],
    groups: Sequence[str],
    files: Sequence[Path],
    seed: int = 0,
) -> DataFindings:
    """Check a dataset by the features of its videos and by scores of a classifier that did not train on them.

    Args:
        features: float (N, D), one feature per video, N >= 2.
        targets: int64 (N,): the class of each video.
        logits: float (M, K): calibrated logits of the scored videos.
        scored: int64 (M,): positions of the scored videos.
        names: Path of each video.
        labels: Names of the classes.
        parts: The fold or split of each video.
        groups: The group of each video; empty for a video on its own.
        files: The cache file of each video.
        seed: Seed of the map.
    """
    probabilities = logits.double().softmax(1)
    doubts = [
        LabelDoubt(int(scored[d.index]), d.label, d.predicted, d.probability, d.label_probability)
        for d in find_label_errors(probabilities, targets[scored])
    ]
    codes = {part: i for i, part in enumerate(dict.fromkeys(parts))}
    leaking = leaking_videos(features, torch.tensor([codes[part] for part in parts]), groups)
    pairs = tuple(
        pair
        for pair in find_near_duplicates(features)
        if targets[pair.first] != targets[pair.second]
        or (parts[pair.first] != parts[pair.second] and not _same(groups[pair.first], groups[pair.second]))
    )
    return DataFindings(
        names=tuple(names),
        labels=tuple(labels),
        targets=targets,
        parts=tuple(parts),
        groups=tuple(groups),
        files=tuple(files),
        points=map_features(features, seed=seed),
        neighbors=nearest_neighbors(features, k=1)[0][:, 0],
        scored=scored,
        probabilities=probabilities,
        doubts=tuple(doubts),
        look_alikes=pairs,
        leakage=accuracy_without(logits.argmax(1) == targets[scored], leaking[scored]),
    )


def _same(first: str, second: str) -> bool:
    return bool(first) and first == second
