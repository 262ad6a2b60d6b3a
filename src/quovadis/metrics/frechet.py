"""The Frechet distance of two sets of features, each taken as a normal distribution.

``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Dowson and Landau 1982; Heusel et al. 2017 for pictures, Unterthiner
et al. 2018 for videos). The trace of the root is computed as a nuclear norm: for any factors with ``C = F^T F``, the
eigenvalues of ``C1 C2`` are the squared singular values of ``F1 F2^T``, so the trace of the root is their sum. No
matrix root, so nothing becomes complex and nothing needs an epsilon, also with fewer samples than dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.moments import FeatureMoments, feature_array


@dataclass(frozen=True)
class FrechetInterval:
    """How far a Frechet distance would move with other samples, as many as these."""

    low: float
    high: float
    confidence: float
    bias: float
    """What resampling adds to the distance on average: the distance itself is too large by about as much, compared with
    that of endlessly many samples."""
    num_resamples: int
    seed: int


def frechet_distance(x: Any, y: Any, *, ddof: int = 1) -> float:
    """The Frechet distance of two sets of features.

    Args:
        x: (N, D) features, an array or a tensor; or the :class:`FeatureMoments` of them.
        y: (M, D), likewise.
        ddof: the covariances are divided by ``N - ddof``: 1 as ``numpy.cov`` and the TensorFlow reference of FVD have
            it, 0 as StyleGAN-V. It changes the number.

    Returns:
        The distance, never below 0, from float64 arithmetic.

    Raises:
        InvalidTypeError: no numbers. InvalidInputError: other shapes, different D, NaN, or too few rows for ``ddof``.

    >>> frechet_distance([[0.0], [2.0]], [[5.0], [9.0]])  # normal(1, sqrt 2) and normal(7, sqrt 8): 6^2 + (sqrt 2)^2
    38.0
    """
    a, b = (v if isinstance(v, FeatureMoments) else FeatureMoments.of(v) for v in (x, y))
    if a.dim != b.dim:
        raise InvalidInputError(f"the two sets must have features of one length; got {a.dim} and {b.dim}")
    factor_x, factor_y = (m.factor / np.sqrt(m.degrees(ddof)) for m in (a, b))
    root_trace = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    traces = np.square(factor_x).sum() + np.square(factor_y).sum()
    return max(float(np.square(a.mean - b.mean).sum() + traces - 2 * root_trace), 0.0)


def frechet_interval(
    x: Any, y: Any, *, ddof: int = 1, confidence: float = 0.95, num_resamples: int = 200, seed: int = 0
) -> FrechetInterval:
    """A bootstrap interval of :func:`frechet_distance`.

    Both sets are drawn anew with replacement. A drawn set repeats samples, which makes every such distance larger; so
    the spread of the drawn distances about their own mean is laid around the distance itself, and what was added is
    reported as ``bias``.

    Args:
        x: (N, D) features.
        y: (M, D).
        ddof: as for :func:`frechet_distance`.
        confidence: share of the drawn distances between the ends.
        num_resamples: how often both sets are drawn; each costs one distance.
        seed: of the drawing.

    Raises:
        InvalidTypeError, InvalidInputError: as for :func:`frechet_distance`; arguments out of range.

    >>> rng = np.random.default_rng(0)
    >>> interval = frechet_interval(rng.normal(size=(50, 3)), rng.normal(1.0, 1.0, (60, 3)))
    >>> interval.low < 3.0 < interval.high, interval.bias > 0
    (True, True)
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"confidence must lie between 0 and 1; got {confidence}")
    if num_resamples < 10:
        raise InvalidInputError(f"an interval needs at least 10 resamples; got {num_resamples}")
    sets = [feature_array(v) for v in (x, y)]
    distance = frechet_distance(*sets, ddof=ddof)
    rng = np.random.default_rng(seed)
    drawn = np.empty(num_resamples)
    for i in range(num_resamples):
        moments = [FeatureMoments.of(v[rng.integers(0, len(v), len(v))]) for v in sets]
        drawn[i] = frechet_distance(*moments, ddof=ddof)
    mean = drawn.mean()
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]) - mean + distance
    return FrechetInterval(max(float(low), 0.0), float(high), confidence, float(mean - distance), num_resamples, seed)
