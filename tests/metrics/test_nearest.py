import numpy as np
import pytest
from scipy.spatial.distance import cdist

from quovadis.errors import InvalidInputError
from quovadis.metrics.nearest import nearest_samples, uncovered_samples
from quovadis.metrics.neighbors import density_coverage


def test_nearest_samples_match_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 7)) + 3, rng.normal(size=(30, 7))
    distances = cdist(x, y)
    found = nearest_samples(x, y)
    np.testing.assert_array_equal(found.indices, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1))
    assert np.array_equal(nearest_samples(x, x).distances, np.zeros(40))


def test_uncovered_samples_are_those_of_coverage() -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(60, 3)), 0.5 * rng.normal(size=(50, 3))
    found = uncovered_samples(real, generated, num_neighbors=4)
    assert 0 < len(found) < 60
    assert 1 - len(found) / 60 == pytest.approx(density_coverage(real, generated, num_neighbors=4).coverage)
    distances = cdist(real, generated).min(1)
    assert (np.diff(distances[found]) <= 0).all()
    radii = np.sort(cdist(real, real), axis=1)[:, 4]
    np.testing.assert_array_equal(np.sort(found), np.flatnonzero(distances > radii))
    assert len(uncovered_samples(real, real)) == 0


def test_invalid_sets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="same length"):
        nearest_samples(np.zeros((3, 2)), np.zeros((3, 4)))
    with pytest.raises(InvalidInputError, match="at least 6"):
        uncovered_samples(np.zeros((5, 2)), np.zeros((9, 2)))
