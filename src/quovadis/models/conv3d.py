"""3D-ConvNet: C3D with batch norm (paper, section 2.2), the one network there that is always trained from scratch.

After C3D (Tran et al. 2015): eight convolutions of 3 x 3 x 3, five poolings, two layers of 4096. The paper's variant
has batch norm after every convolution and fully connected layer, and halves time in the first pooling too. The paper
is silent on the kernel of that pooling; here it is 2 x 2 x 2 like the others, so that no frame is passed over. Poolings
round up, as in Caffe: only so are there 79 M parameters.
"""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import MaxPoolSame
from quovadis.models.layers import ConvUnit, ShiftBatchNorm, init_truncated, require_grid
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel, pick_endpoints

# Convolutions with their output channels; a pooling of 2 x 2 x 2 where there is no number.
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
    """A layer over a whole grid, batch norm and ReLU.

    It is a convolution as large as the grid, so a longer or larger input gives several answers instead of an error.
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
    """C3D with batch norm.

    Args:
        stream: ``"rgb"`` in the paper.
        num_classes: classes of the head.
        dropout: after each of the two fully connected layers, in training; C3D's 0.5.
        width: multiplies every number of channels; 1 is the paper's network.
        spec: what the network sees; the default is the paper's 16 frames of 112 x 112.

    79,634,576 parameters for 400 classes, of which 33,554,432 look at the last grid of 512 x 1 x 4 x 4. One clip of 16
    frames leaves one step of time; longer ones leave a step for every 32 frames, and the paper does not use them.

    >>> import torch
    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("conv3d_tiny", num_classes=10).eval()
    >>> x = torch.zeros(2, 3, 16, 56, 56)
    >>> model(x).shape, model.features(x).shape
    (torch.Size([2, 10]), torch.Size([2, 1, 512]))
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
        for name, wanted in _LAYERS.items():
            if wanted is None:
                self.trunk.add_module(name, MaxPoolSame((2, 2, 2), (2, 2, 2)))
                continue
            out_channels = max(round(wanted * width), 1)
            self.trunk.add_module(name, ConvUnit(3, channels, out_channels, 3))
            channels = out_channels
        self._grid = -(-self.spec.size_px // 32)
        self.feature_dim = round(_FULLY_CONNECTED * width)
        self.fc6 = FullyConnectedUnit(channels, self.feature_dim, self._grid)
        self.fc7 = FullyConnectedUnit(self.feature_dim, self.feature_dim, 1)
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def _new_head(self, num_classes: int) -> nn.Module:
        head = nn.Linear(self.feature_dim, num_classes)
        init_truncated(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def forward(self, *streams: Tensor) -> Tensor:
        """Logits: float32 (B, C, T, H, W) in [-1, 1] to (B, classes).

        Raises:
            InvalidTypeError, InvalidInputError: another dtype, layout or number of channels, or too small.
        """
        return self.classify(self.features(*streams))

    def features(self, *streams: Tensor) -> Tensor:
        """What the classifier sees, the output of fc7: (B, T', 4096) with T' = 1 up to 32 frames."""
        self.check_inputs(*streams)
        for _, output in self._stages(streams[0]):
            last = output
        return last.mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Logits averaged over time: (B, T', 4096) to (B, classes)."""
        return self.head(self.dropout(features)).mean(1)

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs by C3D's names, (B, C, T, H, W) each; ``Logits`` and ``Predictions`` are (B, classes)."""
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        for name, last in self._stages(streams[0]):
            outputs[name] = last
            if names is not None and outputs.keys() >= set(names):
                return pick_endpoints(outputs, names)
        outputs["Logits"] = self.classify(last.mean((3, 4)).transpose(1, 2))
        outputs["Predictions"] = outputs["Logits"].softmax(1)
        return pick_endpoints(outputs, names)

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
    """16 frames of 112 x 112, the short side 128 as in C3D, and 15 such clips in testing (Table 1)."""
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
    """16 frames of 56 x 56, and three such clips in testing. Like 112, 56 comes to an odd grid that rounds up."""
    return ModelSpec(
        name="conv3d_tiny",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=16),),
        size_px=56,
        short_side_px=64,
        min_frames=1,
        test_frames=48,
        test_clip_frames=16,
    )
