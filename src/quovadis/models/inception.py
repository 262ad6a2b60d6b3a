"""Inception-v1 (GoogLeNet) with batch norm: as a 2D backbone for frames and snippets, and as the 3D trunk of I3D.

The 3D network is the 2D network with cubic kernels, except that the first two poolings do not pool over time (paper,
section 2.4). Endpoint names are those of the official code.
"""

from collections.abc import Iterator, Set

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import WeightsError
from quovadis.models.checkpointing import RecomputableModule
from quovadis.models.layers import ConvUnit, max_pool_same, require_grid
from quovadis.models.receptive_field import TemporalLayer

# Output channels of an Inception block: branch 0; branch 1 1x1, 3x3; branch 2 1x1, 3x3; branch 3 after pooling.
BLOCKS: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class MaxPoolSame(nn.Module):
    """Max pooling with SAME padding.

    Args:
        kernel: Kernel size of each axis.
        stride: Stride of each axis.
    """

    def __init__(self, kernel: tuple[int, ...], stride: tuple[int, ...]):
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to (B, C, ...), each axis divided by its stride and rounded up."""
        return max_pool_same(x, self.kernel, self.stride)

    def extra_repr(self) -> str:
        """Kernel and stride for ``print(model)``."""
        return f"{self.kernel}, stride={self.stride}"


class InceptionBlock(RecomputableModule):
    """Inception block: the concatenated outputs of four branches.

    The branches are 1x1; 1x1 and 3x3; 1x1 and 3x3; 3x3 max pooling and 1x1. As in the official code and torchvision,
    branch 2 has a 3x3 convolution where the GoogLeNet paper has a 5x5 convolution.

    Args:
        dims: 2 or 3.
        in_channels: Number of input channels.
        channels: Output channels of the convolutions, in the order of :data:`BLOCKS`.
    """

    def __init__(self, dims: int, in_channels: int, channels: tuple[int, int, int, int, int, int]):
        super().__init__()
        b0, b1_reduce, b1, b2_reduce, b2, b3 = channels
        one, three, pooled = f"Conv{dims}d_0a_1x1", f"Conv{dims}d_0b_3x3", f"Conv{dims}d_0b_1x1"

        def pair(reduced: int, out: int) -> nn.Sequential:
            block = nn.Sequential()
            block.add_module(one, ConvUnit(dims, in_channels, reduced, 1))
            block.add_module(three, ConvUnit(dims, reduced, out, 3))
            return block

        self.Branch_0 = nn.Sequential()
        self.Branch_0.add_module(one, ConvUnit(dims, in_channels, b0, 1))
        self.Branch_1 = pair(b1_reduce, b1)
        self.Branch_2 = pair(b2_reduce, b2)
        self.Branch_3 = nn.Sequential()
        self.Branch_3.add_module("MaxPool_0a_3x3", MaxPoolSame((3,) * dims, (1,) * dims))
        self.Branch_3.add_module(pooled, ConvUnit(dims, in_channels, b3, 1))

    def compute(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, b0 + b1 + b2 + b3, ...)."""
        return torch.cat([self.Branch_0(x), self.Branch_1(x), self.Branch_2(x), self.Branch_3(x)], dim=1)


class InceptionV1(nn.Module):
    """Inception-v1 up to the last Inception block, ``Mixed_5c``.

    Args:
        dims: 2 for images, 3 for video.
        in_channels: Number of input channels: 3 for RGB, 2 for flow, 20 for a stack of ten flow frames in 2D.
        width: Factor for all numbers of channels.

    References:
        Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, Table 1.
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, Figure 3.
    """

    def __init__(self, dims: int, in_channels: int, *, width: float = 1.0):
        super().__init__()
        self.dims = dims

        def scaled(channels: int) -> int:
            return max(round(channels * width), 1)

        def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> ConvUnit:
            return ConvUnit(dims, in_channels, out_channels, kernel, stride)

        # The first two poolings do not pool over time.
        space_pool = MaxPoolSame((1, 3, 3)[-dims:], (1, 2, 2)[-dims:])
        pool_name = "MaxPool3d" if dims == 3 else "MaxPool"
        stages: list[tuple[str, nn.Module]] = [
            (f"Conv{dims}d_1a_7x7", conv(in_channels, scaled(64), 7, 2)),
            (f"{pool_name}_2a_3x3", space_pool),
            (f"Conv{dims}d_2b_1x1", conv(scaled(64), scaled(64), 1)),
            (f"Conv{dims}d_2c_3x3", conv(scaled(64), scaled(192), 3)),
            (f"{pool_name}_3a_3x3", space_pool),
        ]
        channels = scaled(192)
        for name, block in BLOCKS.items():
            if name == "Mixed_4b":
                stages.append((f"{pool_name}_4a_3x3", MaxPoolSame((3,) * dims, (2,) * dims)))
            if name == "Mixed_5b":
                stages.append((f"{pool_name}_5a_2x2", MaxPoolSame((2,) * dims, (2,) * dims)))
            b0, b1_reduce, b1, b2_reduce, b2, b3 = (scaled(c) for c in block)
            stages.append((name, InceptionBlock(dims, channels, (b0, b1_reduce, b1, b2_reduce, b2, b3))))
            channels = b0 + b1 + b2 + b3
        for name, stage in stages:
            self.add_module(name, stage)
        self.out_channels = channels
        """Number of output channels: 1024 at full width."""
        self.endpoint_names = tuple(name for name, _ in stages)

    def stages(self, x: Tensor, names: Set[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Run layer by layer and yield ``(endpoint name, output)``.

        Args:
            x: Input of the first layer.
            names: The outputs that the caller uses; None for all. Optimized trunks may leave out others.
        """
        for name in self.endpoint_names:
            x = self.get_submodule(name)(x)
            yield name, x

    def temporal_layers(self) -> tuple[TemporalLayer, ...]:
        """Layers of the 3D network that extend over time; for an inception block, its largest kernel."""
        layers = []
        for name in self.endpoint_names:
            match self.get_submodule(name):
                case ConvUnit(conv=conv):
                    kernel, stride = conv.kernel_size[0], conv.stride[0]
                case MaxPoolSame() as pool:
                    kernel, stride = pool.kernel[0], pool.stride[0]
                case _:
                    kernel, stride = 3, 1
            if kernel > 1:
                layers.append(TemporalLayer(kernel, stride))
        return tuple(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, 1024, T/8, H/32, W/32), rounded up; without T in 2D."""
        for _, output in self.stages(x):
            x = output
        return x


class SnippetInceptionV1(InceptionV1):
    """2D Inception-v1 applied to each frame of a video, or to each snippet of stacked frames.

    Args:
        channels: Number of channels of a frame: 3 for RGB, 2 for flow.
        snippet_frames: Number of frames of a snippet; 10 for flow in the paper. Their channels are stacked frame by
            frame: x and y of the first frame, x and y of the second frame, and so on.
        width: Factor for all numbers of channels.

    Example:
        >>> trunk = SnippetInceptionV1(2, 10, width=1 / 8)
        >>> trunk(torch.zeros(1, 2, 30, 64, 64)).shape
        torch.Size([1, 128, 3, 2, 2])

    References:
        Simonyan and Zisserman, "Two-Stream Convolutional Networks", NIPS 2014, equation 1.
    """

    def __init__(self, channels: int, snippet_frames: int = 1, *, width: float = 1.0):
        super().__init__(2, channels * snippet_frames, width=width)
        self.snippet_frames = snippet_frames

    def stages(self, x: Tensor, names: Set[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """Run layer by layer and yield ``(endpoint name, output)`` with outputs (B, channels, snippets, h, w)."""
        snippets = x.unflatten(2, (-1, self.snippet_frames)).permute(0, 2, 3, 1, 4, 5)
        # flatten() does not copy a single snippet. An exported graph needs the same operations for any number of them.
        snippets = snippets.clone(memory_format=torch.contiguous_format)
        for name, output in super().stages(snippets.flatten(2, 3).flatten(0, 1)):
            yield name, output.unflatten(0, (x.shape[0], -1)).transpose(1, 2)

    def first_filters(self) -> Tensor:
        """Return the filters of the first convolution, (filters, channels, snippet_frames, 7, 7)."""
        weight = next(self.parameters()).detach()
        return weight.unflatten(1, (self.snippet_frames, -1)).transpose(1, 2)


def inception_trunks(model: nn.Module) -> dict[str, InceptionV1]:
    """Find the Inception-v1 trunks of a model, which can be initialized with the weights of a 2D Inception-v1.

    Returns:
        The trunks by module name.

    Raises:
        WeightsError: If the model has no Inception-v1 trunk.
    """
    trunks = {name: module for name, module in model.named_modules() if isinstance(module, InceptionV1)}
    if not trunks:
        raise WeightsError(
            f"{type(model).__name__} has no Inception-v1 trunk for the weights of a 2D Inception-v1: train it from "
            "random weights"
        )
    return trunks


def average_pool(x: Tensor, window: tuple[int, int, int], name: str) -> Tensor:
    """Apply the final average pooling, with stride 1 and no padding, in at least float32.

    Args:
        x: Feature map (B, C, T, H, W).
        window: Size of the pooling window: 2 x 7 x 7 in I3D, 1 x 7 x 7 in networks with a 2D trunk.
        name: Name of the model for error messages.

    Raises:
        InvalidInputError: If the feature map is smaller than the window.
    """
    require_grid(x, window[1], name)
    if x.dtype.itemsize < 4:
        x = x.float()
    if x.is_cuda and x.shape[3:] == window[1:]:  # PyTorch's kernel for windows is slow where there is one window
        return F.avg_pool3d(x.mean((3, 4), keepdim=True), (window[0], 1, 1), stride=1)
    return F.avg_pool3d(x, window, stride=1)
