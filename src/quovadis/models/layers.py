"""Building blocks of the networks in two and three dimensions: SAME padding, batch norm, convolution units."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError
from quovadis.models.batch_norm import BatchNormMixin, BatchStatistics
from quovadis.models.checkpointing import RecomputableModule
from quovadis.models.paired_convolution import convolve_pairs
from quovadis.models.safe_convolution import convolve

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Compute TensorFlow's SAME padding of one axis.

    The output of the layer has ``ceil(size / stride)`` elements. Many ports of I3D use the same padding at both ends
    instead, which gives the same shape but other values.

    Args:
        size: Length of the axis.
        kernel: Kernel size.
        stride: Stride.

    Returns:
        Padding ``(before, after)``. If the total is odd, the additional element is at the end.

    >>> same_padding(224, 7, 2), same_padding(79, 7, 2), same_padding(112, 3, 2), same_padding(63, 2, 2)
    ((2, 3), (3, 3), (0, 1), (0, 1))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def conv_same(x: Tensor, conv: nn.Conv2d | nn.Conv3d) -> Tensor:
    """Apply a convolution with SAME padding. The input is only copied if the padding is asymmetric.

    On a GPU, the first convolution of a 3D network uses :func:`~quovadis.models.paired_convolution.convolve_pairs`.
    """
    if x.is_cuda and conv.in_channels <= 4 and tuple(conv.stride) == (2, 2, 2):
        y = convolve_pairs(x, conv.weight)
        return y if conv.bias is None else y + conv.bias.view(-1, 1, 1, 1)
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
    """Max pooling with SAME padding; positions outside the input count as minus infinity, as in TensorFlow.

    ``ceil_mode`` provides the additional padding at the end without a copy. It has no effect at stride 1, so an even
    kernel at stride 1 (not used in the paper's networks) needs explicit padding.
    """
    pads = [same_padding(size, k, s) for size, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    padding = [before for before, _ in pads]
    if any(s == 1 and before != after for s, (before, after) in zip(stride, pads, strict=True)):
        x = F.pad(x, [p for pair in reversed(pads) for p in pair], value=float("-inf"))
        padding = [0] * len(pads)
    pool = F.max_pool3d if x.ndim == 5 else F.max_pool2d
    return pool(x, list(kernel), list(stride), padding, ceil_mode=True)


def require_grid(x: Tensor, window: int, name: str) -> None:
    """Check that the last feature map of a network is large enough for its final pooling.

    Args:
        x: Feature map (..., H, W) of a network with spatial stride 32.
        window: Height and width of the pooling window: 7 for inputs of 224 x 224 pixels.
        name: Name of the model for the error message.

    Raises:
        InvalidInputError: If the feature map is smaller than the window.
    """
    if min(x.shape[-2:]) < window:
        raise InvalidInputError(
            f"the input is too small for {name}: its last feature map is {tuple(x.shape[-2:])}, but the final "
            f"pooling needs {window}x{window}. Use inputs of at least {32 * (window - 1) + 1} pixels per side"
        )


class ShiftBatchNorm(BatchNormMixin, nn.Module):
    """Batch normalization with a shift but no scale, for any number of spatial dimensions.

    Equivalent to Sonnet's ``BatchNorm(scale=False)`` in the official code, except that the running variance uses the
    unbiased estimate as everywhere in PyTorch.

    Args:
        num_channels: Number of channels C.
        eps: Value added to the variance.
        momentum: Weight of the batch in the running averages. Sonnet's decay rate of 0.999 corresponds to 0.001.
    """

    running_mean: Tensor
    running_var: Tensor
    momentum: float

    def __init__(self, num_channels: int, *, eps: float = 1e-3, momentum: float = 1e-3):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(num_channels))
        self.register_buffer("running_mean", torch.zeros(num_channels))
        self.register_buffer("running_var", torch.ones(num_channels))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """Normalize (B, C, ...).

        Raises:
            InvalidInputError: If a channel has a single value in training.
        """
        return self._normalize(x, self.running_mean, self.running_var, None, self.bias)

    def extra_repr(self) -> str:
        """Channels and constants for ``print(model)``."""
        return f"{self.bias.numel()}, eps={self.eps}, momentum={self.momentum}"


class StepBatchNorm(BatchNormMixin, nn.Module):
    """Batch normalization with separate running statistics for each step of a sequence.

    Scale and shift are shared by all steps. Steps beyond ``num_steps`` use the statistics of the last one, so a model
    trained with 25 steps accepts sequences of any length.

    Args:
        num_features: Length of the vectors.
        num_steps: Number of steps with running statistics.
        shift: Whether to add a learned shift.
        scale: Initial scale. The default, 0.1, keeps tanh in the range where its gradients do not vanish.
        eps: Value added to the variance.
        momentum: Weight of the batch in the running averages.

    Example:
        >>> norm = StepBatchNorm(4, num_steps=2).eval()
        >>> norm(torch.ones(3, 4), step=7).shape
        torch.Size([3, 4])

    References:
        Cooijmans et al., "Recurrent Batch Normalization", arXiv:1603.09025, sections 3 and 4.
    """

    running_mean: Tensor
    running_var: Tensor

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
        """Normalize the vectors (B, features) of one step, counted from 0.

        Raises:
            InvalidInputError: If the batch has a single vector in training.
        """
        row = min(step, len(self.running_mean) - 1)
        return self._normalize(x, self.running_mean[row], self.running_var[row], self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes and constants for ``print(model)``."""
        steps, features = self.running_mean.shape
        return f"{features}, num_steps={steps}, eps={self.eps}, momentum={self.momentum}"


class _TorchBatchNorm(BatchNormMixin):
    def forward(self: Any, x: Tensor) -> Tensor:
        """Normalize (B, C, ...)."""
        if self.training and self.statistics != "frozen" and self.update_running_averages:
            self.num_batches_tracked.add_(1)
        return self._normalize(x, self.running_mean, self.running_var, self.weight, self.bias)


class BatchNorm2d(_TorchBatchNorm, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with a choice of statistics."""


class BatchNorm3d(_TorchBatchNorm, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` with a choice of statistics."""


def choose_batch_norm(model: nn.Module, statistics: BatchStatistics, momentum: float) -> None:
    """Set the training statistics and the momentum of each batch norm of a model.

    Args:
        model: Any model of this package. It is modified in place.
        statistics: See :data:`quovadis.models.batch_norm.BatchStatistics`.
        momentum: Weight of the batch in the running averages.
    """
    for module in model.modules():
        if isinstance(module, BatchNormMixin):
            module.statistics, module.momentum = statistics, momentum


class ConvUnit(RecomputableModule):
    """Convolution with SAME padding, batch norm with a shift but no scale, and ReLU.

    Args:
        dims: 2 for images, 3 for video.
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel: Kernel size along each axis.
        stride: Stride along each axis.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = _CONV[dims](in_channels, out_channels, kernel, stride, bias=False)
        self.batch_norm = ShiftBatchNorm(out_channels)
        init_truncated(self.conv.weight)

    def compute(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, out, ...), each axis divided by the stride and rounded up."""
        return F.relu(self.batch_norm(conv_same(x, self.conv)), inplace=True)


def init_truncated(weight: Tensor) -> None:
    """Initialize a weight with a truncated normal distribution, as in the official code (Sonnet's default).

    The standard deviation is 1 / sqrt(fan in); values are truncated at two standard deviations.
    """
    std = weight[0].numel() ** -0.5
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear_head(in_features: int, num_classes: int) -> nn.Linear:
    """Create a linear classifier with truncated normal weights and zero bias."""
    head = nn.Linear(in_features, num_classes)
    init_truncated(head.weight)
    nn.init.zeros_(head.bias)
    return head
