import json
from pathlib import Path

import numpy as np
import pytest
import torch

import quovadis
from quovadis.errors import InvalidInputError
from quovadis.metrics import frechet
from quovadis.metrics.frechet import FrechetInterval, frechet_distance, frechet_interval
from quovadis.metrics.moments import FeatureMoments


def samples(mean: np.ndarray, covariance: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Features with exactly this sample mean and covariance (ddof 1)."""
    noise = np.random.default_rng(seed).normal(size=(count, len(mean)))
    columns = np.linalg.qr(noise - noise.mean(0))[0]
    return mean + columns * np.sqrt(count - 1) @ np.linalg.cholesky(covariance).T


@pytest.mark.shared
@pytest.mark.parametrize(("name", "rtol"), [("d64", 1e-9), ("d400_rank_deficient", 1e-9)])
def test_reference_values(shared: Path, name: str, rtol: float) -> None:
    folder = shared / "oracles" / "frechet"
    expected = json.loads((folder / "expected.json").read_text())[name]
    with np.load(folder / "features_int8.npz") as features:
        x, y = (features[f"{name}/{s}"] / 16.0 for s in "xy")
    truth = float(expected.get("frechet_mpmath_40digits", expected["frechet_nuclear_norm"]))
    assert frechet_distance(x, y) == pytest.approx(truth, rel=rtol)
    assert frechet_distance(x, y, ddof=0) == pytest.approx(expected["frechet_ddof0_nuclear_norm"], rel=rtol)
    streamed = [FeatureMoments(), FeatureMoments()]
    for moments, features in zip(streamed, (x, y), strict=True):
        for batch in np.array_split(features, 13):
            moments.update(batch)
    assert frechet_distance(*streamed) == pytest.approx(truth, rel=rtol)


@pytest.mark.shared
def test_closed_form_for_diagonal_covariances(shared: Path) -> None:
    case = json.loads((shared / "oracles" / "frechet" / "expected.json").read_text())["closed_form_diagonal"]
    x = samples(np.array(case["mu1"]), np.diag(case["diag_cov1"]), 40, 1)
    y = samples(np.array(case["mu2"]), np.diag(case["diag_cov2"]), 33, 2)
    assert frechet_distance(x, y) == pytest.approx(case["frechet"], rel=1e-12)


def test_closed_form_in_one_dimension() -> None:
    x, y = np.array([[0.0], [1.0], [5.0]]), np.array([[2.0], [2.5], [9.0], [4.0]])
    expected = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-14)


def test_covariances_that_do_not_commute() -> None:
    """Against the matrix root from the eigenvalues, which are real and positive."""
    rng = np.random.default_rng(3)
    c1, c2 = (m @ m.T for m in rng.normal(size=(2, 7, 7)))
    x, y = samples(np.zeros(7), c1, 30, 4), samples(np.ones(7), c2, 25, 5)
    root = np.sqrt(np.linalg.eigvals(c1 @ c2).real).sum()
    assert frechet_distance(x, y) == pytest.approx(7 + np.trace(c1 + c2) - 2 * root, rel=1e-11)


@pytest.mark.parametrize("count", [5, 33, 200])
def test_properties_of_a_distance(count: int) -> None:
    """Also with fewer samples than dimensions: invariant to rotation and shift; quadratic in scale."""
    rng = np.random.default_rng(count)
    x, y = rng.normal(size=(count, 33)), rng.normal(0.3, 1.4, (count + 2, 33))
    distance = frechet_distance(x, y)
    assert distance > 0
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(y, x) == pytest.approx(distance, rel=1e-12)
    turn = np.linalg.qr(rng.normal(size=(33, 33)))[0]
    assert frechet_distance((x + 50) @ turn, (y + 50) @ turn) == pytest.approx(distance, rel=1e-9)
    assert frechet_distance(2 * x, 2 * y) == pytest.approx(4 * distance, rel=1e-12)
    assert frechet_distance(x + 1e6, y + 1e6) == pytest.approx(distance, rel=1e-6)


def test_distance_is_never_negative() -> None:
    """The two parts of the formula cancel up to rounding of either sign."""
    for seed in range(40):
        x = np.random.default_rng(seed).normal(size=(6, 4))
        assert frechet_distance(x, x) >= 0


def test_input_types() -> None:
    x, y = torch.randn(9, 4), torch.randn(8, 4)
    distance = frechet_distance(x, y)
    assert frechet_distance(x.numpy(), y.requires_grad_()) == distance
    assert quovadis.frechet_distance(x.tolist(), FeatureMoments.of(y)) == pytest.approx(distance, rel=1e-6)


def test_invalid_features_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(5, 4))
    with pytest.raises(InvalidInputError, match="the same length; got 4 and 3"):
        frechet_distance(x, x[:, :3])
    with pytest.raises(InvalidInputError, match="needs at least 2 samples; got 1"):
        frechet_distance(x, x[:1])
    assert frechet_distance(x[:1], x[1:2], ddof=0) == pytest.approx(np.square(x[0] - x[1]).sum())
    with pytest.raises(InvalidInputError, match="NaN"):
        frechet_distance(x, x * np.nan)
    with pytest.raises(InvalidInputError, match="ddof"):
        frechet_distance(x, x, ddof=3)
    with pytest.raises(InvalidInputError, match="confidence"):
        frechet_interval(x, x, confidence=95)
    with pytest.raises(InvalidInputError, match="at least 10 resamples"):
        frechet_interval(x, x, num_resamples=9)
    assert frechet_interval(x, x, num_resamples=10).num_resamples == 10
    for confidence in (0, 1):
        with pytest.raises(InvalidInputError, match=f"between 0 and 1; got {confidence}"):
            frechet_interval(x, x, confidence=confidence)


def test_coverage_of_the_interval() -> None:
    """It should contain the mean distance at this number of samples in 95 of 100 cases, and estimate the bias."""
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(60, 3)), rng.normal(0.8, 1.5, (50, 3))

    truth = 3 * (0.8**2 + 0.5**2)
    mean = np.mean([frechet_distance(*draw()) for _ in range(800)])
    intervals = [frechet_interval(*draw(), num_resamples=60, seed=i) for i in range(80)]
    holds = np.mean([i.low <= mean <= i.high for i in intervals])
    assert 0.85 <= holds <= 1
    assert np.mean([i.bias for i in intervals]) == pytest.approx(mean - truth, abs=0.5 * (mean - truth))


@pytest.mark.parametrize(("confidence", "low", "high"), [(0.9, 55.0, 145.0), (0.5, 75.0, 125.0)])
def test_interval_has_equal_tails(confidence: float, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The distance is 100 and the resampled ones are 0 to 100, with mean 50: they are shifted by 50."""
    distances = iter([100.0, *map(float, range(101))])
    monkeypatch.setattr(frechet, "frechet_distance", lambda *_, **__: next(distances))
    interval = frechet_interval(np.eye(3), np.eye(3), confidence=confidence, num_resamples=101)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.bias == pytest.approx(-50)
    assert (interval.confidence, interval.num_resamples, interval.seed) == (confidence, 101, 0)


def test_defaults_of_the_interval() -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 9, 2))
    interval = frechet_interval(x, y)
    assert (interval.confidence, interval.num_resamples, interval.seed) == (0.95, 200, 0)
    assert interval == frechet_interval(x, y, ddof=1, confidence=0.95, num_resamples=200, seed=0)


def test_interval_is_reproducible() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 30, 40))
    first = frechet_interval(x, y, num_resamples=20, seed=5)
    assert isinstance(first, FrechetInterval)
    assert first == frechet_interval(x, y, num_resamples=20, seed=5)
    assert first == frechet_interval(x, y, num_resamples=20, seed=5, ddof=1)
    assert first != frechet_interval(x, y, num_resamples=20, seed=5, ddof=0)
    assert first != frechet_interval(x, y, num_resamples=20, seed=6)
    assert 0 <= first.low < frechet_distance(x, y) < first.high
    assert frechet_interval(x, x, num_resamples=20).low == 0
