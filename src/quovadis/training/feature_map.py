"""Two-dimensional map of the videos of a dataset by their features."""

from __future__ import annotations

import torch
from torch import Tensor

from quovadis.training.data_checks import standardize

MAX_TSNE = 2000
MIN_TSNE = 10


def map_features(features: Tensor, *, seed: int = 0) -> Tensor:
    """Place each video on a map where similar videos are neighbors.

    Standardizes the features, reduces them to 50 dimensions by PCA and to two by t-SNE. Fewer than 10 videos are mapped
    by PCA alone. Of more than 2,000 videos a random 2,000 are mapped by t-SNE; the others are placed at the mean of
    their three nearest mapped ones. Distances on the map between far points have no meaning.

    Args:
        features: float (N, D), N >= 1.
        seed: Seed of t-SNE; the map is deterministic for a seed.

    Returns:
        float64 (N, 2) in [0, 1]; an axis without variation is 0.5.

    Raises:
        InvalidInputError: If the features are not a finite matrix.

    References:
        van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008.

    Example:
        >>> map_features(torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])).tolist()
        [[0.0, 0.5], [0.5, 0.5], [1.0, 0.5]]
    """
    x = _principal_components(standardize(features), 50)
    if len(x) < MIN_TSNE or not x.any():
        return _to_unit_square(torch.nn.functional.pad(x, (0, 2))[:, :2])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    mapped, others = order[:MAX_TSNE].sort().values, order[MAX_TSNE:]
    result = torch.empty(len(x), 2, dtype=torch.float64)
    result[mapped] = _tsne(x[mapped], seed)
    for rows in others.split(1024):
        nearest = torch.cdist(x[rows], x[mapped]).topk(3, largest=False).indices
        result[rows] = result[mapped][nearest].mean(1)
    return _to_unit_square(result)


def _principal_components(x: Tensor, num: int) -> Tensor:
    """Project centered samples (N, D) on their first components; the largest loading of each is positive."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    keep = s[:num] > 1e-9 * max(1.0, float(s[0]))
    v = v[:num][keep]
    sign = v.gather(1, v.abs().argmax(1, keepdim=True)).sign().flatten()
    return u[:, :num][:, keep] * s[:num][keep] * sign


def _tsne(x: Tensor, seed: int) -> Tensor:
    from sklearn.manifold import TSNE

    # TSNE(init="pca") fails for one component; the first components are the same initialization
    start = torch.nn.functional.pad(x, (0, 2))[:, :2]
    start = start / start[:, 0].std() * 1e-4
    perplexity = min(30.0, (len(x) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init=start.numpy().astype("float32"), random_state=seed, n_jobs=1)
    return torch.from_numpy(tsne.fit_transform(x.numpy())).double()


def _to_unit_square(points: Tensor) -> Tensor:
    low, high = points.amin(0), points.amax(0)
    extent = high - low
    return torch.where(extent > 1e-9, (points - low) / extent.clamp(min=1e-9), 0.5).clamp(0, 1)
