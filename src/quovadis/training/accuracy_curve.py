"""Learning curve: accuracy on held-out groups against the number of training videos per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.training.logistic import fit_logistic

CURVE_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy for one number of training videos."""

    num_per_class: int
    """Training videos per class; for the last point the mean over the classes, with all videos."""
    accuracy: float
    """Mean accuracy of the runs on held-out videos, in [0, 1]."""
    low: float
    """Mean minus one standard deviation of the runs."""
    high: float
    """Mean plus one standard deviation of the runs."""
    num_runs: int
    """Number of repeated cross-validations."""


def learning_curve(
    features: Tensor,
    targets: Tensor,
    groups: Sequence[str],
    *,
    l2: float,
    sizes: Sequence[int] = CURVE_SIZES,
    num_repeats: int = 3,
    num_folds: int = 5,
    seed: int = 0,
) -> tuple[CurvePoint, ...]:
    """Measure how the accuracy grows with the number of training videos per class.

    Each run is a cross-validation with folds that do not divide a group. The training videos are reduced at random to
    the same number per class; larger samples contain the smaller ones. Videos of one group resemble each other, so they
    add less information than the same number of unrelated videos would. The curve ends with all training videos.

    Args:
        features: float (N, D), one feature per video.
        targets: int64 (N,), classes 0 to K - 1, at least two.
        groups: Group of each video; a video with an empty group is its own group.
        l2: Strength of the penalty, see :func:`fit_logistic`.
        sizes: Training videos per class; sizes that are not below the smallest class are dropped.
        num_repeats: Number of cross-validations.
        num_folds: Maximum number of folds; at most the number of groups of the rarest class.
        seed: Seed of folds and samples.

    Returns:
        Points by increasing number of videos.

    Raises:
        InvalidInputError: If the lengths differ, there are fewer than two classes, or a class has only one group.

    Example:
        >>> targets = torch.arange(40) % 2
        >>> features = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)) + 3 * targets[:, None]
        >>> points = learning_curve(features, targets, [""] * 40, l2=1.0, num_repeats=2)
        >>> [point.num_per_class for point in points]
        [1, 2, 5, 10, 16]
    """
    if features.ndim != 2 or targets.shape != features.shape[:1] or len(groups) != len(targets):
        raise InvalidInputError(
            f"expected features (N, D), targets (N,) and N groups; got shapes {tuple(features.shape)}, "
            f"{tuple(targets.shape)} and {len(groups)} groups"
        )
    names = np.array([group or f"\0{i}" for i, group in enumerate(groups)])
    y = targets.numpy()
    num_classes = int(y.max(initial=-1)) + 1
    groups_per_class = [len(set(names[y == label])) for label in range(num_classes)]
    if num_classes < 2 or min(groups_per_class) < 2:
        raise InvalidInputError(
            "a learning curve needs at least two classes and two groups of videos in each; got "
            f"{groups_per_class} groups per class; add videos from other recordings"
        )
    num_folds = min(num_folds, *groups_per_class)
    runs = [_folds(y, names, num_folds, seed + repeat) for repeat in range(num_repeats)]
    smallest = min(int(np.bincount(y[train], minlength=num_classes).min()) for run in runs for train, _ in run)
    everything = round(float(np.mean([len(train) for run in runs for train, _ in run])) / num_classes)
    points = []
    for size in [*sorted(n for n in set(sizes) if 1 <= n < smallest), None]:
        accuracies = []
        for repeat, run in enumerate(runs):
            correct = 0
            for fold, (train, test) in enumerate(run):
                chosen = train if size is None else _sample(train, y, size, (seed, repeat, fold))
                correct += _num_correct(features, targets, torch.from_numpy(chosen), torch.from_numpy(test), l2)
            accuracies.append(correct / sum(len(test) for _, test in run))
        mean = float(np.mean(accuracies))
        spread = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
        count = everything if size is None else size
        points.append(CurvePoint(count, mean, max(mean - spread, 0.0), min(mean + spread, 1.0), len(accuracies)))
    return tuple(points)


def more_data_helps(points: Sequence[CurvePoint]) -> str:
    """Say in one sentence whether more videos will improve the accuracy.

    Fits a line to the accuracy over the logarithm of the number of videos, for the points of the last two
    doublings (at least two points). The uncertainty is two standard errors of its slope.

    Args:
        points: Learning curve, see :func:`learning_curve`.

    Returns:
        One sentence.

    Example:
        >>> more_data_helps([CurvePoint(10, 0.60, 0.59, 0.61, 9), CurvePoint(20, 0.65, 0.64, 0.66, 9)])
        'Doubling the number of clips added 5.0 points of accuracy (± 0.9): more clips will probably help.'
    """
    last = [p for p in points if p.num_per_class > 0]
    last = [p for i, p in enumerate(last) if p.num_per_class >= last[-1].num_per_class / 4 or i >= len(last) - 2]
    x = np.log2([p.num_per_class for p in last]) if last else np.zeros(0)
    if len(last) < 2 or np.ptp(x) == 0:
        return "There are too few clips to tell whether more would help."
    slopes = (x - x.mean()) / np.square(x - x.mean()).sum()
    gain = 100 * float(slopes @ [p.accuracy for p in last])
    errors = np.array([max(p.high - p.accuracy, p.accuracy - p.low) / np.sqrt(max(p.num_runs, 1)) for p in last])
    doubt = 200 * float(np.sqrt(np.square(slopes * errors).sum()))
    text = f"{abs(gain):.1f} points of accuracy (± {doubt:.1f})"
    if gain - doubt >= 0.5:
        return f"Doubling the number of clips added {text}: more clips will probably help."
    if gain + doubt < 1:
        change = "added" if gain >= 0 else "cost"
        return f"The curve is flat: doubling the number of clips {change} {text}; more similar clips will hardly help."
    return f"Doubling the number of clips {'added' if gain >= 0 else 'cost'} {text}: too uncertain to tell."


def _folds(y: np.ndarray, groups: np.ndarray, num_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (train, test) indices of each fold whose training part contains every class."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed).split(y, y, groups)
    complete = [(train, test) for train, test in folds if len(test) and len(set(y[train])) == len(set(y))]
    if not complete:
        raise InvalidInputError(
            "no fold leaves every class in its training part, because the classes share groups; add videos from other "
            "recordings"
        )
    return complete


def _sample(train: np.ndarray, y: np.ndarray, size: int, seed: tuple[int, ...]) -> np.ndarray:
    """Draw ``size`` videos per class; the smaller of two samples with one seed is part of the larger one."""
    order = np.random.default_rng(seed).permutation(train)
    return np.concatenate([order[y[order] == label][:size] for label in np.unique(y)])


def _num_correct(features: Tensor, targets: Tensor, train: Tensor, test: Tensor, l2: float) -> int:
    weight, bias = fit_logistic(features[train], targets[train], int(targets.max()) + 1, l2=l2)
    predicted = (features[test].double() @ weight.T + bias).argmax(1)
    return int((predicted == targets[test]).sum())
