"""How a distance depends on the number of samples: half splits, sample curves and extrapolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.frechet import frechet_distance
from quovadis.metrics.moments import Array, feature_array

Distance = Callable[[Array, Array], float]


@dataclass(frozen=True)
class RepeatedDistance:
    """Distances between random subsets, as returned by :func:`half_split_distance` and :func:`sample_curve`.

    Example:
        >>> RepeatedDistance(12, 12, (1.0, 3.0)).mean
        2.0
    """

    count: int
    """Number of samples of the first subset."""
    other_count: int
    """Number of samples of the second subset."""
    values: tuple[float, ...]
    """Distance of each repeat."""

    @property
    def mean(self) -> float:
        """Mean distance."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Standard deviation of the distances (ddof 1); 0 for one repeat."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else 0.0


@dataclass(frozen=True)
class ExtrapolatedDistance:
    """Frechet distance extrapolated to infinitely many samples, as returned by :func:`frechet_at_infinity`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> result = frechet_at_infinity(rng.normal(size=(200, 3)), rng.normal(size=(200, 3)))
        >>> result.slope > 0, len(result.points)
        (True, 15)
    """

    value: float
    """Intercept of the fit. It can be slightly negative for equal distributions."""
    slope: float
    """Decrease of the distance per 1 / N, where N is the number of samples of the first set."""
    standard_error: float
    """Standard error of the intercept by least squares. Subsamples overlap, and the difference between these sets and
    others is not included: the uncertainty is larger."""
    residual: float
    """Root mean square residual of the fit. If it is large compared with the distance, do not use the value."""
    points: tuple[tuple[int, float], ...]
    """Number of samples of the first set and distance, for each subsample."""


def half_split_distance(
    x: Any,
    *,
    distance: Distance = frechet_distance,
    count: int | None = None,
    num_repeats: int = 10,
    seed: int = 0,
) -> RepeatedDistance:
    """Compute the distance between random halves of one set.

    The halves have the same distribution, so this is the distance that is due to the number of samples alone. A smaller
    distance between two sets of that size is not evidence of a difference.

    Args:
        x: Features, an array or tensor (N, D), with N >= 4.
        distance: Function of two float64 arrays (N, D).
        count: Number of samples of each half, 2 to N / 2. Defaults to all.
        num_repeats: Number of random splits.
        seed: Seed of the random generator.

    Returns:
        The distances, with their mean and standard deviation.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid or an argument is out of range.

    Example:
        >>> half_split_distance(np.ones((10, 3))).mean
        0.0
    """
    x = feature_array(x)
    if len(x) < 4:
        raise InvalidInputError(f"random halves need at least 4 samples; got {len(x)}")
    count = len(x) // 2 if count is None else count
    if not 2 <= count <= len(x) // 2:
        raise InvalidInputError(f"count must be 2 to half of the samples, {len(x) // 2}; got {count}")
    _require_repeats(num_repeats)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(x)) for _ in range(num_repeats)]
    values = tuple(distance(x[order[:count]], x[order[count : 2 * count]]) for order in orders)
    return RepeatedDistance(count, count, values)


def sample_curve(
    x: Any,
    y: Any,
    *,
    distance: Distance = frechet_distance,
    counts: Sequence[int] | None = None,
    num_repeats: int = 5,
    seed: int = 0,
) -> tuple[RepeatedDistance, ...]:
    """Compute the distance between random subsets of two sets for several numbers of samples.

    Args:
        x: Features, an array or tensor (N, D).
        y: Features (M, D).
        distance: Function of two float64 arrays (N, D).
        counts: Numbers of samples to draw from each set, at least 2. Defaults to 8 numbers up to that of the smaller
            set, evenly spaced on a logarithmic scale.
        num_repeats: Number of random subsets for each number.
        seed: Seed of the random generator.

    Returns:
        The distances for each number of samples, in the order of ``counts``.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid or an argument is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> curve = sample_curve(rng.normal(size=(200, 5)), rng.normal(size=(200, 5)), counts=[10, 100])
        >>> curve[0].mean > curve[1].mean  # few samples increase the distance
        True
    """
    x, y = feature_array(x), feature_array(y)
    most = min(len(x), len(y))
    if counts is None:
        counts = sorted({round(c) for c in np.geomspace(max(2, most / 16), most, 8)}) if most >= 2 else [most]
    bad = [c for c in counts if not 2 <= c <= most]
    if bad or not counts:
        raise InvalidInputError(f"counts must be 2 to the size of the smaller set, {most}; got {bad or list(counts)}")
    _require_repeats(num_repeats)
    rng = np.random.default_rng(seed)
    return tuple(
        RepeatedDistance(
            count,
            count,
            tuple(
                distance(x[rng.permutation(len(x))[:count]], y[rng.permutation(len(y))[:count]])
                for _ in range(num_repeats)
            ),
        )
        for count in counts
    )


def frechet_at_infinity(
    x: Any,
    y: Any,
    *,
    ddof: int = 1,
    min_count: int | None = None,
    num_points: int = 15,
    seed: int = 0,
) -> ExtrapolatedDistance:
    """Extrapolate the Frechet distance to infinitely many samples.

    A line is fitted to the distances of random subsamples against 1 / N, where N goes from half of the samples to all.
    Both sets are subsampled by the same fraction. The bias is proportional to 1 / N only if N is well above D.

    Args:
        x: Features, an array or tensor (N, D).
        y: Features (M, D).
        ddof: See :func:`~quovadis.metrics.frechet_distance`.
        min_count: Smallest subsample for which the bias is taken as proportional to 1 / N. Defaults to 2 * D.
        num_points: Number of subsamples, at least 3.
        seed: Seed of the random generator.

    Returns:
        The intercept, its standard error and the residual of the fit.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid, an argument is out of range, or a set has fewer than
            ``2 * min_count`` samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x, y = rng.normal(size=(2000, 3)), rng.normal(1.0, 1.0, (2000, 3))
        >>> abs(frechet_at_infinity(x, y).value - 3) < 0.3
        True

    References:
        M. Chong, D. Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", CVPR 2020.
    """
    x, y = feature_array(x), feature_array(y)
    least = 2 * (2 * x.shape[1] if min_count is None else max(min_count, 2))
    if min(len(x), len(y)) < least:
        raise InvalidInputError(
            f"the distance of infinitely many samples cannot be estimated below {least} samples of {x.shape[1]} "
            f"features in each set; got {len(x)} and {len(y)}"
        )
    if num_points < 3:
        raise InvalidInputError(f"a fit with a standard error needs at least 3 points; got {num_points}")
    rng = np.random.default_rng(seed)
    points = []
    for fraction in np.linspace(0.5, 1, num_points):
        subsets = [v[rng.permutation(len(v))[: round(fraction * len(v))]] for v in (x, y)]
        points.append((len(subsets[0]), frechet_distance(*subsets, ddof=ddof)))
    counts, distances = np.array(points).T
    design = np.stack([np.ones(num_points), 1 / counts], 1)
    inverse = np.linalg.inv(design.T @ design)
    value, slope = inverse @ design.T @ distances
    squares = float(np.square(distances - design @ [value, slope]).sum())
    standard_error = float(np.sqrt(squares / (num_points - 2) * inverse[0, 0]))
    return ExtrapolatedDistance(
        float(value), float(slope), standard_error, float(np.sqrt(squares / num_points)), tuple(points)
    )


def _require_repeats(num_repeats: int) -> None:
    if num_repeats < 1:
        raise InvalidInputError(f"num_repeats must be at least 1; got {num_repeats}")
