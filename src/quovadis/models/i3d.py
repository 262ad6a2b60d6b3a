"""I3D: Inception-v1 inflated to three dimensions (paper, section 2.4), exactly as the official code has it.

Source: google-deepmind/kinetics-i3d, ``i3d.py``. Two-stream I3D is two of these trained apart, one on RGB and one on
flow, their logits added (:mod:`quovadis.inference.fusion`).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from quovadis.models.inception import InceptionV1, average_pool
from quovadis.models.layers import init_truncated, require_grid
from quovadis.models.receptive_field import ReceptiveField, TemporalLayer
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel, pick_endpoints


class I3D(VideoModel):
    """Inflated Inception-v1.

    Args:
        stream: ``"rgb"`` (3 channels) or ``"flow"`` (2 channels: x to the right, y down).
        num_classes: classes of the head.
        dropout: share of features dropped before the classifier in training; the official code keeps 0.5.
        width: multiplies every number of channels; 1 is the paper's network.
        spec: what the network sees; the default is the paper's 64 frames of 224 x 224.

    The spatial window of the last pooling is ``spec.size_px / 32``: 7 in the paper. An input that leaves a larger grid
    than that gives several class scores side by side; they are averaged, as they are over time. (The official code
    refuses such inputs.) Without scale in batch norm there are 12,689,984 parameters for RGB and 12,668,032 for flow.

    >>> import torch
    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("i3d_tiny", num_classes=10).eval()
    >>> x = torch.zeros(2, 3, 16, 64, 64)
    >>> model(x).shape, model.features(x).shape
    (torch.Size([2, 10]), torch.Size([2, 1, 256]))
    """

    has_class_maps = True

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
        self.spec = spec or i3d_spec(stream)
        self.trunk = InceptionV1(3, CHANNELS[stream], width=width)
        self.feature_dim = self.trunk.out_channels
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def _new_head(self, num_classes: int) -> nn.Module:
        head = nn.Conv3d(self.feature_dim, num_classes, 1)
        init_truncated(head.weight)
        nn.init.constant_(head.get_parameter("bias"), 0.0)
        return head

    def forward(self, *streams: Tensor) -> Tensor:
        """Logits averaged over time: float32 (B, C, T, H, W) in [-1, 1] to (B, classes).

        Raises:
            InvalidTypeError, InvalidInputError: another dtype, layout or number of channels, or too small.
            TooFewFramesError: fewer than 9 frames.
        """
        self.check_inputs(*streams)
        return self._logits(self._pool(self.trunk(streams[0])))

    def features(self, *streams: Tensor) -> Tensor:
        """What the classifier sees: (B, T', 1024) with T' = ceil(T / 8) - 1."""
        self.check_inputs(*streams)
        return self._pool(self.trunk(streams[0])).mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Logits averaged over time: (B, T', 1024) to (B, classes)."""
        return self._logits(features.transpose(1, 2)[..., None, None])

    def class_maps(self, *streams: Tensor) -> Tensor:
        """Evidence for each class before the pooling of 2 x 7 x 7: (B, classes, ceil(T / 8), H / 32, W / 32).

        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model, x = build_model("i3d_tiny", num_classes=10).eval(), torch.rand(1, 3, 24, 64, 64)
        >>> maps = model.class_maps(x)
        >>> maps.shape, torch.allclose(model.pool_class_maps(maps), model(x), atol=1e-5)
        (torch.Size([1, 10, 3, 2, 2]), True)
        """
        self.check_inputs(*streams)
        grid = self.trunk(streams[0])
        require_grid(grid, self._window, self.spec.name)
        return self.head(grid.to(self.head.weight.dtype))

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Logits (B, classes): the average pooling, and the mean over what it leaves."""
        return self._pool(maps).mean((2, 3, 4))

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs by the official names, (B, C, T, H, W) each; ``Logits`` and ``Predictions`` are (B, classes).

        The last two are there only when the input is large enough for the final pooling, unless asked for by name.

        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> outputs = build_model("i3d_tiny", num_classes=10).eval().endpoints(torch.zeros(1, 3, 16, 64, 64))
        >>> list(outputs)[:3], outputs["Mixed_5c"].shape
        (['Conv3d_1a_7x7', 'MaxPool3d_2a_3x3', 'Conv3d_2b_1x1'], torch.Size([1, 256, 2, 2, 2]))
        """
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        for name, last in self.trunk.stages(streams[0]):
            outputs[name] = last
            if names is not None and outputs.keys() >= set(names):
                return pick_endpoints(outputs, names)
        wants_logits = names is not None and not set(names).isdisjoint({"Logits", "Predictions"})
        if wants_logits or min(last.shape[3:]) >= self._window:
            outputs["Logits"] = self._logits(self._pool(last))
            outputs["Predictions"] = outputs["Logits"].softmax(1)
        return pick_endpoints(outputs, names)

    @property
    def receptive_field(self) -> ReceptiveField:
        """Temporal receptive field of a feature: 107 frames, one feature every 8 frames."""
        return ReceptiveField((*self.trunk.temporal_layers(), TemporalLayer(2, same_padding=False)), pooled_steps=2)

    @property
    def _window(self) -> int:
        return self.spec.size_px // 32

    def _pool(self, x: Tensor) -> Tensor:
        """The average pooling of 2 x 7 x 7."""
        return average_pool(x, (2, self._window, self._window), self.spec.name)

    def _logits(self, pooled: Tensor) -> Tensor:
        return self.head(self.dropout(pooled).to(self.head.weight.dtype)).mean((2, 3, 4))


def i3d_spec(stream: StreamKind, name: str = "i3d") -> ModelSpec:
    """64 frames of 224 x 224 at 25 fps for training, 250 for testing (Table 1)."""
    return ModelSpec(
        name=name,
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=64),),
        size_px=224,
        short_side_px=256,
        min_frames=9,
        test_frames=250,
    )


def i3d_tiny_spec(stream: StreamKind) -> ModelSpec:
    """16 frames of 64 x 64: the same code, for tests and for the demo.

    It is shown clips of the length that it was trained on. Its time axis is shorter than its receptive field, so every
    feature sees the padding at the ends, and a longer clip looks to it like nothing that it knows.
    """
    return ModelSpec(
        name="i3d_tiny",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=16),),
        size_px=64,
        short_side_px=72,
        min_frames=9,
        test_frames=16,
        protocol="ten-clips",
    )
