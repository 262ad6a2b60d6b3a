"""Models rewritten for tracing, so that one exported graph is valid for all input sizes.

SAME padding depends on the input size. Computed with Python branches, it would become constant in the trace. Here it is
arithmetic on symbolic sizes, so the exported graph computes it for each input.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.inception import MaxPoolSame
from quovadis.models.layers import ConvUnit
from quovadis.models.optimization import fold_batch_norm
from quovadis.models.video_model import VideoModel


class Exportable(nn.Module):
    """A traceable copy of a model in evaluation mode that returns logits and features.

    Args:
        model: Any model of this package except optimized ones. It is not modified.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("i3d_tiny", num_classes=10).eval()
        >>> x = torch.rand(1, 3, 17, 65, 70) * 2 - 1
        >>> logits, features = Exportable(model)(x)
        >>> torch.allclose(logits, model(x), atol=1e-6), features.shape
        (True, torch.Size([1, 2, 256]))
    """

    def __init__(self, model: VideoModel):
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        fold_batch_norm(self.model)
        for name, child in list(self.model.named_children()):
            if not name.startswith("trunk"):
                self.model.add_module(name, _replace_classifiers(child))
        _replace_padding(self.model)

    def forward(self, *streams: Tensor) -> tuple[Tensor, Tensor]:
        """Compute logits (B, classes) and features (B, T', D)."""
        features = self.model.features(*streams)
        return self.model.video_logits(self.model.classify(features)), features


def same_pads(shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """SAME padding of all axes for ``torch.nn.functional.pad``, without branches on the size.

    Same result as :func:`quovadis.models.layers.same_padding` for kernels that are at least as large as their stride.
    The padded size is ``(size - 1) // stride * stride + kernel``. PyTorch can simplify this expression for symbolic
    sizes, which keeps the sizes of deep layers short.

    >>> same_pads((79, 224), (7, 7), (2, 2)), same_pads((63, 64), (2, 2), (2, 2))
    ([2, 3, 3, 3], [0, 0, 0, 1])
    """
    pads = []
    for size, k, s in reversed(list(zip(shape, kernel, stride, strict=True))):
        total = (size - 1) // s * s + k - size
        pads += [total // 2, total - total // 2]
    return pads


class _PaddedUnit(nn.Module):
    """Replacement for a :class:`ConvUnit` without batch norm; padding depends on the size only if strided."""

    def __init__(self, unit: ConvUnit):
        super().__init__()
        self.weight, self.bias = unit.conv.weight, unit.conv.bias
        self.kernel, self.stride = unit.conv.kernel_size, unit.conv.stride

    def forward(self, x: Tensor) -> Tensor:
        padding = [(k - 1) // 2 for k in self.kernel]
        if any(s > 1 for s in self.stride):
            x = F.pad(x, same_pads(x.shape[2:], self.kernel, self.stride))
            padding = [0] * len(padding)
        function = F.conv3d if len(self.kernel) == 3 else F.conv2d
        return F.relu(function(x, self.weight, self.bias, self.stride, padding))


class _PaddedMaxPool(nn.Module):
    """Replacement for :class:`MaxPoolSame` without ``ceil_mode``, which runtimes implement differently."""

    def __init__(self, pool: MaxPoolSame):
        super().__init__()
        self.kernel, self.stride = list(pool.kernel), list(pool.stride)

    def forward(self, x: Tensor) -> Tensor:
        padding = [(k - 1) // 2 for k in self.kernel]
        if any(s > 1 for s in self.stride):
            x = F.pad(x, same_pads(x.shape[2:], self.kernel, self.stride), value=float("-inf"))
            padding = [0] * len(padding)
        function = F.max_pool3d if len(self.kernel) == 3 else F.max_pool2d
        return function(x, self.kernel, self.stride, padding)


class _Classifier(nn.Module):
    """Replacement for a linear layer or a 1 x 1 x 1 convolution that makes its input contiguous.

    Otherwise, the memory layout of the output would depend on whether the time axis has length 1, and a trace would be
    valid for only one of the two cases.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return F.linear(x.clone(memory_format=torch.contiguous_format), self.weight, self.bias)
        rows = x.movedim(1, -1).clone(memory_format=torch.contiguous_format)
        return F.linear(rows, self.weight.flatten(1), self.bias).movedim(-1, 1)


class _FullyConnected(nn.Module):
    """Replacement for :class:`FullyConnectedUnit` by a linear layer on the patches of its input.

    Tracing a convolution with an output of a single position would make that position count a constant.
    """

    def __init__(self, unit: FullyConnectedUnit):
        super().__init__()
        self.grid = unit.conv.kernel_size[-1]
        weight = unit.conv.weight.detach()[:, :, 0].permute(0, 2, 3, 1).flatten(1)  # (out, grid * grid * in)
        self.linear = _Classifier(nn.Parameter(weight[..., None, None, None], requires_grad=False), unit.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[3] - self.grid + 1, x.shape[4] - self.grid + 1
        offsets = [(i, j) for i in range(self.grid) for j in range(self.grid)]
        return F.relu(self.linear(torch.cat([x[..., i : i + height, j : j + width] for i, j in offsets], 1)))


def _replace_padding(module: nn.Module) -> None:
    for name, child in list(module._modules.items()):  # named_children() would skip duplicates
        if isinstance(child, ConvUnit):
            module.add_module(name, _PaddedUnit(child))
        elif isinstance(child, MaxPoolSame):
            module.add_module(name, _PaddedMaxPool(child))
        elif child is not None:
            _replace_padding(child)


def _replace_classifiers(module: nn.Module) -> nn.Module:
    if isinstance(module, FullyConnectedUnit):
        return _FullyConnected(module)
    if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv3d) and module.kernel_size == (1, 1, 1)):
        return _Classifier(module.weight, module.bias)
    if not isinstance(module, ConvUnit):
        for name, child in list(module.named_children()):
            module.add_module(name, _replace_classifiers(child))
    return module
