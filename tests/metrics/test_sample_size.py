import numpy as np
import pytest

from quovadis.errors import InvalidInputError
from quovadis.metrics import (
    frechet_at_infinity,
    frechet_distance,
    half_split_distance,
    kernel_video_distance,
    sample_curve,
)


def features(count: int, dim: int = 8, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, dim))


def test_half_splits_show_the_bias_of_the_sample_size() -> None:
    """They agree with independent sets of the same size, where the true distance is 0."""
    halves = half_split_distance(features(400), num_repeats=20)
    independent = [frechet_distance(features(200, seed=2 * i + 1), features(200, seed=2 * i + 2)) for i in range(20)]
    assert halves.count == halves.other_count == 200
    assert halves.mean == pytest.approx(np.mean(independent), rel=0.2)
    assert halves.std == pytest.approx(np.std(halves.values, ddof=1))
    assert halves == half_split_distance(features(400), num_repeats=20)
    assert half_split_distance(features(400), count=50).mean > 2 * halves.mean


def test_halves_are_disjoint_random_rows() -> None:
    seen = []

    def distance(x: np.ndarray, y: np.ndarray) -> float:
        seen.append(np.concatenate([x, y])[:, 0])
        return 0.0

    half_split_distance(np.arange(10.0)[:, None], distance=distance, num_repeats=3)
    assert [sorted(rows) for rows in seen] == [list(range(10))] * 3
    assert len({tuple(rows) for rows in seen}) == 3


def test_half_splits_of_an_unbiased_distance() -> None:
    splits = half_split_distance(features(100), distance=kernel_video_distance, num_repeats=100)
    assert abs(splits.mean) < 4 * splits.std / 10


def test_curve_decreases_to_the_distance_of_all() -> None:
    x, y = features(300), features(300, shift=0.5, seed=1)
    curve = sample_curve(x, y)
    assert len(curve) == 8
    assert curve[-1].count == 300
    means = [p.mean for p in curve]
    assert means[0] > means[3] > means[-1]
    assert curve[-1].values == pytest.approx([frechet_distance(x, y)] * 5, rel=1e-9)


def test_extrapolation_is_nearer_to_the_closed_form() -> None:
    """The distance of equal normal distributions is 0."""
    pairs = [(features(800, seed=2 * i), features(800, seed=2 * i + 1)) for i in range(5)]
    results = [frechet_at_infinity(x, y) for x, y in pairs]
    bias = np.mean([frechet_distance(x, y) for x, y in pairs])
    assert abs(np.mean([r.value for r in results])) < 0.3 * bias
    assert min(r.slope for r in results) > 0


def test_fit_equals_numpy() -> None:
    result = frechet_at_infinity(features(100, 3), features(120, 3, seed=1))
    counts, distances = np.array(result.points).T
    (slope, value), covariance = np.polyfit(1 / counts, distances, 1, cov=True)
    assert (result.value, result.slope) == pytest.approx((value, slope), rel=1e-8)
    assert result.standard_error == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-6)
    residuals = distances - value - slope / counts
    assert result.residual == pytest.approx(np.sqrt(np.mean(residuals**2)), rel=1e-6)
    assert (counts[0], counts[-1], len(counts)) == (50, 100, 15)


def test_errors() -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be estimated below 32 samples of 8 features .* got 31 and 50"):
        frechet_at_infinity(features(31), features(50))
    with pytest.raises(InvalidInputError, match="at least 3 points; got 2"):
        frechet_at_infinity(features(50), features(50), num_points=2)
    with pytest.raises(InvalidInputError, match="at least 4 samples; got 3"):
        half_split_distance(features(3))
    with pytest.raises(InvalidInputError, match="half of the samples, 5; got 6"):
        half_split_distance(features(10), count=6)
    with pytest.raises(InvalidInputError, match=r"smaller set, 9; got \[10\]"):
        sample_curve(features(9), features(20), counts=[5, 10])
    with pytest.raises(InvalidInputError, match="num_repeats must be at least 1"):
        sample_curve(features(9), features(20), num_repeats=0)
