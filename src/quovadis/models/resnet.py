"""ResNet-50 in 2D, with the names of torchvision, and inflated to 3D (I3D-R50).

The 3D network follows Wang et al., "Non-local Neural Networks" (CVPR 2018, Table 1), with the temporal kernels of
PySlowFast's configuration ``I3D_8x8_R50``:

- The first convolution is 5 x 7 x 7 with stride (1, 2, 2); the max pooling after it is 1 x 3 x 3 with stride (1, 2, 2).
- The first convolution of a bottleneck is 3 x 1 x 1 in all blocks of layer1, blocks 0 and 2 of layer2, blocks 0, 2 and
  4 of layer3 and block 1 of layer4. It is 1 x 1 x 1 in the other blocks.
- After layer1, a max pooling of 2 x 1 x 1 has stride (2, 1, 1).

As in torchvision, padding is symmetric, spatial strides are in the 3 x 3 convolution of a block, and batch norm has a
scale and eps 1e-5.
"""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.checkpointing import RecomputableModule
from quovadis.models.layers import BatchNorm2d, BatchNorm3d
from quovadis.models.receptive_field import ReceptiveField, TemporalLayer
from quovadis.models.safe_convolution import Conv3d
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel

_EXPANSION = 4
# For each layer: channels, and the temporal kernel size of the first convolution of each block.
_LAYERS: dict[str, tuple[int, tuple[int, ...]]] = {
    "layer1": (64, (3, 3, 3)),
    "layer2": (128, (3, 1, 3, 1)),
    "layer3": (256, (3, 1, 3, 1, 3, 1)),
    "layer4": (512, (1, 3, 1)),
}
_STEM_TIME_KERNEL = 5


class Bottleneck(RecomputableModule):
    """Residual block: 1x1, 3x3 and 1x1 convolutions with batch norm, added to the input."""

    def __init__(self, dims: int, in_channels: int, channels: int, time_kernel: int, stride: int):
        super().__init__()
        out_channels = channels * _EXPANSION
        self.conv1 = _conv(dims, in_channels, channels, 1, time_kernel)
        self.bn1 = _norm(dims, channels)
        self.conv2 = _conv(dims, channels, channels, 3, stride=stride)
        self.bn2 = _norm(dims, channels)
        self.conv3 = _conv(dims, channels, out_channels, 1)
        self.bn3 = _norm(dims, out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                _conv(dims, in_channels, out_channels, 1, stride=stride), _norm(dims, out_channels)
            )

    def compute(self, x: Tensor) -> Tensor:
        """(B, in, ...) to (B, 4 * channels, ...)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        return F.relu(self.bn3(self.conv3(out)) + shortcut, inplace=True)


class ResNet50(nn.Module):
    """ResNet-50 up to its last residual block.

    Args:
        dims: 2 for images, identical to torchvision's network, or 3 for video.
        in_channels: Number of input channels: 3 for RGB, 2 for flow.
        width: Factor for all numbers of channels.
    """

    def __init__(self, dims: int, in_channels: int, *, width: float = 1.0):
        super().__init__()
        self.dims = dims
        channels = max(round(64 * width), 1)
        self.conv1 = _conv(dims, in_channels, channels, 7, _STEM_TIME_KERNEL, stride=2)
        self.bn1 = _norm(dims, channels)
        for layer, (base_channels, time_kernels) in _LAYERS.items():
            inner = max(round(base_channels * width), 1)
            blocks = nn.Sequential()
            for i, time_kernel in enumerate(time_kernels):
                stride = 2 if i == 0 and layer != "layer1" else 1
                blocks.append(Bottleneck(dims, channels, inner, time_kernel, stride))
                channels = inner * _EXPANSION
            self.add_module(layer, blocks)
        self.out_channels = channels
        """Number of output channels: 2048 at full width."""

    def stages(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run layer by layer and yield ``(name, output)``."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        yield "conv1", x
        x = _max_pool(x)
        yield "maxpool", x
        for layer in _LAYERS:
            x = self.get_submodule(layer)(x)
            yield layer, x
            if layer == "layer1" and self.dims == 3:
                x = F.max_pool3d(x, (2, 1, 1))
                yield "pool_time", x

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, H, W) to (B, 2048, T // 2, H / 32, W / 32), space rounded up; without T in 2D."""
        for _, output in self.stages(x):
            x = output
        return x


class I3DResNet50(VideoModel):
    """I3D-R50: ResNet-50 inflated to three dimensions.

    The classifier is applied to the spatial average of the last feature map, and its logits are averaged over time. To
    initialize the model with ImageNet weights, see :func:`quovadis.inflate`. It has no counterpart in the paper.
    Endpoints have the names of torchvision and shape (B, C, T, H, W).

    Args:
        stream: ``"rgb"`` (3 channels) or ``"flow"`` (2 channels).
        num_classes: Number of classes.
        dropout: Dropout probability before the classifier in training.
        width: Factor for all numbers of channels.

    Example:
        >>> import torch
        >>> model = I3DResNet50(num_classes=10, width=1 / 8).eval()
        >>> x = torch.zeros(2, 3, 8, 64, 64)
        >>> model(x).shape, model.features(x).shape
        (torch.Size([2, 10]), torch.Size([2, 4, 256]))

    References:
        Wang et al., "Non-local Neural Networks", CVPR 2018, Table 1.
        PySlowFast, configuration ``I3D_8x8_R50``: https://github.com/facebookresearch/SlowFast.
    """

    has_class_maps = True

    def __init__(self, *, stream: StreamKind = "rgb", num_classes: int = 400, dropout: float = 0.5, width: float = 1.0):
        super().__init__()
        self.spec = i3d_r50_spec(stream)
        self.trunk = ResNet50(3, self.spec.streams[0].channels, width=width)
        self.feature_dim = self.trunk.out_channels
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        head = nn.Conv3d(self.feature_dim, num_classes, 1)
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.get_parameter("bias"))
        return head

    def features(self, *streams: Tensor) -> Tensor:
        """Compute spatial averages of the last feature map: (B, T // 2, 2048)."""
        self.check_inputs(*streams)
        return self.trunk(streams[0]).mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits averaged over time: (B, T', 2048) to (B, classes)."""
        return self._logits(features.transpose(1, 2)[..., None, None])

    def class_maps(self, *streams: Tensor) -> Tensor:
        """Compute class activation maps (B, classes, T // 2, H / 32, W / 32), spatial sizes rounded up."""
        self.check_inputs(*streams)
        return self.head(self.trunk(streams[0]).to(self.head.weight.dtype))

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        for name, x in self.trunk.stages(streams[0]):
            yield name, x
        yield "Logits", self._logits(x)

    @property
    def receptive_field(self) -> ReceptiveField:
        """Temporal receptive field of a feature: one feature every 2 frames."""
        layers = [TemporalLayer(_STEM_TIME_KERNEL)]
        for name, (_, kernels) in _LAYERS.items():
            layers += [TemporalLayer(kernel) for kernel in kernels if kernel > 1]
            if name == "layer1":
                layers.append(TemporalLayer(2, 2, same_padding=False))
        return ReceptiveField(tuple(layers))

    def _logits(self, x: Tensor) -> Tensor:
        pooled = x.mean((3, 4), keepdim=True)
        return self.head(self.dropout(pooled)).mean((2, 3, 4))


def i3d_r50_spec(stream: StreamKind) -> ModelSpec:
    """Input specification of I3D-R50: 8 frames with stride 8 ("8x8") in training, 32 (ten seconds) in testing."""
    return ModelSpec(
        name="i3d_r50",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=8, frame_stride=8),),
        size_px=224,
        short_side_px=256,
        min_frames=9,
        test_frames=256,
        protocol="ten-clips",
    )


def _conv(
    dims: int, in_channels: int, out_channels: int, kernel: int, time_kernel: int = 1, stride: int = 1
) -> nn.Module:
    """Create a convolution with symmetric padding, no bias and no temporal stride."""
    if dims == 2:
        conv: nn.Conv2d | nn.Conv3d = nn.Conv2d(
            in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False
        )
    else:
        conv = Conv3d(
            in_channels,
            out_channels,
            (time_kernel, kernel, kernel),
            (1, stride, stride),
            padding=(time_kernel // 2, kernel // 2, kernel // 2),
            bias=False,
        )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _norm(dims: int, channels: int) -> nn.Module:
    return BatchNorm2d(channels) if dims == 2 else BatchNorm3d(channels)


def _max_pool(x: Tensor) -> Tensor:
    if x.ndim == 4:
        return F.max_pool2d(x, 3, 2, 1)
    return F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
