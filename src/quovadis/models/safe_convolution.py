"""Convolutions with correct weight gradients on every CPU: a workaround for a bug in oneDNN.

PyTorch uses oneDNN for convolutions on CPUs. If the input is smaller than the kernel along an axis, oneDNN can return
uninitialized memory as the weight gradient, or corrupt the heap. This happens in bfloat16 and, less often, in float32.
It was observed with PyTorch 2.13 on processors with AVX-512, with and without native bfloat16. Outputs and input
gradients are correct.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import TrainingError

BF16_TOLERANCE = 0.02
"""Largest relative error of a weight gradient that the 8-bit mantissa of bfloat16 explains."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Compute ``torch.nn.functional.conv2d`` or ``conv3d`` with a correct weight gradient on every CPU.

    Args:
        x: Float (B, C, H, W) or (B, C, T, H, W).
        weight: (out, C, ...) with as many axes as ``x``.
        bias: (out,) or None.
        stride: Stride of each spatial or temporal axis.
        padding: Zero padding at both ends of each spatial or temporal axis.
    """
    if x.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        small = any(size < kernel for size, kernel in zip(x.shape[2:], weight.shape[2:], strict=True))
        if dtype == torch.bfloat16 or (dtype == torch.float32 and small):
            y: Tensor = _SafeConvolution.apply(x.to(dtype), weight, tuple(stride), tuple(padding))
            return y if bias is None else y + bias.to(dtype).view(-1, *[1] * (x.ndim - 2))
    function = F.conv2d if x.ndim == 4 else F.conv3d
    return function(x, weight, bias, tuple(stride), tuple(padding))


class Conv3d(nn.Conv3d):
    """``torch.nn.Conv3d`` computed by :func:`convolve` if its padding mode is ``"zeros"``."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, out, T', H', W')."""
        if self.padding_mode != "zeros":
            return super().forward(x)
        padding: Any = self.padding
        return convolve(x, self.weight, self.bias, self.stride, padding)


class _SafeConvolution(torch.autograd.Function):
    """Compute the weight gradient in float32 from an explicitly padded input, a case that oneDNN handles correctly."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]) -> Tensor:
        kernel = weight.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return (F.conv2d if x.ndim == 4 else F.conv3d)(x, kernel, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), grad = ctx.saved_tensors, grads[0]
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            kernel = weight.to(x.dtype)
            grad_x = _convolution_backward(grad, x, kernel, ctx.stride, ctx.padding, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            padded = F.pad(x.float(), [size for size in reversed(ctx.padding) for _ in range(2)])
            no_padding, mask = (0,) * len(ctx.padding), [False, True, False]
            grad_weight = _convolution_backward(grad.float(), padded, weight.float(), ctx.stride, no_padding, mask)[1]
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_weight, None, None


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], output_mask: list[bool]
) -> Any:
    axes = len(stride)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [0], stride, padding, [1] * axes, False, [0] * axes, 1, output_mask
    )


@cache
def bf16_error() -> float:
    """Measure the relative error of a bfloat16 weight gradient on this CPU in a case where oneDNN has failed.

    >>> bf16_error() < BF16_TOLERANCE
    True
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 40, 2, 2, 2, generator=generator)
    weight = torch.randn(80, 40, 3, 3, 3, generator=generator).requires_grad_()
    grad = torch.randn(8, 80, 2, 2, 2, generator=generator)

    def gradient(dtype: torch.dtype) -> Tensor:
        y = convolve(x.to(dtype), weight.to(dtype), None, (1, 1, 1), (1, 1, 1))
        return torch.autograd.grad(y, weight, grad.to(dtype))[0]

    exact = gradient(torch.float64)
    error = float((gradient(torch.bfloat16) - exact).abs().max() / exact.abs().max())
    return error if error == error else float("inf")


def require_bf16() -> None:
    """Check that this CPU computes correct gradients in bfloat16. The error is measured once per process.

    Raises:
        TrainingError: If the gradients are wrong. The message contains the measured error.
    """
    if bf16_error() > BF16_TOLERANCE:
        raise TrainingError(
            f"--precision bf16 is not usable on this CPU: the relative error of a weight gradient is "
            f"{bf16_error():.1e}, expected at most {BF16_TOLERANCE:g}. Use --precision no or a GPU"
        )
