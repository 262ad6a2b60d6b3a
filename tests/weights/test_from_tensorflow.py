"""Tests of the conversion of single tensors from the official layout."""

import numpy as np
import pytest
import torch

from quovadis.errors import WeightsError
from quovadis.weights.from_tensorflow import to_official, to_ours


def test_kernels_are_transposed_in_both_directions() -> None:
    theirs = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6)  # (T, H, W, in, out)
    ours = to_ours(theirs, "conv.weight", "w")
    assert ours.shape == (6, 5, 2, 3, 4)
    assert ours[4, 3, 1, 2, 0] == theirs[1, 2, 0, 3, 4]
    np.testing.assert_array_equal(to_official("conv.weight", ours), theirs)


@pytest.mark.parametrize("shape", [(5,), (1, 1, 1, 1, 5), (1,), ()])
def test_vectors_may_have_axes_of_length_one(shape: tuple[int, ...]) -> None:
    values = np.arange(max(shape, default=1), dtype=np.float32)
    assert torch.equal(to_ours(values.reshape(shape), "batch_norm.bias", "beta"), torch.from_numpy(values))


@pytest.mark.parametrize("shape", [(2, 5), (0, 5), (1, 2, 2)])
def test_other_shapes_of_vectors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(WeightsError, match="beta has shape"):
        to_ours(np.zeros(shape, np.float32), "batch_norm.bias", "beta")


def test_other_kernel_shapes_and_dtypes_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"expected \(T, H, W, in, out\)"):
        to_ours(np.zeros((3, 3, 2, 2), np.float32), "conv.weight", "w")
    with pytest.raises(WeightsError, match="w has dtype float64"):
        to_ours(np.zeros((1, 1, 1, 2, 2)), "conv.weight", "w")
