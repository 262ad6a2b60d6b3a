"""Confidence intervals of metrics between two sets of features, from resampled sets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.moments import Array, feature_array


@dataclass(frozen=True)
class MetricInterval:
    """Confidence interval of a metric between two sets of features.

    Example:
        >>> from quovadis.metrics import kernel_interval
        >>> interval = kernel_interval(np.eye(8), 2 * np.eye(8), num_resamples=20)
        >>> interval.low < interval.high, interval.confidence
        (True, 0.95)
    """

    low: float
    """Lower end."""
    high: float
    """Upper end."""
    confidence: float
    """Fraction of resampled values inside the interval."""
    bias: float
    """Average amount by which resampling changes the value. With many more samples than dimensions, the value differs
    from that of infinitely many samples by about as much. With fewer, this is not an estimate of the bias: use
    :func:`half_split_distance`."""
    num_resamples: int
    seed: int


def require_resampling(confidence: float, num_resamples: int) -> None:
    """Check the arguments of an interval.

    Raises:
        InvalidInputError: If one is out of range.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence must be between 0 and 1; got {confidence}")
    if num_resamples < 10:
        raise InvalidInputError(f"an interval needs at least 10 resamples; got {num_resamples}")


def centered_interval(
    value: float,
    resampled: Array,
    *,
    confidence: float,
    seed: int,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> MetricInterval:
    """Return the interval around ``value`` that has the spread of the resampled values around their mean."""
    mean = resampled.mean()
    ends = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2]) - mean + value
    low, high = np.clip(ends, *bounds)
    return MetricInterval(float(low), float(high), confidence, float(mean - value), len(resampled), seed)


def random_half(count: int, rng: np.random.Generator) -> Any:
    """Return the indices of a random half of ``count`` samples.

    For half of the samples, drawn without replacement, the variance of a mean around that of all samples equals the
    variance of the latter. Unlike bootstrap samples, halves have no repeated samples, which have distance 0.
    """
    return rng.permutation(count)[: count // 2]


def half_sample_intervals(
    metric: Callable[[Array, Array], tuple[float, ...]],
    x: Any,
    y: Any,
    bounds: tuple[tuple[float, float], ...],
    *,
    confidence: float,
    num_resamples: int,
    seed: int,
) -> tuple[MetricInterval, ...]:
    """Return the interval of every value of ``metric(x, y)``, from random halves of both sets."""
    require_resampling(confidence, num_resamples)
    x, y = feature_array(x), feature_array(y)
    values = metric(x, y)
    rng = np.random.default_rng(seed)
    resampled = np.array(
        [metric(x[random_half(len(x), rng)], y[random_half(len(y), rng)]) for _ in range(num_resamples)]
    )
    return tuple(
        centered_interval(value, column, confidence=confidence, seed=seed, bounds=limits)
        for value, column, limits in zip(values, resampled.T, bounds, strict=True)
    )
