"""I3D with the structure of the PyTorch ports, as a peer for benchmarks. It contains no code of the ports.

Paddings are copies, batch norm and ReLU are separate operations, pooling pads with zeros, and the memory layout is
PyTorch's default.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.i3d import I3D
from quovadis.models.inception import InceptionBlock, MaxPoolSame
from quovadis.models.layers import ConvUnit, same_padding
from quovadis.models.video_model import VideoModel


class PlainPort(nn.Module):
    """Copy of an I3D that computes the same function with the structure of the PyTorch ports."""

    def __init__(self, model: VideoModel):
        super().__init__()
        assert isinstance(model, I3D)
        self.model = copy.deepcopy(model)
        self.window = model.spec.size_px // 32

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, classes) of a video (B, C, T, H, W)."""
        return self.model.head(self.model.dropout(self._pooled(x))).mean((2, 3, 4))

    def features(self, x: Tensor) -> Tensor:
        """Compute features (B, D) of a video (B, C, T, H, W), averaged over time."""
        return self._pooled(x)[:, :, :, 0, 0].mean(2)

    def _pooled(self, x: Tensor) -> Tensor:
        for name in self.model.trunk.endpoint_names:
            x = _run(self.model.trunk.get_submodule(name), x)
        return F.avg_pool3d(x, (2, self.window, self.window), stride=1)


def _run(module: nn.Module, x: Tensor) -> Tensor:
    match module:
        case ConvUnit(conv=conv, batch_norm=norm):
            x = F.conv3d(_padded(x, conv.kernel_size, conv.stride), conv.weight, None, conv.stride)
            ones, training = torch.ones_like(norm.bias), module.training
            x = F.batch_norm(x, norm.running_mean, norm.running_var, ones, norm.bias, training, norm.momentum, norm.eps)
            return F.relu(x)
        case MaxPoolSame():
            return F.max_pool3d(_padded(x, module.kernel, module.stride), module.kernel, module.stride)
        case InceptionBlock():
            return torch.cat([_run(branch, x) for branch in module.children()], 1)
    for inner in module.children():
        x = _run(inner, x)
    return x


def _padded(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    return F.pad(x, [p for pair in reversed(pads) for p in pair])
