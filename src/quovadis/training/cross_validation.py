"""Cross-validation of classifiers on frozen features, by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean, stdev

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.datasets.splits import assign_folds
from quovadis.errors import TrainingError
from quovadis.training.logistic import L2_STRENGTHS, fit_logistic

_NUM_INNER_FOLDS = 3
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class CrossValidation:
    """Out-of-fold predictions: each video is scored by a classifier that has not seen the videos of its fold."""

    folds: Tensor
    """int64 (N,): the fold of each video."""
    groups: tuple[str, ...]
    """The group of each video; empty for a video on its own."""
    targets: Tensor
    """int64 (N,)."""
    logits: Tensor
    """float64 (N, K)."""
    strengths: tuple[float, ...]
    """Strength of the penalty of each fold, selected on its training videos."""

    @cached_property
    def correct(self) -> Tensor:
        """Whether each video is recognized, bool (N,)."""
        return self.logits.argmax(1) == self.targets

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy over all videos."""
        return float(self.correct.double().mean())

    @cached_property
    def fold_accuracies(self) -> tuple[float, ...]:
        """Top-1 accuracy of each fold."""
        return tuple(float(self.correct[self.folds == k].double().mean()) for k in range(len(self.strengths)))

    @property
    def spread(self) -> float:
        """Sample standard deviation of the accuracies of the folds."""
        return stdev(self.fold_accuracies)

    @property
    def majority(self) -> float:
        """Accuracy of always predicting the largest class."""
        return float(torch.bincount(self.targets).max()) / len(self.targets)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % bootstrap confidence interval of :attr:`accuracy`; whole groups are resampled."""
        members: dict[str, list[int]] = defaultdict(list)
        for i, group in enumerate(self.groups):
            members[group or f"\0{i}"].append(i)
        sizes = np.array([len(m) for m in members.values()])
        hits = np.array([int(self.correct[m].sum()) for m in members.values()])
        chosen = np.random.default_rng(0).integers(len(sizes), size=(_NUM_RESAMPLES, len(sizes)))
        low, high = np.quantile(hits[chosen].sum(1) / sizes[chosen].sum(1), (0.025, 0.975))
        return float(low), float(high)

    def describe(self) -> str:
        """Describe the accuracy in one sentence."""
        low, high = self.interval
        return (
            f"top-1 {self.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}; folds {mean(self.fold_accuracies):.1%} "
            f"± {self.spread:.1%}); the largest class has {self.majority:.1%}"
        )


def cross_validate(
    samples: Tensor,
    targets: Tensor,
    groups: Sequence[str],
    num_classes: int,
    *,
    num_folds: int = 5,
    strengths: Sequence[float] = L2_STRENGTHS,
    balanced: bool = False,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CrossValidation:
    """Cross-validate a logistic regression. Whole groups are left out, and the penalty is selected inside each fold.

    Args:
        samples: float (N, views, D): one or more views of each video.
        targets: int64 (N,).
        groups: The group of each video, such as its source recording; empty for a video on its own.
        num_classes: Number of classes.
        num_folds: Number of folds.
        strengths: Penalties to select from; see :func:`quovadis.training.logistic.fit_logistic`.
        balanced: Give all classes the same total weight.
        seed: Seed of the folds.
        progress: Called with the number of finished folds.

    Raises:
        DatasetError: If there are fewer groups than folds.
        TrainingError: If all videos of a class are in one fold.

    Example:
        >>> targets = torch.arange(40) % 2
        >>> samples = torch.randn(40, 1, 3, generator=torch.Generator().manual_seed(0)) + 9 * targets[:, None, None]
        >>> cross_validate(samples, targets, [""] * 40, 2).accuracy
        1.0
    """
    folds = torch.tensor(assign_folds(targets.tolist(), groups, num_folds, seed=seed))
    logits = torch.zeros(len(targets), num_classes, dtype=torch.float64)
    chosen = []
    for fold in range(num_folds):
        held_out = folds == fold
        rest = (~held_out).nonzero().flatten().tolist()
        missing = sorted(set(range(num_classes)) - set(targets[rest].tolist()))
        if missing:
            raise TrainingError(
                f"fold {fold + 1} contains all videos of {len(missing)} classes, the first is number {missing[0]}: use "
                "fewer folds or another seed, or add videos of other groups"
            )
        own_groups = [groups[i] for i in rest]
        l2 = select_strength(samples[rest], targets[rest], own_groups, num_classes, strengths, balanced, seed)
        weight, bias = _fit(samples[rest], targets[rest], num_classes, l2, balanced)
        logits[held_out] = samples[held_out].double().mean(1) @ weight.T + bias
        chosen.append(l2)
        if progress is not None:
            progress(fold + 1)
    return CrossValidation(folds, tuple(groups), targets, logits, tuple(chosen))


def select_strength(
    samples: Tensor,
    targets: Tensor,
    groups: Sequence[str],
    num_classes: int,
    strengths: Sequence[float],
    balanced: bool,
    seed: int,
) -> float:
    """Select the penalty with the lowest cross-entropy on held-out groups; arguments as for :func:`cross_validate`.

    Folds whose training part lacks a class are left out. If none remains, the penalty is 1.
    """
    num_groups = len({group or f"\0{i}" for i, group in enumerate(groups)})
    num_folds = min(_NUM_INNER_FOLDS, num_groups)
    if num_folds < 2 or len(strengths) == 1:
        return strengths[0] if len(strengths) == 1 else 1.0
    folds = torch.tensor(assign_folds(targets.tolist(), groups, num_folds, seed=seed))
    losses = dict.fromkeys(strengths, 0.0)
    usable = [k for k in range(num_folds) if len(targets[folds != k].unique()) == num_classes]
    for fold in usable:
        train, held_out = folds != fold, folds == fold
        for l2 in strengths:
            weight, bias = _fit(samples[train], targets[train], num_classes, l2, balanced)
            scores = samples[held_out].double().mean(1) @ weight.T + bias
            losses[l2] += float(F.cross_entropy(scores, targets[held_out], reduction="sum"))
    return min(losses, key=lambda l2: losses[l2]) if usable else 1.0


def _fit(samples: Tensor, targets: Tensor, num_classes: int, l2: float, balanced: bool) -> tuple[Tensor, Tensor]:
    """Fit on all views of all videos."""
    repeated = targets.repeat_interleave(samples.shape[1])
    return fit_logistic(samples.flatten(0, 1), repeated, num_classes, l2=l2, balanced=balanced)
