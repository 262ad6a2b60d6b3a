import tracemalloc

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from quovadis.errors import InvalidInputError
from quovadis.metrics import (
    density_coverage,
    density_coverage_intervals,
    neighbors,
    precision_recall,
    precision_recall_intervals,
)


def features(count: int, dim: int = 6, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, dim))


def radii(x: np.ndarray, k: int) -> np.ndarray:
    """By sklearn, which leaves out the sample itself."""
    return np.asarray(NearestNeighbors(n_neighbors=k, algorithm="kd_tree").fit(x).kneighbors()[0][:, -1])


def inside(x: np.ndarray, k: int, y: np.ndarray) -> np.ndarray:
    """Which balls of x (rows) contain which samples of y (columns)."""
    return np.array([[np.linalg.norm(a - b) <= r for b in y] for a, r in zip(x, radii(x, k), strict=True)])


@pytest.mark.parametrize("block_elements", [30, 500, 4_000_000])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_equal_sklearn_and_loops(k: int, block_elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "_BLOCK_ELEMENTS", block_elements)
    real, generated = features(70), features(50, shift=0.8, seed=1)
    in_real, in_generated = inside(real, k, generated), inside(generated, k, real)
    precision, recall = precision_recall(real, generated, num_neighbors=k)
    assert (precision, recall) == pytest.approx((in_real.any(0).mean(), in_generated.any(0).mean()), rel=1e-14)
    density, coverage = density_coverage(real, generated, num_neighbors=k)
    assert (density, coverage) == pytest.approx((in_real.sum(0).mean() / k, in_real.any(1).mean()), rel=1e-14)


def test_closed_forms() -> None:
    x = features(40) + 1000  # far from the origin
    assert precision_recall(x, x) == (1, 1)
    assert density_coverage(x, x).coverage == 1
    assert precision_recall(x, x + 100) == (0, 0)
    assert density_coverage(x, x + 100) == (0, 0)
    samples = features(9, 400) + 30
    repeated, tiled = np.repeat(samples, 10, 0), np.tile(samples, (7, 1))  # radii are 0
    assert precision_recall(repeated, tiled) == (1, 1)
    assert density_coverage(repeated, tiled) == (2, 1)  # each sample is in 10 balls
    outlier = np.concatenate([x, x[:1] + 1e5])  # its ball contains everything
    assert precision_recall(x, outlier).recall == 1


def test_memory_grows_linearly(monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix of all distances takes 32 MB."""
    monkeypatch.setattr(neighbors, "_BLOCK_ELEMENTS", 100_000)
    real, generated = features(2000), features(2000, seed=1)
    tracemalloc.start()
    try:
        precision_recall(real, generated)
        density_coverage(real, generated)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_intervals() -> None:
    real, generated = features(80, 2), features(60, 2, 0.7, 1)
    for metric, intervals in (
        (precision_recall, precision_recall_intervals),
        (density_coverage, density_coverage_intervals),
    ):
        found = intervals(real, generated, num_resamples=40)
        for value, interval in zip(metric(real, generated), found, strict=True):
            assert 0 <= interval.low <= value <= interval.high
            assert 0.01 < interval.high - interval.low < 0.6
        assert found == intervals(real, generated, num_resamples=40)
        assert found != intervals(real, generated, num_resamples=40, seed=1)
    assert all(i.high == 1 for i in precision_recall_intervals(real, real))


def test_errors() -> None:
    with pytest.raises(InvalidInputError, match="at least 4 samples; got 3 and 9"):
        precision_recall(features(3), features(9))
    with pytest.raises(InvalidInputError, match="at least 12 samples"):
        density_coverage_intervals(features(11), features(20))
    with pytest.raises(InvalidInputError, match="num_neighbors must be at least 1; got 0"):
        precision_recall(features(5), features(5), num_neighbors=0)
    with pytest.raises(InvalidInputError, match="same length; got 6 and 5"):
        density_coverage(features(9), features(9, 5))
