"""Nearest samples of another set, and real samples that no generated sample is near to."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quovadis.metrics.moments import Array
from quovadis.metrics.neighbors import distance_blocks, neighbor_radii, validated_pair


class NearestSamples(NamedTuple):
    """For each sample its nearest sample of another set, as returned by :func:`nearest_samples`.

    Example:
        >>> NearestSamples(np.array([1, 0]), np.array([0.5, 2.0])).indices.tolist()
        [1, 0]
    """

    indices: NDArray[np.int64]
    """int64 (N,): row of the nearest sample in the other set."""
    distances: Array
    """float64 (N,): Euclidean distance to it."""


def nearest_samples(x: Any, y: Any) -> NearestSamples:
    """Find the nearest sample of another set for each sample.

    Args:
        x: Features, an array or tensor (N, D).
        y: Features (M, D) in which to search.

    Returns:
        Indices into ``y`` and Euclidean distances, computed in float64.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or a set has fewer than two samples.

    Example:
        >>> nearest = nearest_samples([[0.0], [9.0]], [[1.0], [5.0], [7.0]])
        >>> nearest.indices.tolist(), nearest.distances.tolist()
        ([0, 2], [1.0, 2.0])
    """
    x, y = validated_pair(x, y, 1)
    indices, distances = np.empty(len(x), np.int64), np.empty(len(x))
    for rows, squares in distance_blocks(x, y):
        indices[rows] = squares.argmin(1)
        distances[rows] = np.sqrt(squares.min(1))
    return NearestSamples(indices, distances)


def uncovered_samples(real: Any, generated: Any, *, num_neighbors: int = 5) -> NDArray[np.int64]:
    """Find the real samples that count as not covered in :func:`~quovadis.metrics.density_coverage`.

    A real sample is covered if a generated sample is at most as far away as its k-th nearest other real sample.

    Args:
        real: Features, an array or tensor (N, D), with N > ``num_neighbors``.
        generated: Features (M, D), with M > ``num_neighbors``.
        num_neighbors: k.

    Returns:
        Rows of ``real``, int64, in descending order of the distance to the nearest generated sample.

    Raises:
        InvalidTypeError: If the features are not real numbers.
        InvalidInputError: If shapes are wrong, D differs, values are not finite, or there are too few samples.

    Example:
        >>> real = [[0.0], [1.0], [20.0], [21.0], [30.0], [31.0]]
        >>> uncovered_samples(real, [[0.4], [20.1]], num_neighbors=1).tolist()
        [5, 4]
    """
    real, generated = validated_pair(real, generated, num_neighbors)
    distances = nearest_samples(real, generated).distances
    uncovered = np.flatnonzero(np.square(distances) > neighbor_radii(real, num_neighbors))
    return uncovered[np.argsort(-distances[uncovered], kind="stable")]
