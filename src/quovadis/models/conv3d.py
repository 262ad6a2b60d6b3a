"""3D-ConvNet: C3D with batch norm (paper, section 2.2)."""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import MaxPoolSame
from quovadis.models.layers import ConvUnit, ShiftBatchNorm, init_truncated, linear_head, require_grid
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel

# Output channels of each convolution; None for a max pooling of 2 x 2 x 2.
_LAYERS: dict[str, int | None] = {
    "conv1a": 64,
    "pool1": None,
    "conv2a": 128,
    "pool2": None,
    "conv3a": 256,
    "conv3b": 256,
    "pool3": None,
    "conv4a": 512,
    "conv4b": 512,
    "pool4": None,
    "conv5a": 512,
    "conv5b": 512,
    "pool5": None,
}
_FULLY_CONNECTED = 4096


class FullyConnectedUnit(nn.Module):
    """Fully connected layer with batch norm and ReLU, implemented as a convolution to support larger inputs.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        grid: Height and width of the kernel: the size of the feature map of a training clip.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: int):
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, (1, grid, grid), bias=False)
        self.batch_norm = ShiftBatchNorm(out_channels)
        init_truncated(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T, h, w) to (B, out, T, h - grid + 1, w - grid + 1)."""
        return F.relu(self.batch_norm(self.conv(x)))


class Conv3D(VideoModel):
    """C3D with batch norm after each convolution and fully connected layer; always trained from scratch in the paper.

    The network has eight 3 x 3 x 3 convolutions, five poolings and two fully connected layers with 4096 units. Unlike
    C3D, the first pooling has a temporal stride of 2. The paper does not specify its kernel; here it is 2 x 2 x 2, so
    that each frame is used. Poolings round up as in Caffe, which gives the 79 M parameters of Table 1: 79,634,576 for
    400 classes. Clips with more than 32 frames give one feature per 32 frames; the paper does not use them. Endpoints
    have the names of C3D and shape (B, C, T, H, W).

    Args:
        stream: ``"rgb"`` in the paper.
        num_classes: Number of classes.
        dropout: Dropout probability after each of the two fully connected layers in training; 0.5 in C3D.
        width: Factor for all numbers of channels.
        spec: Input specification. The default is the paper's: 16 frames of 112 x 112 pixels.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("conv3d_tiny", num_classes=10).eval()
        >>> x = torch.zeros(2, 3, 16, 56, 56)
        >>> model(x).shape, model.features(x).shape
        (torch.Size([2, 10]), torch.Size([2, 1, 512]))

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.2, Figure 2b and Table 1.
        Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015.
    """

    def __init__(
        self,
        *,
        stream: StreamKind = "rgb",
        num_classes: int = 400,
        dropout: float = 0.5,
        width: float = 1.0,
        spec: ModelSpec | None = None,
    ):
        super().__init__()
        self.spec = spec or conv3d_spec(stream)
        channels = CHANNELS[stream]
        self.trunk = nn.Sequential()
        for name, base_channels in _LAYERS.items():
            if base_channels is None:
                self.trunk.add_module(name, MaxPoolSame((2, 2, 2), (2, 2, 2)))
                continue
            out_channels = max(round(base_channels * width), 1)
            self.trunk.add_module(name, ConvUnit(3, channels, out_channels, 3))
            channels = out_channels
        self._grid = -(-self.spec.size_px // 32)
        self.feature_dim = round(_FULLY_CONNECTED * width)
        self.fc6 = FullyConnectedUnit(channels, self.feature_dim, self._grid)
        self.fc7 = FullyConnectedUnit(self.feature_dim, self.feature_dim, 1)
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        return linear_head(self.feature_dim, num_classes)

    def features(self, *streams: Tensor) -> Tensor:
        """Compute the output of fc7 averaged over space: (B, T', 4096) with T' = ceil(T / 32)."""
        self.check_inputs(*streams)
        for _, output in self._stages(streams[0]):
            last = output
        return last.mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits averaged over time: (B, T', 4096) to (B, classes)."""
        return self.head(self.dropout(features)).mean(1)

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        for name, x in self._stages(streams[0]):
            yield name, x
        yield "Logits", self.classify(x.mean((3, 4)).transpose(1, 2))

    def _stages(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        for name, layer in self.trunk.named_children():
            x = layer(x)
            yield name, x
        require_grid(x, self._grid, self.spec.name)
        x = self.fc6(x)
        yield "fc6", x
        x = self.fc7(self.dropout(x))
        yield "fc7", x


def conv3d_spec(stream: StreamKind = "rgb") -> ModelSpec:
    """Input specification of 3D-ConvNet (Table 1): clips of 16 frames of 112 x 112 pixels, 15 clips in testing."""
    return ModelSpec(
        name="conv3d",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=16),),
        size_px=112,
        short_side_px=128,
        min_frames=1,
        test_frames=240,
        test_clip_frames=16,
    )


def conv3d_tiny_spec(stream: StreamKind = "rgb") -> ModelSpec:
    """Input specification of the small 3D-ConvNet: clips of 16 frames of 56 x 56 pixels, three clips in testing.

    As with 112 pixels, a pooling layer has an input of odd size and rounds up.
    """
    return ModelSpec(
        name="conv3d_tiny",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=16),),
        size_px=56,
        short_side_px=64,
        min_frames=1,
        test_frames=48,
        test_clip_frames=16,
    )
