"""The Frechet distance between two sets of features, each modeled as a normal distribution.

``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``. The trace of the root is computed as a nuclear norm: for any factors
with ``C = F^T F``, the eigenvalues of ``C1 C2`` are the squared singular values of ``F1 F2^T``, whose sum is the trace.
Without a matrix root there are no complex values and no epsilon, even with fewer samples than dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.metrics.moments import FeatureMoments, feature_array
from quovadis.metrics.resampling import MetricInterval, centered_interval, require_resampling

FrechetInterval = MetricInterval


def frechet_distance(x: Any, y: Any, *, ddof: int = 1) -> float:
    """Compute the Frechet distance between two sets of features.

    Args:
        x: Features, an array or tensor (N, D), or their :class:`FeatureMoments`.
        y: Features (M, D), likewise.
        ddof: Covariances are divided by ``N - ddof``: 1 as in ``numpy.cov`` and the TensorFlow reference of FVD, 0 as
            in StyleGAN-V. The distance depends on it.

    Returns:
        The distance, at least 0, computed in float64.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or there are too few samples.

    Example:
        >>> frechet_distance([[0.0], [2.0]], [[5.0], [9.0]])  # means 1 and 7, standard deviations sqrt(2) and sqrt(8)
        38.0

    References:
        D. Dowson, B. Landau, "The Frechet Distance between Multivariate Normal Distributions", 1982.
        M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ...", NeurIPS 2017 (images).
        T. Unterthiner et al., "Towards Accurate Generative Models of Video", 2018 (videos).
    """
    a, b = (v if isinstance(v, FeatureMoments) else FeatureMoments.of(v) for v in (x, y))
    if a.dim != b.dim:
        raise InvalidInputError(f"both sets must have features of the same length; got {a.dim} and {b.dim}")
    factor_x, factor_y = (m.factor / np.sqrt(m.degrees(ddof)) for m in (a, b))
    root_trace = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    traces = np.square(factor_x).sum() + np.square(factor_y).sum()
    return max(float(np.square(a.mean - b.mean).sum() + traces - 2 * root_trace), 0.0)


def frechet_interval(
    x: Any, y: Any, *, ddof: int = 1, confidence: float = 0.95, num_resamples: int = 200, seed: int = 0
) -> FrechetInterval:
    """Compute a bootstrap confidence interval of :func:`frechet_distance`.

    Both sets are resampled with replacement. Resampled sets repeat samples, which increases their distances. Therefore
    the interval is centered on the distance itself: it has the spread of the resampled distances around their mean, and
    the increase is reported as ``bias``.

    Args:
        x: Features (N, D).
        y: Features (M, D).
        ddof: See :func:`frechet_distance`.
        confidence: Fraction of resampled distances inside the interval.
        num_resamples: Number of resampled distances.
        seed: Seed of the random generator.

    Returns:
        The interval.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If features are invalid (see :func:`frechet_distance`) or an argument is out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> interval = frechet_interval(rng.normal(size=(50, 3)), rng.normal(1.0, 1.0, (60, 3)))
        >>> interval.low < 3.0 < interval.high, interval.bias > 0
        (True, True)
    """
    require_resampling(confidence, num_resamples)
    sets = [feature_array(v) for v in (x, y)]
    distance = frechet_distance(*sets, ddof=ddof)
    rng = np.random.default_rng(seed)
    resampled = np.empty(num_resamples)
    for i in range(num_resamples):
        moments = [FeatureMoments.of(v[rng.integers(0, len(v), len(v))]) for v in sets]
        resampled[i] = frechet_distance(*moments, ddof=ddof)
    return centered_interval(distance, resampled, confidence=confidence, seed=seed, bounds=(0, np.inf))
