"""I3D: Inception-v1 inflated to three dimensions (paper, section 2.4)."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from quovadis.models.inception import InceptionV1, average_pool
from quovadis.models.layers import init_truncated, require_grid
from quovadis.models.receptive_field import ReceptiveField, TemporalLayer
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel


class I3D(VideoModel):
    """I3D: Inception-v1 with batch norm, inflated to three dimensions.

    Reproduces the official code. Two-stream I3D is two models, one for RGB and one for flow, that are trained
    separately and whose logits are added.

    The network has 12,689,984 parameters for RGB and 12,668,032 for flow (400 classes). The final average pooling has
    a window of 2 x 7 x 7. Larger inputs leave several positions after pooling; their logits are averaged over space as
    well as over time, whereas the official code supports inputs of 224 x 224 pixels only.

    Endpoints have the names of the official code and shape (B, C, T, H, W). Without explicit names,
    :meth:`endpoints` omits ``Logits`` and ``Predictions`` if the input is too small for the final pooling.

    Args:
        stream: ``"rgb"`` (3 channels) or ``"flow"`` (2 channels: x to the right, y down).
        num_classes: Number of classes.
        dropout: Dropout probability before the classifier in training; 0.5 in the official code.
        width: Factor for all numbers of channels.
        spec: Input specification. The default is the paper's: 64 frames of 224 x 224 pixels. The final pooling window
            is ``spec.size_px / 32``.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("i3d_tiny", num_classes=10).eval()
        >>> x = torch.zeros(2, 3, 16, 64, 64)
        >>> model(x).shape, model.features(x).shape
        (torch.Size([2, 10]), torch.Size([2, 1, 256]))
        >>> outputs = model.endpoints(x, names=["Conv3d_1a_7x7", "Mixed_5c"])
        >>> {name: tuple(output.shape) for name, output in outputs.items()}
        {'Conv3d_1a_7x7': (2, 16, 8, 32, 32), 'Mixed_5c': (2, 256, 2, 2, 2)}

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.4, Figure 3 and Table 1.
        Official code: https://github.com/google-deepmind/kinetics-i3d, ``i3d.py``.
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

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        head = nn.Conv3d(self.feature_dim, num_classes, 1)
        init_truncated(head.weight)
        nn.init.constant_(head.get_parameter("bias"), 0.0)
        return head

    def forward(self, *streams: Tensor) -> Tensor:
        """Compute logits averaged over time and space.

        Args:
            streams: One float32 tensor (B, C, T, H, W) in [-1, 1] with T >= 9 and C = 3 (RGB) or 2 (flow).

        Returns:
            Logits (B, classes).

        Raises:
            InvalidTypeError: If the input is not a floating point tensor of the dtype of the weights.
            InvalidInputError: If the layout or number of channels is wrong, or the frames are too small.
            TooFewFramesError: If there are fewer than 9 frames.
        """
        self.check_inputs(*streams)
        return self.classify_map(self.trunk(streams[0]))

    def features(self, *streams: Tensor) -> Tensor:
        """Compute the inputs of the classifier: (B, T', 1024) with T' = ceil(T / 8) - 1."""
        self.check_inputs(*streams)
        return self._pool(self.trunk(streams[0])).mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits averaged over time: (B, T', 1024) to (B, classes)."""
        return self._logits(features.transpose(1, 2)[..., None, None])

    def classify_map(self, feature_map: Tensor) -> Tensor:
        """Compute logits from the output of the trunk: (B, 1024, T / 8, H / 32, W / 32) to (B, classes)."""
        return self._logits(self._pool(feature_map))

    def class_maps(self, *streams: Tensor) -> Tensor:
        """Compute class activation maps (B, classes, T / 8, H / 32, W / 32), sizes rounded up.

        Example:
            >>> import torch
            >>> from quovadis.models.zoo import build_model
            >>> model, x = build_model("i3d_tiny", num_classes=10).eval(), torch.rand(1, 3, 24, 64, 64)
            >>> maps = model.class_maps(x)
            >>> maps.shape, torch.allclose(model.pool_class_maps(maps), model(x), atol=1e-5)
            (torch.Size([1, 10, 3, 2, 2]), True)
        """
        self.check_inputs(*streams)
        feature_map = self.trunk(streams[0])
        require_grid(feature_map, self._window, self.spec.name)
        return self.head(feature_map.to(self.head.weight.dtype))

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Pool class activation maps to logits (B, classes): average pooling, then the mean over all positions."""
        return self._pool(maps).mean((2, 3, 4))

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        for name, x in self.trunk.stages(streams[0], None if names is None else frozenset(names)):
            yield name, x
        logits_requested = names is not None and not set(names).isdisjoint({"Logits", "Predictions"})
        if logits_requested or min(x.shape[3:]) >= self._window:
            yield "Logits", self._logits(self._pool(x))

    @property
    def receptive_field(self) -> ReceptiveField:
        """Temporal receptive field of a feature: 107 frames, one feature every 8 frames."""
        return ReceptiveField((*self.trunk.temporal_layers(), TemporalLayer(2, same_padding=False)), pooled_steps=2)

    @property
    def _window(self) -> int:
        return self.spec.size_px // 32

    def _pool(self, x: Tensor) -> Tensor:
        return average_pool(x, (2, self._window, self._window), self.spec.name)

    def _logits(self, pooled: Tensor) -> Tensor:
        return self.head(self.dropout(pooled).to(self.head.weight.dtype)).mean((2, 3, 4))


def i3d_spec(stream: StreamKind, name: str = "i3d") -> ModelSpec:
    """Input specification of I3D (Table 1): 224 x 224 pixels at 25 fps, 64 frames in training, 250 in testing."""
    return ModelSpec(
        name=name,
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=64),),
        size_px=224,
        short_side_px=256,
        min_frames=9,
        test_frames=250,
    )


def i3d_tiny_spec(stream: StreamKind) -> ModelSpec:
    """Input specification of the small I3D for tests and demos: 16 frames of 64 x 64 pixels.

    Training and test clips have the same length. With 16 frames, all receptive fields include padding, so longer clips
    would differ from the training data.
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
