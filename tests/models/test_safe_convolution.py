"""Weight gradients on the CPU where the input is smaller than the kernel, which oneDNN gets wrong."""

import pytest
import torch
import torch.nn.functional as F

from quovadis.errors import TrainingError
from quovadis.models import safe_convolution as convolution
from quovadis.models.layers import ConvUnit, conv_same
from quovadis.models.safe_convolution import BF16_TOLERANCE, Conv3d, bf16_error, convolve, require_bf16
from quovadis.models.zoo import build_model

SMALL = [(3, 2, 1), (3, 1, 1), (5, 3, 1), (7, 3, 1), (7, 6, 2), (3, 3, 2)]
"""Kernel, number of frames, stride. The first case occurs in Mixed_5 of I3D with 16 frames."""


def gradients(dtype: torch.dtype, kernel: int, frames: int, stride: int, *, autocast: bool) -> list[torch.Tensor]:
    """Gradients of input and weight. Freed memory is filled with large values to make uninitialized reads visible."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 20, frames, 3, 3, generator=generator).requires_grad_()
    weight = torch.randn(24, 20, kernel, 3, 3, generator=generator).requires_grad_()
    junk = [torch.full((count,), 1e6) for count in (10_000, 100_000, 1_000_000)]
    del junk
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        cast = [t if autocast else t.to(dtype) for t in (x, weight)]
        y = convolve(*cast, None, (stride,) * 3, (kernel // 2, 1, 1))
    grad = torch.randn(y.shape, generator=generator)
    return list(torch.autograd.grad(y, (x, weight), grad.to(y.dtype)))


@pytest.mark.parametrize(("kernel", "frames", "stride"), SMALL)
def test_weight_gradients_are_correct_for_inputs_smaller_than_kernel(kernel: int, frames: int, stride: int) -> None:
    exact = gradients(torch.float64, kernel, frames, stride, autocast=False)
    for dtype, autocast, tolerance in (
        (torch.bfloat16, True, BF16_TOLERANCE),
        (torch.bfloat16, False, BF16_TOLERANCE),
        (torch.float32, False, 1e-5),
    ):
        for found, expected in zip(gradients(dtype, kernel, frames, stride, autocast=autocast), exact, strict=True):
            assert found.dtype == torch.float32
            assert float((found - expected).abs().max() / expected.abs().max()) < tolerance


def test_convolution_equals_torch_for_other_shapes() -> None:
    """With bias, in two dimensions and with SAME padding; the bfloat16 output is bit-identical."""
    torch.manual_seed(1)
    conv = torch.nn.Conv2d(4, 6, 3, 2)
    x = torch.randn(2, 4, 9, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = conv_same(x, conv)
        padded = F.pad(x, (0, 1, 1, 1))
        expected = F.conv2d(padded, conv.weight, None, 2) + conv.bias.bfloat16().view(-1, 1, 1)  # type: ignore[union-attr]
    assert torch.equal(found, expected)
    head = Conv3d(4, 6, 1)
    clip = torch.randn(2, 4, 3, 1, 1)
    torch.testing.assert_close(head(clip), F.conv3d(clip, head.weight, head.bias))


@pytest.mark.parametrize("name", ["i3d_tiny", "i3d_r50", "conv3d_tiny", "two_stream_tiny", "fused_two_stream_tiny"])
def test_all_padded_convolutions_are_safe(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=2)
    inside = {unit.conv for unit in model.modules() if isinstance(unit, ConvUnit)}
    for module in model.modules():
        if isinstance(module, torch.nn.Conv3d) and any(module.padding):
            assert isinstance(module, Conv3d) or module in inside


def test_bf16_is_rejected_if_gradients_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16_error.cache_clear()
    require_bf16()
    monkeypatch.setattr(convolution, "bf16_error", lambda: 3e36)
    with pytest.raises(TrainingError, match=r"--precision bf16 .* weight gradient is 3\.0e\+36, .*--precision no"):
        require_bf16()
