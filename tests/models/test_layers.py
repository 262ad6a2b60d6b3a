"""SAME padding, batch norm and initialization against their formulas."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quovadis.models.layers import (
    ConvUnit,
    ShiftBatchNorm,
    conv_same,
    init_truncated,
    max_pool_same,
    same_padding,
)

SIZES = range(1, 41)
KERNELS = (1, 2, 3, 7)
STRIDES = (1, 2)


@pytest.mark.parametrize(("kernel", "stride"), list(product(KERNELS, STRIDES)))
def test_same_padding_equals_definition_of_tensorflow(kernel: int, stride: int) -> None:
    """The minimum padding for ceil(size / stride) windows, with the additional element at the end."""
    for size in SIZES:
        before, after = same_padding(size, kernel, stride)
        outputs = math.ceil(size / stride)
        assert (before + size + after - kernel) // stride + 1 == outputs
        assert after - before in (0, 1)
        if before + after:
            assert (outputs - 1) * stride + kernel == before + size + after


@pytest.mark.parametrize(("kernel", "stride"), list(product(KERNELS, STRIDES)))
def test_max_pooling_equals_maximum_of_windows(kernel: int, stride: int) -> None:
    """All values are negative, so zero padding would change the result."""
    for size in SIZES:
        x = -1 - torch.rand(1, 2, size)
        before, after = same_padding(size, kernel, stride)
        padded = torch.cat([torch.full((1, 2, before), -torch.inf), x, torch.full((1, 2, after), -torch.inf)], 2)
        expected = padded.unfold(2, kernel, stride).amax(-1)
        for dims in (2, 3):  # the axis in question is the last, the others have one cell
            cells = x.view(1, 2, *(1,) * (dims - 1), size)
            pooled = max_pool_same(cells, (1,) * (dims - 1) + (kernel,), (1,) * (dims - 1) + (stride,))
            assert torch.equal(pooled.flatten(2), expected)
        first = max_pool_same(x.view(1, 2, size, 1, 1), (kernel, 1, 1), (stride, 1, 1))
        assert torch.equal(first.flatten(2), expected)


@pytest.mark.parametrize(("kernel", "stride"), list(product(KERNELS, STRIDES)))
def test_convolution_equals_convolution_of_padded_input(kernel: int, stride: int) -> None:
    weight = torch.randn(3, 2, kernel, dtype=torch.float64)
    for size in SIZES:
        x = torch.randn(1, 2, size, dtype=torch.float64)
        before, after = same_padding(size, kernel, stride)
        windows = torch.cat([x.new_zeros(1, 2, before), x, x.new_zeros(1, 2, after)], 2).unfold(2, kernel, stride)
        expected = torch.einsum("bcok,dck->bdo", windows, weight)
        conv = nn.Conv3d(2, 3, (1, 1, kernel), (1, 1, stride), bias=False).double()
        conv.weight.data = weight.view(3, 2, 1, 1, kernel)
        assert torch.allclose(conv_same(x.view(1, 2, 1, 1, size), conv).flatten(2), expected, rtol=0, atol=1e-13)
        flat = nn.Conv2d(2, 3, (kernel, 1), (stride, 1), bias=False).double()
        flat.weight.data = weight.view(3, 2, kernel, 1)
        assert torch.allclose(conv_same(x.view(1, 2, size, 1), flat).flatten(2), expected, rtol=0, atol=1e-13)


def test_axes_are_padded_independently() -> None:
    x = torch.randn(2, 3, 8, 9, 10)
    conv = nn.Conv3d(3, 4, (7, 3, 1), (2, 2, 1))
    by_hand = F.conv3d(F.pad(x, (0, 0, 1, 1, 2, 3)), conv.weight, conv.bias, conv.stride)
    assert torch.allclose(conv_same(x, conv), by_hand, atol=1e-6)
    pooled = max_pool_same(x, (3, 2, 3), (2, 2, 1))
    by_hand = F.max_pool3d(F.pad(x, (1, 1, 0, 1, 0, 1), value=-torch.inf), (3, 2, 3), (2, 2, 1))
    assert torch.equal(pooled, by_hand)


def test_symmetric_padding_gives_other_values() -> None:
    x, conv = torch.randn(1, 1, 8, 8), nn.Conv2d(1, 1, 7, 2, bias=False)
    symmetric = F.conv2d(x, conv.weight, None, 2, 3)
    assert symmetric.shape == conv_same(x, conv).shape
    assert not torch.allclose(symmetric, conv_same(x, conv), atol=0.01)


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5, 3, 2), (4, 5, 3, 2, 3)])
def test_batch_norm_equals_formula(shape: tuple[int, ...]) -> None:
    norm = ShiftBatchNorm(5).double()
    norm.bias.data = torch.randn(5, dtype=torch.float64)
    x = 3 + 2 * torch.randn(shape, dtype=torch.float64)
    values = x.movedim(1, -1).reshape(-1, 5).numpy()
    mean, variance = values.mean(0), values.var(0)

    def formula(mean: np.ndarray, variance: np.ndarray) -> torch.Tensor:
        normal = (values - mean) / np.sqrt(variance + 1e-3) + norm.bias.detach().numpy()
        return torch.from_numpy(normal).view(*x.movedim(1, -1).shape).movedim(-1, 1)

    assert torch.allclose(norm(x), formula(mean, variance), rtol=0, atol=1e-12)
    # One step of training moves the averages by a thousandth, with the unbiased variance.
    assert np.allclose(norm.running_mean.numpy(), 0.001 * mean, rtol=0, atol=1e-12)
    assert np.allclose(norm.running_var.numpy(), 0.999 + 0.001 * values.var(0, ddof=1), rtol=0, atol=1e-12)
    norm.eval()
    norm.running_mean.copy_(torch.linspace(-1, 1, 5))
    norm.running_var.copy_(torch.linspace(0.002, 2, 5))
    expected = formula(norm.running_mean.numpy(), norm.running_var.numpy())
    before = norm.running_mean.clone()
    assert torch.allclose(norm(x), expected, rtol=0, atol=1e-12)
    assert torch.equal(norm.running_mean, before)


def test_shift_batch_norm_has_no_scale() -> None:
    assert [name for name, _ in ShiftBatchNorm(5).named_parameters()] == ["bias"]
    assert sorted(ShiftBatchNorm(5).state_dict()) == ["bias", "running_mean", "running_var"]


@pytest.mark.parametrize("dims", [2, 3])
def test_conv_unit_applies_convolution_norm_and_relu(dims: int) -> None:
    unit = ConvUnit(dims, 2, 4, 3, 2).eval()
    unit.batch_norm.running_mean.uniform_(-1, 1)
    unit.batch_norm.bias.data.uniform_(-1, 1)
    x = torch.randn(1, 2, *(7,) * dims)
    by_hand = unit.batch_norm(conv_same(x, unit.conv)).clamp(min=0)
    assert torch.equal(unit(x), by_hand)
    assert unit(x).shape == (1, 4, *(4,) * dims)
    assert (unit(x) == 0).any()
    assert unit.conv.bias is None


def test_initial_weights_are_truncated_normal() -> None:
    weight = torch.empty(400, 3, 7, 7, 7)
    init_truncated(weight)
    deviation = 1 / math.sqrt(1029)
    # A standard normal cut at two deviations has the variance 1 - 4 phi(2) / (2 Phi(2) - 1).
    density, inside = math.exp(-2) / math.sqrt(2 * math.pi), math.erf(math.sqrt(2))
    assert float(weight.abs().max()) <= 2 * deviation
    assert float(weight.abs().max()) > 1.99 * deviation
    assert float(weight.mean()) == pytest.approx(0, abs=4 * deviation / math.sqrt(weight.numel()))
    assert float(weight.std()) == pytest.approx(deviation * math.sqrt(1 - 4 * density / inside), rel=5e-3)
    share_within_one = float((weight.abs() < deviation).double().mean())
    assert share_within_one == pytest.approx(math.erf(math.sqrt(0.5)) / inside, abs=3e-3)
