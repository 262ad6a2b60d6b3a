"""A network rewritten so that one trace of it is right at every size.

SAME padding depends on the size. A trace keeps the padding of the size that it was made with, unless the padding is
written as arithmetic on the size: here it is, so an exported graph with free sizes computes it anew for each input.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.inception import MaxPoolSame
from quovadis.models.layers import ConvUnit
from quovadis.models.optimize import fold_batch_norm
from quovadis.models.video_model import VideoModel


class Exportable(nn.Module):
    """A copy of a network in evaluation mode, with two outputs: logits and the features that they come from.

    Args:
        model: stays as it is.

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
                self.model.add_module(name, _without_layout(child))
        _pad_by_arithmetic(self.model)

    def forward(self, *streams: Tensor) -> tuple[Tensor, Tensor]:
        """As the network's ``forward`` and ``features``: (B, classes) and (B, T', D)."""
        features = self.model.features(*streams)
        return self.model.answer(self.model.classify(features)), features


def same_pads(shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """SAME padding of all axes for ``torch.nn.functional.pad``, without a branch on the size.

    As :func:`quovadis.models.layers.same_padding`, of which this is the closed form where no kernel is smaller than its
    stride. It is written so that the padded size is ``(size - 1) // stride * stride + kernel``, which a symbolic size
    simplifies: the outputs of ten layers stay short expressions.

    >>> same_pads((79, 224), (7, 7), (2, 2)), same_pads((63, 64), (2, 2), (2, 2))
    ([2, 3, 3, 3], [0, 0, 0, 1])
    """
    pads = []
    for size, k, s in reversed(list(zip(shape, kernel, stride, strict=True))):
        total = (size - 1) // s * s + k - size
        pads += [total // 2, total - total // 2]
    return pads


class _PaddedUnit(nn.Module):
    """A :class:`ConvUnit` as one convolution, its padding arithmetic where the stride makes it depend on the size.

    Batch norm is in the weights by then: less for a trace to follow, and nothing for a runtime to fuse.
    """

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
    """A :class:`MaxPoolSame`, likewise; without rounding up, which runtimes do not agree on."""

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
    """A linear layer, or a convolution of 1 x 1 x 1, over an input that was laid out anew.

    What these do to the layout of a tensor depends on whether its time axis has one step or more, and a trace would
    hold for one of the two only.
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
    """A :class:`FullyConnectedUnit`, likewise."""

    def __init__(self, unit: FullyConnectedUnit):
        super().__init__()
        self.weight, self.bias = unit.conv.weight, unit.conv.bias
        self.rows = _Classifier(self.weight, self.bias) if unit.conv.kernel_size == (1, 1, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(F.conv3d(x, self.weight, self.bias) if self.rows is None else self.rows(x))


def _pad_by_arithmetic(module: nn.Module) -> None:
    for name, child in list(module._modules.items()):  # named_children leaves out a pooling that stands twice
        if isinstance(child, ConvUnit):
            module.add_module(name, _PaddedUnit(child))
        elif isinstance(child, MaxPoolSame):
            module.add_module(name, _PaddedMaxPool(child))
        elif child is not None:
            _pad_by_arithmetic(child)


def _without_layout(module: nn.Module) -> nn.Module:
    if isinstance(module, FullyConnectedUnit):
        return _FullyConnected(module)
    if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv3d) and module.kernel_size == (1, 1, 1)):
        return _Classifier(module.weight, module.bias)
    if not isinstance(module, ConvUnit):
        for name, child in list(module.named_children()):
            module.add_module(name, _without_layout(child))
    return module
