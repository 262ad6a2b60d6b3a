from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.metrics.moments import FeatureMoments


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), dim=st.integers(1, 6), seed=st.integers(0, 99))
def test_moments_do_not_depend_on_batches(sizes: list[int], dim: int, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(sum(sizes), dim))
    moments = FeatureMoments()
    for batch in np.split(x, np.cumsum(sizes)[:-1]):
        moments.update(batch)
    assert moments.count == len(x)
    np.testing.assert_allclose(moments.mean, x.mean(0), atol=1e-13)
    if len(x) > 1:
        np.testing.assert_allclose(moments.covariance(), np.cov(x.T).reshape(dim, dim), atol=1e-13)
    np.testing.assert_allclose(moments.covariance(0), np.cov(x.T, ddof=0).reshape(dim, dim), atol=1e-13)
    assert len(moments.factor) <= dim


def test_large_offset_keeps_precision() -> None:
    """Sums of squares would lose all digits: 1e8 squared and a variance of 1 do not fit in 53 bits."""
    x = np.random.default_rng(0).normal(size=(500, 5))
    moments = FeatureMoments()
    for batch in np.array_split(x + 1e8, 70):
        moments.update(batch)
    exact = np.cov((x + 1e8 - 1e8).T)  # with the rounding that the offset itself costs
    np.testing.assert_allclose(moments.covariance(), exact, rtol=0, atol=2e-8)


def test_memory_is_constant() -> None:
    moments = FeatureMoments()
    rng = np.random.default_rng(0)
    for _ in range(50):
        moments.update(rng.normal(size=(7, 10)))
        assert len(moments._factor) <= 20
    assert moments.factor.shape == (10, 10)
    assert (moments.count, moments.dim) == (350, 10)


def test_restored_moments_can_be_updated() -> None:
    x = np.random.default_rng(0).normal(size=(40, 6))
    first = FeatureMoments.of(x[:25])
    again = FeatureMoments.restore(first.count, first.mean, first.factor)
    again.update(torch.from_numpy(x[25:]))
    np.testing.assert_allclose(again.covariance(), np.cov(x.T), atol=1e-13)
    for count, mean in ((0, first.mean), (3, first.mean[1:]), (3, first.mean * np.nan)):
        with pytest.raises(InvalidInputError):
            FeatureMoments.restore(count, mean, first.factor)


def test_restored_moments_of_one_sample_can_be_updated() -> None:
    again = FeatureMoments.restore(1, np.array([1.0, 2.0]), np.zeros((0, 2)))
    again.update(np.array([[3.0, 8.0]]))
    assert (again.count, again.mean.tolist()) == (2, [2.0, 5.0])
    np.testing.assert_allclose(again.covariance(), [[2.0, 6.0], [6.0, 18.0]], atol=1e-14)


def test_invalid_features_are_refused() -> None:
    moments = FeatureMoments.of(np.zeros((2, 3)))
    with pytest.raises(InvalidInputError, match="length 3, as in earlier batches; got 4"):
        moments.update(np.zeros((2, 4)))
    with pytest.raises(InvalidInputError, match=r"shape \(N, D\) .* got \(3,\)"):
        moments.update(np.zeros(3))
    with pytest.raises(InvalidInputError, match=r"got \(0, 3\)"):
        moments.update(np.zeros((0, 3)))
    with pytest.raises(InvalidInputError, match=r"2 of 4 features contain NaN .* first in row 1"):
        moments.update([[0, 0, 0], [0, np.nan, 0], [0, 0, 0], [np.inf, 0, 0]])
    with pytest.raises(InvalidTypeError, match="real numbers"):
        moments.update(np.zeros((2, 3), complex))
    with pytest.raises(InvalidTypeError, match="real numbers"):
        moments.update([["a", "b", "c"]])
    assert moments.count == 2
    with pytest.raises(InvalidInputError, match="ddof=1 needs at least 2 samples; got 1"):
        FeatureMoments.of(np.zeros((1, 3))).covariance()
    with pytest.raises(InvalidInputError, match="ddof must be 1"):
        moments.covariance(2)
    with pytest.raises(InvalidTypeError, match="got SimpleNamespace; pass its attribute features"):
        moments.update(SimpleNamespace(features=np.zeros((3, 3))))


def test_merged_moments_equal_those_of_all_samples() -> None:
    x = np.random.default_rng(0).normal(5.0, 1.0, (40, 4))
    merged = FeatureMoments()
    for part in (x[:0], x[:3], x[3:30], x[30:]):
        merged.merge(FeatureMoments.of(part) if len(part) else FeatureMoments())
    assert merged.count == 40
    np.testing.assert_allclose(merged.mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(merged.covariance(), np.cov(x.T), rtol=1e-12)
    with pytest.raises(InvalidInputError, match="length 4; got 2"):
        merged.merge(FeatureMoments.of(x[:, :2]))
