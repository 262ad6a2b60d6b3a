"""Fit and calibrate a logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.metrics.calibration import fit_temperature
from quovadis.training.cross_validation import CrossValidation, cross_validate, select_strength
from quovadis.training.frozen_videos import FrozenVideos
from quovadis.training.logistic import L2_STRENGTHS, fit_logistic


@dataclass(frozen=True)
class FrozenFit:
    """A classifier and its logits of videos it was not trained on."""

    weight: Tensor
    """float64 (K, D)."""
    bias: Tensor
    """float64 (K)."""
    l2: float
    temperature: float
    scored: Tensor
    """Positions of the readable videos with logits."""
    logits: Tensor
    """Calibrated logits of these videos, none of which the classifier of the logits was trained on."""
    split: str
    cross_validation: CrossValidation | None = None


def fit_with_folds(
    videos: FrozenVideos, num_folds: int, balanced: bool, seed: int, progress: Callable[[int], None]
) -> FrozenFit:
    """Cross-validate, and fit the classifier on all videos."""
    targets, groups = videos.targets, [r.group for r in videos.readable]
    num_classes = len(videos.data.labels)
    validation = cross_validate(
        videos.samples,
        targets,
        groups,
        num_classes,
        num_folds=num_folds,
        balanced=balanced,
        seed=seed,
        progress=progress,
    )
    l2 = select_strength(videos.samples, targets, groups, num_classes, L2_STRENGTHS, balanced, seed)
    weight, bias = fit_rows(videos, torch.arange(len(targets)), l2, balanced)
    temperature = fit_temperature(validation.logits, targets)
    by = "group" if any(groups) else "video"
    return FrozenFit(
        weight,
        bias,
        l2,
        temperature,
        torch.arange(len(targets)),
        validation.logits / temperature,
        f"{num_folds} folds by {by}",
        validation,
    )


def fit_on_splits(videos: FrozenVideos, balanced: bool) -> FrozenFit:
    """Fit on the split train, choose the penalty and the temperature on val, and score test."""
    train, val, test = (videos.rows(split) for split in ("train", "val", "test"))
    targets = videos.targets
    fits = []
    for l2 in L2_STRENGTHS:
        weight, bias = fit_rows(videos, train, l2, balanced)
        logits = videos.samples[val].double().mean(1) @ weight.T + bias
        fits.append((float(F.cross_entropy(logits, targets[val])), l2, weight, bias, logits))
    _, l2, weight, bias, logits = min(fits, key=lambda fit: fit[0])
    temperature = fit_temperature(logits, targets[val])
    scores = (videos.samples[test].double().mean(1) @ weight.T + bias) / temperature
    return FrozenFit(weight, bias, l2, temperature, test, scores, "test")


def fit_rows(videos: FrozenVideos, rows: Tensor, l2: float, balanced: bool) -> tuple[Tensor, Tensor]:
    """Fit the weight (K, D) and bias (K) on the readable videos at ``rows``."""
    samples = videos.samples[rows]
    targets = videos.targets[rows].repeat_interleave(samples.shape[1])
    return fit_logistic(samples.flatten(0, 1), targets, len(videos.data.labels), l2=l2, balanced=balanced)
