import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_mmd

from quovadis.errors import InvalidInputError
from quovadis.metrics import kernel, kernel_interval, kernel_video_distance


def features(count: int, dim: int = 7, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1.0, (count, dim))


def naive(x: np.ndarray, y: np.ndarray) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    within = [np.mean([k(v[i], v[j]) for i in range(len(v)) for j in range(len(v)) if i != j]) for v in (x, y)]
    return float(sum(within) - 2 * np.mean([k(a, b) for a in x for b in y]))


@pytest.mark.parametrize("block", [4, 11, 1024])
def test_equals_loops_for_any_block_size(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_BLOCK", block)
    x, y = features(22), features(17, shift=0.5, seed=1)
    assert kernel_video_distance(x, y) == pytest.approx(naive(x, y), rel=1e-12)


def test_equals_torchmetrics_with_the_kernel_of_sklearn() -> None:
    x, y = features(40), features(40, shift=0.3, seed=1)
    kernels = [
        torch.from_numpy(polynomial_kernel(a, b, degree=3, gamma=1 / 7, coef0=1)) for a, b in ((x, x), (x, y), (y, y))
    ]
    assert kernel_video_distance(x, y) == pytest.approx(float(maximum_mean_discrepancy(*kernels)), rel=1e-12)
    assert kernel_video_distance(x, y) == pytest.approx(float(poly_mmd(torch.tensor(x), torch.tensor(y))), rel=1e-12)


def test_is_unbiased() -> None:
    """The mean over random splits of one set is 0 within its standard error; a biased estimator fails."""
    x = features(60)
    rng = np.random.default_rng(0)
    values = []
    for _ in range(400):
        order = rng.permutation(60)
        values.append(kernel_video_distance(x[order[:30]], x[order[30:]]))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_interval_covers_the_true_distance() -> None:
    """About 95% of the intervals contain the mean distance of many independent sets."""
    pairs = [(features(60, 3, seed=2 * i), features(50, 3, 0.5, 2 * i + 1)) for i in range(150)]
    truth = np.mean([kernel_video_distance(x, y) for x, y in pairs])
    intervals = [kernel_interval(x, y, num_resamples=100) for x, y in pairs]
    assert 0.88 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.99
    assert intervals[0] == kernel_interval(*pairs[0], num_resamples=100)
    assert intervals[0] != kernel_interval(*pairs[0], num_resamples=100, seed=1)


def test_resampled_distances_are_those_of_the_halves() -> None:
    """The distances of weighted samples equal those of the selected rows."""
    x, y = features(20), features(15, seed=1)
    wx, wy = np.zeros((1, 20)), np.zeros((1, 15))
    wx[0, 3:13], wy[0, 5:12] = 1, 1
    assert kernel._distances(x, y, wx, wy)[0] == pytest.approx(naive(x[3:13], y[5:12]), rel=1e-12)


def test_errors() -> None:
    with pytest.raises(InvalidInputError, match="same length; got 7 and 6"):
        kernel_video_distance(features(5), features(5, 6))
    with pytest.raises(InvalidInputError, match="at least 2 samples; got 1 and 5"):
        kernel_video_distance(features(1), features(5))
    with pytest.raises(InvalidInputError, match="at least 4 samples"):
        kernel_interval(features(3), features(5))
