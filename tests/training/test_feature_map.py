"""Two-dimensional maps of features."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from quovadis.training import feature_map
from quovadis.training.feature_map import map_features


def clusters(num: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num) % 3
    return torch.randn(num, 60, generator=generator) + 4 * torch.randn(3, 60, generator=generator)[labels], labels


def nearest_label(points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return labels[torch.cdist(points, points).fill_diagonal_(torch.inf).argmin(1)]


def test_neighbors_are_kept_and_the_map_is_deterministic() -> None:
    features, labels = clusters(60)
    points = map_features(features)
    assert points.dtype == torch.float64
    assert (nearest_label(points, labels) == labels).all()
    assert trustworthiness(feature_map.standardize(features).numpy(), points.numpy()) > 0.7
    assert torch.equal(points, map_features(features))
    assert points.amin(0).tolist() == [0, 0]
    assert points.amax(0).tolist() == [1, 1]


def test_few_videos_are_mapped_by_pca() -> None:
    features, _ = clusters(8)
    points = map_features(features)
    expected = torch.from_numpy(PCA(2).fit_transform(feature_map.standardize(features).numpy()))
    expected = (expected - expected.amin(0)) / (expected.amax(0) - expected.amin(0))
    for axis in range(2):  # the sign of a component is arbitrary
        same, mirrored = points[:, axis] - expected[:, axis], points[:, axis] - (1 - expected[:, axis])
        assert min(float(same.abs().max()), float(mirrored.abs().max())) < 1e-9


def test_videos_beyond_the_limit_are_placed_near_their_neighbors(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clusters(80)
    monkeypatch.setattr(feature_map, "MAX_TSNE", 40)
    points = map_features(features)
    assert (nearest_label(points, labels) == labels).all()


@settings(max_examples=15, deadline=None)
@given(num=st.integers(1, 14), dim=st.integers(1, 4), distinct=st.integers(1, 14))
def test_degenerate_features_give_finite_maps(num: int, dim: int, distinct: int) -> None:
    """One video, one dimension, identical videos and constant features."""
    features = torch.rand(distinct, dim, generator=torch.Generator().manual_seed(num))[torch.arange(num) % distinct]
    points = map_features(features)
    assert points.shape == (num, 2)
    assert ((points >= 0) & (points <= 1)).all()
