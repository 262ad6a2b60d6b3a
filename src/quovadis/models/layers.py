"""The building blocks of all networks here, in two or three dimensions: SAME padding, batch norm without scale."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError
from quovadis.models.batch_norm import BatchStatistics, batch_norm
from quovadis.models.safe_convolution import convolve

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding of one axis: ``(before, after)``, the odd element at the end.

    The output has ``ceil(size / stride)`` elements. Padding both ends alike gives the same shape and other values
    wherever the two differ; most ports of I3D did that once.

    >>> same_padding(224, 7, 2), same_padding(79, 7, 2), same_padding(112, 3, 2), same_padding(63, 2, 2)
    ((2, 3), (3, 3), (0, 1), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv_same(x: Tensor, conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    """Apply a convolution with SAME padding; the input is copied only where the two ends differ."""
    pads = [
        same_padding(size, kernel, stride)
        for size, kernel, stride in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
    ]
    padding = [before for before, _ in pads]
    if any(before != after for before, after in pads):
        x = F.pad(x, [p for pair in reversed(pads) for p in pair])
        padding = [0] * len(pads)
    return convolve(x, conv.weight, conv.bias, conv.stride, padding)


def max_pool_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pooling with SAME padding, without copies: rounding up lets the last window hang over the end.

    Cells outside the input count as minus infinity, as in TensorFlow. Only an even kernel at stride 1 (none in the
    paper) needs a copy: rounding up finds nothing to round there.
    """
    pads = [same_padding(size, k, s) for size, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    padding = [before for before, _ in pads]
    if any(s == 1 and before != after for s, (before, after) in zip(stride, pads, strict=True)):
        x = F.pad(x, [p for pair in reversed(pads) for p in pair], value=float("-inf"))
        padding = [0] * len(pads)
    pool = F.max_pool3d if x.ndim == 5 else F.max_pool2d
    return pool(x, list(kernel), list(stride), padding, ceil_mode=True)


def require_grid(x: Tensor, window: int, name: str) -> None:
    """Raise unless the last grid of a network that halves space five times has ``window`` x ``window`` cells or more.

    Args:
        x: (..., H, W).
        window: side of what comes next: 7 for the final pooling at 224 pixels.
        name: of the model, for the message.

    Raises:
        InvalidInputError: the picture was too small.
    """
    if min(x.shape[-2:]) < window:
        raise InvalidInputError(
            f"the input is too small for {name}: its last grid is {tuple(x.shape[-2:])} and the final "
            f"pooling needs {window}x{window}; give at least {32 * (window - 1) + 1} pixels a side"
        )


class ShiftBatchNorm(nn.Module):
    """Batch normalization with a shift and no scale, eps 1e-3, for any number of dimensions.

    As Sonnet's ``BatchNorm(scale=False)`` in the official code. There the moving averages keep 0.999 of the old value
    a step, so ``momentum`` (PyTorch's word for the share of the new) is 0.001. Different from Sonnet: the running
    variance takes the unbiased estimate, as everywhere in PyTorch.
    """

    running_mean: Tensor
    running_var: Tensor
    statistics: BatchStatistics = "per-process"

    def __init__(self, num_channels: int, *, eps: float = 1e-3, momentum: float = 1e-3):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same shape.

        Raises:
            InvalidInputError: in training, a single value a channel, which has no variance.
        """
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            None,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            statistics=self.statistics,
        )

    def extra_repr(self) -> str:
        """Channels and constants, for print(model)."""
        return f"{self.bias.numel()}, eps={self.eps}, momentum={self.momentum}"


class StepBatchNorm(nn.Module):
    """Batch normalization of vectors that come step by step, each step with statistics of its own.

    Scale and shift are those of all steps. A step past the last one uses the statistics of the last: so a network that
    was trained on 25 steps runs on any number (Cooijmans et al. 2016, section 3, which also has the scale begin at 0.1,
    where tanh still passes gradients on).

    Args:
        num_features: length of a vector.
        num_steps: steps that have statistics.
        shift: whether there is one; where a bias is added anyway, none is needed.
        scale: at the start.
        eps: added to the variance.
        momentum: share of the new batch in the running averages.

    >>> norm = StepBatchNorm(4, num_steps=2).eval()
    >>> norm(torch.ones(3, 4), step=7).shape
    torch.Size([3, 4])
    """

    running_mean: Tensor
    running_var: Tensor
    statistics: BatchStatistics = "per-process"

    def __init__(
        self,
        num_features: int,
        num_steps: int,
        *,
        shift: bool = True,
        scale: float = 0.1,
        eps: float = 1e-5,
        momentum: float = 1e-3,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_features,), scale))
        self.bias = nn.Parameter(torch.zeros(num_features)) if shift else None
        self.register_buffer("running_mean", torch.zeros(num_steps, num_features))
        self.register_buffer("running_var", torch.ones(num_steps, num_features))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor, step: int) -> Tensor:
        """(B, features) of one step, counted from 0, to the same shape.

        Raises:
            InvalidInputError: in training, a single vector, which has no variance.
        """
        row = min(step, len(self.running_mean) - 1)
        return batch_norm(
            x,
            self.running_mean[row],
            self.running_var[row],
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            statistics=self.statistics,
        )

    def extra_repr(self) -> str:
        """Sizes and constants, for print(model)."""
        steps, features = self.running_mean.shape
        return f"{features}, num_steps={steps}, eps={self.eps}, momentum={self.momentum}"


class _WithStatistics:
    """PyTorch's own batch norm, with a choice of statistics."""

    statistics: BatchStatistics = "per-process"

    def forward(self: Any, x: Tensor) -> Tensor:
        """(B, C, ...) to the same shape."""
        if self.training and self.statistics != "frozen":
            self.num_batches_tracked.add_(1)
        return batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
            statistics=self.statistics,
        )


class BatchNorm2d(_WithStatistics, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d``, with scale and shift, for networks that are not the paper's."""


class BatchNorm3d(_WithStatistics, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d``, likewise."""


def choose_batch_norm(model: nn.Module, statistics: BatchStatistics, momentum: float) -> None:
    """Set what every batch norm of a model does in training.

    Args:
        model: any network here.
        statistics: whose; see :data:`quovadis.models.batch_norm.BatchStatistics`.
        momentum: share of the new batch in the running averages.
    """
    for module in model.modules():
        if isinstance(module, ShiftBatchNorm | StepBatchNorm | BatchNorm2d | BatchNorm3d):
            module.statistics, module.momentum = statistics, momentum


class ConvUnit(nn.Module):
    """Convolution with SAME padding and without bias, batch norm, ReLU: every convolution of the paper but the last.

    Args:
        dims: 2 for pictures, 3 for video. A square kernel becomes a cube: that is the inflation of the paper.
        in_channels: channels in.
        out_channels: channels out.
        kernel: side of the kernel along every axis.
        stride: step along every axis.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = _CONV[dims](in_channels, out_channels, kernel, stride, bias=False)
        self.batch_norm = ShiftBatchNorm(out_channels)
        init_truncated(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, out, ...), each side divided by the stride and rounded up."""
        return F.relu(self.batch_norm(conv_same(x, self.conv)), inplace=True)


def init_truncated(weight: Tensor) -> None:
    """Fill a weight from a normal distribution of deviation 1/sqrt(fan in), cut at two deviations.

    The initialization of the official code (Sonnet's default), read from its released graphs.
    """
    deviation = weight[0].numel() ** -0.5
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
