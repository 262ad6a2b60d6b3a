"""Convolutions whose weight gradients are right on every CPU.

oneDNN, which PyTorch uses on CPUs, returns uninitialized memory as the weight gradient of some convolutions whose
input is smaller than their kernel along an axis, or corrupts the heap: in bfloat16, and in fewer cases in float32. It
was seen with PyTorch 2.13 on processors with AVX-512, with and without native bfloat16. Outputs and input gradients
are right.
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
"""Relative error that bfloat16 explains: its mantissa has 8 bits."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Compute ``torch.nn.functional.conv2d`` or ``conv3d``, with a weight gradient that is right on every CPU.

    Args:
        x: (B, C, H, W) or (B, C, T, H, W).
        weight: (out, C, ...) of the same number of axes.
        bias: (out,) or None.
        stride: one number for each axis after the channels.
        padding: likewise; zeros at both ends.
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
    """``torch.nn.Conv3d``, by :func:`convolve` where the padding is of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) to (B, out, T', H', W')."""
        if self.padding_mode != "zeros":
            return super().forward(x)
        padding: Any = self.padding
        return convolve(x, self.weight, self.bias, self.stride, padding)


class _SafeConvolution(torch.autograd.Function):
    """The weight gradient is computed in float32 and of an input that was padded before, where oneDNN is right."""

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
            grad_x = _gradient(grad, x, kernel, ctx.stride, ctx.padding, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            padded = F.pad(x.float(), [size for size in reversed(ctx.padding) for _ in range(2)])
            none = (0,) * len(ctx.padding)
            grad_weight = _gradient(grad.float(), padded, weight.float(), ctx.stride, none, [False, True, False])[1]
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_weight, None, None


def _gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int], wanted: list[bool]
) -> Any:
    axes = len(stride)
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [0], stride, padding, [1] * axes, False, [0] * axes, 1, wanted
    )


@cache
def bf16_error() -> float:
    """Measure the relative error of a bfloat16 weight gradient on this CPU, in the case where oneDNN has failed.

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
    """Raise where this CPU computes wrong gradients in bfloat16; measured once for each process.

    Raises:
        TrainingError: with the error that was measured.
    """
    if bf16_error() > BF16_TOLERANCE:
        raise TrainingError(
            f"--precision bf16 is not usable on this CPU: the weight gradient of a convolution differs from the exact "
            f"one by {bf16_error():.1e} (at most {BF16_TOLERANCE:g} expected). Use --precision no, or a GPU"
        )
