"""Calibration of class probabilities: expected calibration error, reliability bins and temperature scaling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class ReliabilityBin:
    """The videos whose confidence is in (low, high]; the first bin includes 0."""

    low: float
    """Lower limit of the confidence."""
    high: float
    """Upper limit of the confidence."""
    confidence: float
    """Mean probability of the predicted class, in [0, 1]; NaN for an empty bin."""
    accuracy: float
    """Fraction of correct predictions, in [0, 1]; NaN for an empty bin."""
    count: int
    """Number of videos."""


def reliability_bins(probabilities: Tensor, targets: Tensor, num_bins: int = 15) -> tuple[ReliabilityBin, ...]:
    """Compare confidence and accuracy in bins of equal width.

    The confidence is the probability of the predicted class. Predictions are calibrated if confidence and accuracy
    agree in each bin.

    Args:
        probabilities: float (N, K), rows sum to 1.
        targets: int64 (N,), the true classes.
        num_bins: Number of bins in [0, 1].

    Returns:
        All bins by increasing confidence, empty bins included.

    Raises:
        InvalidInputError: If the shapes do not match, there are no videos, or a value is outside [0, 1].

    Example:
        >>> bins = reliability_bins(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), num_bins=2)
        >>> [(b.count, b.accuracy, round(b.confidence, 2)) for b in bins]
        [(0, nan, nan), (2, 0.5, 0.85)]
    """
    _check(probabilities, targets)
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():
        raise InvalidInputError("probabilities must be in [0, 1]; apply softmax to logits first")
    if num_bins < 1:
        raise InvalidInputError(f"num_bins must be at least 1; got {num_bins}")
    confidence, predicted = probabilities.double().clamp(max=1).max(1)
    correct = (predicted == targets).double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    index = (torch.bucketize(confidence, edges) - 1).clamp(0, num_bins - 1)
    bins = []
    for i in range(num_bins):
        inside = index == i
        means = float(confidence[inside].mean()), float(correct[inside].mean())
        bins.append(ReliabilityBin(float(edges[i]), float(edges[i + 1]), *means, int(inside.sum())))
    return tuple(bins)


def expected_calibration_error(probabilities: Tensor, targets: Tensor, num_bins: int = 15) -> float:
    """Compute the expected calibration error of the predicted classes.

    The mean absolute difference of confidence and accuracy over the bins of :func:`reliability_bins`, weighted by the
    number of videos.

    Args:
        probabilities: float (N, K), rows sum to 1.
        targets: int64 (N,), the true classes.
        num_bins: Number of bins of equal width in [0, 1].

    Returns:
        Error in [0, 1]; 0 is perfect.

    Raises:
        InvalidInputError: See :func:`reliability_bins`.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Example:
        >>> round(expected_calibration_error(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]), 2), 6)
        0.35
    """
    bins = reliability_bins(probabilities, targets, num_bins)
    return sum(b.count * abs(b.accuracy - b.confidence) for b in bins if b.count) / len(targets)


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Fit the temperature that calibrates logits.

    Minimizes the negative log-likelihood of ``softmax(logits / T)``, which is convex in 1 / T, by bisection of its
    derivative in float64. The result is limited to [0.05, 20]: the optimum for perfectly separated classes would be 0,
    and for predictions worse than chance infinity. Use logits of videos that were not in the training data.

    Args:
        logits: float (N, K), finite.
        targets: int64 (N,), the true classes.

    Returns:
        The temperature T. Above 1 if the logits are overconfident. 1 if the logits carry no information.

    Raises:
        InvalidInputError: If the shapes do not match, there are no videos, or a logit is not finite.

    References:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # 98 % confident, 75 % correct
        >>> temperature = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
        >>> round(float((logits / temperature).softmax(1)[0, 0]), 6)
        0.75
    """
    _check(logits, targets)
    z = logits.detach().double()
    if not z.isfinite().all():
        raise InvalidInputError("the logits contain NaN or infinite values; check the weights of the network")
    z = z - z.mean(1, keepdim=True)
    if float(z.abs().max()) < 1e-12:
        return 1.0
    truth = F.one_hot(targets, z.shape[1]).double()

    def slope(inverse: float) -> float:
        """Derivative of the negative log-likelihood by 1 / T; increases with 1 / T."""
        return float((z * ((z * inverse).softmax(1) - truth)).sum())

    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(low) >= 0:
        return MAX_TEMPERATURE
    if slope(high) <= 0:
        return MIN_TEMPERATURE
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def _check(scores: Tensor, targets: Tensor) -> None:
    if scores.ndim != 2 or targets.shape != scores.shape[:1] or not len(targets):
        raise InvalidInputError(
            f"expected scores (N, K) and targets (N,) of at least one video; got shapes {tuple(scores.shape)} and "
            f"{tuple(targets.shape)}"
        )
    if targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise InvalidInputError(f"targets must be in [0, {scores.shape[1] - 1}]; got {targets.tolist()[:5]}")
