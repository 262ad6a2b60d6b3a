"""The kernel distance between two sets of features: squared maximum mean discrepancy with a cubic kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.moments import Array, feature_array
from quovadis.metrics.resampling import MetricInterval, centered_interval, random_half, require_resampling

_BLOCK = 1024


def kernel_video_distance(x: Any, y: Any) -> float:
    """Compute the kernel distance (KVD, KID) between two sets of features.

    The squared maximum mean discrepancy with the kernel ``(x . y / D + 1)^3``, by the unbiased estimator over all pairs
    of samples: its expectation does not depend on the number of samples. Memory does not grow with the square of the
    number of samples.

    Args:
        x: Features, an array or tensor (N, D), with N >= 2.
        y: Features (M, D), with M >= 2.

    Returns:
        The distance, computed in float64. It can be negative: its expectation for equal distributions is 0.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or there are too few samples.

    Example:
        >>> kernel_video_distance([[0.0], [2.0]], [[1.0], [1.0]])  # (1 + 1) / 2 + 8 - 2 * (1 + 27 + 1 + 27) / 4
        -19.0

    References:
        M. Binkowski et al., "Demystifying MMD GANs", ICLR 2018 (KID).
        T. Unterthiner et al., "Towards Accurate Generative Models of Video", 2018 (KVD).
    """
    x, y = _pair(x, y, 2)
    return float(_distances(x, y, np.ones((1, len(x))), np.ones((1, len(y))))[0])


def kernel_interval(
    x: Any, y: Any, *, confidence: float = 0.95, num_resamples: int = 200, seed: int = 0
) -> MetricInterval:
    """Compute a confidence interval of :func:`kernel_video_distance` from random halves of both sets.

    All halves are evaluated in one pass over the pairs of samples.

    Args:
        x: Features (N, D), with N >= 4.
        y: Features (M, D), with M >= 4.
        confidence: Fraction of resampled distances inside the interval.
        num_resamples: Number of resampled distances.
        seed: Seed of the random generator.

    Returns:
        The interval. Its ends can be negative.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid or an argument is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> interval = kernel_interval(rng.normal(size=(50, 3)), rng.normal(1.0, 1.0, (60, 3)))
        >>> 0 < interval.low < interval.high
        True
    """
    require_resampling(confidence, num_resamples)
    x, y = _pair(x, y, 4)
    rng = np.random.default_rng(seed)
    weights = [np.ones((num_resamples + 1, len(v))) for v in (x, y)]
    for row in range(1, num_resamples + 1):
        for w in weights:
            w[row] = 0
            w[row, random_half(w.shape[1], rng)] = 1
    distances = _distances(x, y, *weights)
    return centered_interval(float(distances[0]), distances[1:], confidence=confidence, seed=seed)


def _pair(x: Any, y: Any, min_count: int) -> tuple[Array, Array]:
    x, y = feature_array(x), feature_array(y)
    if x.shape[1] != y.shape[1]:
        raise InvalidInputError(f"both sets must have features of the same length; got {x.shape[1]} and {y.shape[1]}")
    if min(len(x), len(y)) < min_count:
        raise InvalidInputError(f"both sets need at least {min_count} samples; got {len(x)} and {len(y)}")
    return x, y


def _distances(x: Array, y: Array, weights_x: Array, weights_y: Array) -> Array:
    """Distances (R,) between the subsets that the weights (R, N) and (R, M), 0 or 1, select."""
    within = []
    for v, w in ((x, weights_x), (y, weights_y)):
        count = w.sum(1)
        diagonal = (np.square(v).sum(1) / v.shape[1] + 1) ** 3
        within.append((_kernel_sums(v, v, w, w) - w @ diagonal) / (count * (count - 1)))
    between = _kernel_sums(x, y, weights_x, weights_y) / (weights_x.sum(1) * weights_y.sum(1))
    return np.asarray(within[0] + within[1] - 2 * between)


def _kernel_sums(x: Array, y: Array, weights_x: Array, weights_y: Array) -> Array:
    sums = np.zeros(len(weights_x))
    for rows in _blocks(len(x)):
        for columns in _blocks(len(y)):
            kernel = (x[rows] @ y[columns].T / x.shape[1] + 1) ** 3
            sums += np.einsum("rn,rn->r", weights_x[:, rows] @ kernel, weights_y[:, columns])
    return sums


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))
