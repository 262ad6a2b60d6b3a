"""Fidelity and diversity of generated samples: metrics of nearest-neighbor balls around samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.moments import Array, feature_array
from quovadis.metrics.resampling import MetricInterval, half_sample_intervals

_BLOCK_ELEMENTS = 4_000_000
# Smaller squared distances, relative to the squared norms, are rounding errors of equal samples.
_EQUAL = 1e-12


class PrecisionRecall(NamedTuple):
    """Improved precision and recall, as returned by :func:`precision_recall`.

    Example:
        >>> PrecisionRecall(0.5, 1.0).recall
        1.0
    """

    precision: float
    """Fraction of generated samples inside the real manifold."""
    recall: float
    """Fraction of real samples inside the generated manifold."""


class DensityCoverage(NamedTuple):
    """Density and coverage, as returned by :func:`density_coverage`.

    Example:
        >>> DensityCoverage(1.1, 0.9).coverage
        0.9
    """

    density: float
    """Average number of real balls around a generated sample, divided by k; can exceed 1."""
    coverage: float
    """Fraction of real balls that contain a generated sample."""


def precision_recall(real: Any, generated: Any, *, num_neighbors: int = 3) -> PrecisionRecall:
    """Compute the improved precision and recall of generated samples.

    The manifold of a set is the union of balls around its samples that reach to the k-th nearest other sample. Both
    values depend on the number of samples: compare only equally large sets.

    Args:
        real: Features, an array or tensor (N, D), with N > ``num_neighbors``.
        generated: Features (M, D), with M > ``num_neighbors``.
        num_neighbors: k.

    Returns:
        Precision and recall in [0, 1], computed in float64.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or there are too few samples.

    Example:
        >>> real, generated = [[0.0], [1.0], [3.0]], [[0.5], [1.5], [9.0]]
        >>> precision_recall(real, generated, num_neighbors=1)
        PrecisionRecall(precision=0.6666666666666666, recall=1.0)

    References:
        T. Kynkaanniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", NeurIPS 2019.
    """
    real, generated = validated_pair(real, generated, num_neighbors)
    radii_real, radii_generated = neighbor_radii(real, num_neighbors), neighbor_radii(generated, num_neighbors)
    inside_real = np.zeros(len(generated), bool)
    inside_generated = []
    for rows, distances in distance_blocks(real, generated):
        inside_real |= (distances <= radii_real[rows, None]).any(0)
        inside_generated.append((distances <= radii_generated).any(1))
    return PrecisionRecall(float(inside_real.mean()), float(np.concatenate(inside_generated).mean()))


def density_coverage(real: Any, generated: Any, *, num_neighbors: int = 5) -> DensityCoverage:
    """Compute the density and coverage of generated samples.

    Balls are around real samples only, which makes both values robust against outliers among the generated samples.

    Args:
        real: Features, an array or tensor (N, D), with N > ``num_neighbors``.
        generated: Features (M, D), with M > ``num_neighbors``.
        num_neighbors: k: balls reach to the k-th nearest other real sample.

    Returns:
        Density, at least 0 and about 1 for equal distributions, and coverage in [0, 1], computed in float64.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or there are too few samples.

    Example:
        >>> real, generated = [[0.0], [1.0], [3.0]], [[0.5], [1.5], [9.0]]
        >>> density_coverage(real, generated, num_neighbors=1)
        DensityCoverage(density=1.3333333333333333, coverage=1.0)

    References:
        M. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML 2020.
    """
    real, generated = validated_pair(real, generated, num_neighbors)
    radii = neighbor_radii(real, num_neighbors)
    num_inside = np.concatenate([(d <= radii[rows, None]).sum(1) for rows, d in distance_blocks(real, generated)])
    return DensityCoverage(
        float(num_inside.mean() * len(real) / (num_neighbors * len(generated))), float((num_inside > 0).mean())
    )


def precision_recall_intervals(
    real: Any,
    generated: Any,
    *,
    num_neighbors: int = 3,
    confidence: float = 0.95,
    num_resamples: int = 100,
    seed: int = 0,
) -> tuple[MetricInterval, MetricInterval]:
    """Compute confidence intervals of precision and recall from random halves of both sets.

    Args:
        real: Features (N, D), with N >= 2 * ``num_neighbors`` + 2.
        generated: Features (M, D), likewise.
        num_neighbors: See :func:`precision_recall`.
        confidence: Fraction of resampled values inside the interval.
        num_resamples: Number of resampled values. Each takes about a quarter of the time of :func:`precision_recall`.
        seed: Seed of the random generator.

    Returns:
        The intervals of precision and recall.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid or an argument is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> precision, recall = precision_recall_intervals(rng.normal(size=(50, 3)), rng.normal(size=(60, 3)))
        >>> 0 < precision.low < precision.high <= 1
        True
    """
    validated_pair(real, generated, 2 * num_neighbors + 1)
    precision, recall = half_sample_intervals(
        lambda x, y: precision_recall(x, y, num_neighbors=num_neighbors),
        real,
        generated,
        ((0, 1), (0, 1)),
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
    return precision, recall


def density_coverage_intervals(
    real: Any,
    generated: Any,
    *,
    num_neighbors: int = 5,
    confidence: float = 0.95,
    num_resamples: int = 100,
    seed: int = 0,
) -> tuple[MetricInterval, MetricInterval]:
    """Compute confidence intervals of density and coverage from random halves of both sets.

    Args:
        real: Features (N, D), with N >= 2 * ``num_neighbors`` + 2.
        generated: Features (M, D), likewise.
        num_neighbors: See :func:`density_coverage`.
        confidence: Fraction of resampled values inside the interval.
        num_resamples: Number of resampled values. Each takes about a quarter of the time of :func:`density_coverage`.
        seed: Seed of the random generator.

    Returns:
        The intervals of density and coverage.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid or an argument is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> density, coverage = density_coverage_intervals(rng.normal(size=(50, 3)), rng.normal(size=(60, 3)))
        >>> 0 < coverage.low < coverage.high <= 1
        True
    """
    validated_pair(real, generated, 2 * num_neighbors + 1)
    density, coverage = half_sample_intervals(
        lambda x, y: density_coverage(x, y, num_neighbors=num_neighbors),
        real,
        generated,
        ((0, np.inf), (0, 1)),
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )
    return density, coverage


def validated_pair(real: Any, generated: Any, num_neighbors: int) -> tuple[Array, Array]:
    """Validate both sets and subtract the mean of the real one, which distances do not depend on."""
    real, generated = feature_array(real), feature_array(generated)
    if real.shape[1] != generated.shape[1]:
        raise InvalidInputError(
            f"both sets must have features of the same length; got {real.shape[1]} and {generated.shape[1]}"
        )
    if num_neighbors < 1:
        raise InvalidInputError(f"num_neighbors must be at least 1; got {num_neighbors}")
    if min(len(real), len(generated)) <= num_neighbors:
        raise InvalidInputError(
            f"both sets need at least {num_neighbors + 1} samples; got {len(real)} and {len(generated)}"
        )
    mean = real.mean(0)
    return real - mean, generated - mean


def neighbor_radii(x: Array, num_neighbors: int) -> Array:
    """Squared distance of each sample to its k-th nearest other sample."""
    radii = np.empty(len(x))
    for rows, distances in distance_blocks(x, x):
        # The nearest sample, with distance 0, is the sample itself.
        radii[rows] = np.partition(distances, num_neighbors, axis=1)[:, num_neighbors]
    return radii


def distance_blocks(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances of blocks of x to all of y, so that memory grows only linearly with the number of samples."""
    num_rows = max(1, _BLOCK_ELEMENTS // len(y))
    norms_y = np.square(y).sum(1)
    for start in range(0, len(x), num_rows):
        rows = slice(start, start + num_rows)
        norms = np.square(x[rows]).sum(1)[:, None] + norms_y
        distances = norms - 2 * (x[rows] @ y.T)
        distances[distances < _EQUAL * norms] = 0
        yield rows, distances
