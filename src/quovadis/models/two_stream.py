"""Two-Stream and 3D-Fused Two-Stream: 2D trunks on RGB frames and snippets of flow (paper, section 2.3).

Both networks take pairs of an RGB frame and a snippet of ten flow frames with 20 stacked channels, and can also be
built for one of the two streams. The paper does not specify the position of the RGB frame in the snippet. Ten flow
frames connect frames 0 to 10; this implementation uses the middle frame, 5.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from quovadis.models.inception import MaxPoolSame, SnippetInceptionV1, average_pool
from quovadis.models.layers import ConvUnit, linear_head, require_grid
from quovadis.models.spec import CHANNELS, ModelSpec, StreamChoice, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel

SNIPPET_FRAMES = 10
FUSED_CHANNELS = 512
GAUSSIAN_STD = 0.01
"""Standard deviation of the initial weights of the new layers of 3D-Fused.

The paper initializes them with Gaussian noise without giving a standard deviation; 0.01 is a common choice.
"""


class _SnippetModel(VideoModel):
    """Base class with one trunk per stream for pairs of an RGB frame and a snippet of flow."""

    def __init__(self, spec: ModelSpec, snippet_frames: int, width: float):
        super().__init__()
        self.spec = spec
        self.trunks = nn.ModuleDict()
        for stream in spec.streams:
            frames = snippet_frames if stream.kind == "flow" else 1
            self.trunks[stream.kind] = SnippetInceptionV1(stream.channels, frames, width=width)
        self._window = spec.size_px // 32

    def first_filters(self) -> dict[str, Tensor]:
        """Return the filters of the first convolution: (64, 3, 1, 7, 7) for RGB, (64, 2, 10, 7, 7) for flow."""
        return {kind: trunk.first_filters() for kind, trunk in self._each_trunk()}

    def _each_trunk(self) -> Iterator[tuple[str, SnippetInceptionV1]]:
        for kind, trunk in self.trunks.items():
            assert isinstance(trunk, SnippetInceptionV1)
            yield kind, trunk

    def _trunk_stages(self, streams: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Run the trunks layer by layer and yield ``(name, output)`` with names such as ``rgb/Conv2d_1a_7x7``."""
        for (kind, trunk), x in zip(self._each_trunk(), streams, strict=True):
            for name, output in trunk.stages(x):
                yield f"{kind}/{name}", output


class TwoStream(_SnippetModel):
    """Two-Stream network: averaged logits of an RGB frame and a snippet of flow, trained end to end.

    The paper averages predictions; this implementation averages logits, so that training minimizes the cross-entropy
    of the combined prediction. If the input has several pairs, such as 25 in testing, their logits are averaged as
    well. The network has 12,058,560 parameters (400 classes).

    Inputs are RGB frames (B, 3, n, H, W) and flow (B, 2, 10 n, H, W), or one of them. Endpoints have a prefix, such as
    ``rgb/Mixed_5c`` (B, C, n, h, w) and ``flow/AvgPool`` (B, n, 1024).

    Args:
        stream: ``"rgb+flow"``, ``"rgb"`` or ``"flow"``.
        num_classes: Number of classes.
        dropout: Dropout probability before the classifiers in training.
        snippet_frames: Number of flow frames per snippet.
        width: Factor for all numbers of channels.
        spec: Input specification. The default is the paper's.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("two_stream_tiny", num_classes=10).eval()
        >>> rgb, flow = torch.zeros(2, 3, 1, 64, 64), torch.zeros(2, 2, 10, 64, 64)
        >>> model(rgb, flow).shape, model.features(rgb, flow).shape
        (torch.Size([2, 10]), torch.Size([2, 1, 512]))
        >>> list(model.endpoints(rgb, flow))[-4:]
        ['rgb/AvgPool', 'flow/AvgPool', 'Logits', 'Predictions']

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.3, Figure 2c and Table 1.
        Simonyan and Zisserman, "Two-Stream Convolutional Networks", NIPS 2014.
    """

    def __init__(
        self,
        *,
        stream: StreamChoice = "rgb+flow",
        num_classes: int = 400,
        dropout: float = 0.5,
        snippet_frames: int = SNIPPET_FRAMES,
        width: float = 1.0,
        spec: ModelSpec | None = None,
    ):
        super().__init__(spec or two_stream_spec(stream), snippet_frames, width)
        self._widths = [trunk.out_channels for _, trunk in self._each_trunk()]
        self.feature_dim = sum(self._widths)
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        widths = zip(self.trunks, self._widths, strict=True)
        return nn.ModuleDict({kind: linear_head(width, num_classes) for kind, width in widths})

    def features(self, *streams: Tensor) -> Tensor:
        """Compute the inputs of the classifiers: (B, n, 2048), one vector per pair, RGB before flow."""
        self.check_inputs(*streams)
        pooled = [self._pool(trunk(x)) for (_, trunk), x in zip(self._each_trunk(), streams, strict=True)]
        return torch.cat(pooled, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits averaged over streams and pairs: (B, n, 2048) to (B, classes)."""
        parts = features.split(self._widths, 2)
        scores = [head(self.dropout(part)) for head, part in zip(self.head.children(), parts, strict=True)]
        return torch.stack(scores).mean((0, 2))

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        last: dict[str, Tensor] = {}
        for name, x in self._trunk_stages(streams):
            last[name.partition("/")[0]] = x
            yield name, x
        pooled = []
        for kind, x in last.items():
            pooled.append(self._pool(x))
            yield f"{kind}/AvgPool", pooled[-1]
        yield "Logits", self.classify(torch.cat(pooled, 2))

    def _pool(self, x: Tensor) -> Tensor:
        """Average each pair over space: (B, n, 1024)."""
        pooled = average_pool(x, (1, self._window, self._window), self.spec.name).mean((3, 4)).transpose(1, 2)
        return pooled.to(next(self.head.parameters()).dtype)


class FusedTwoStream(_SnippetModel):
    """3D-Fused Two-Stream network: a 3D convolution over the feature maps of five pairs of RGB frame and flow snippet.

    The last feature maps of both trunks are concatenated (5 x 7 x 7, 2048 channels), followed by a 3 x 3 x 3
    convolution to 512 channels with batch norm and ReLU, a 3 x 3 x 3 max pooling and the classifier. Three details are
    not specified in the paper:

    - Fusion by concatenation. A sum would not reach the 39 M parameters of Table 1.
    - The stride of the pooling, 2, as in the 3 x 3 x 3 pooling of Inception.
    - The classifier is applied to each of the 3 x 4 x 4 positions, and the logits are averaged. A classifier on all
      positions together would exceed 39 M parameters.

    The network has 39,755,824 parameters (400 classes), 39,550,624 of them before the classifier.

    Inputs are RGB frames (B, 3, n, H, W) and flow (B, 2, 10 n, H, W), or one of them. Endpoints have shape
    (B, C, n, h, w); those of the trunks have a prefix, such as ``rgb/Mixed_5c``.

    Args:
        stream: ``"rgb+flow"``, ``"rgb"`` or ``"flow"``.
        num_classes: Number of classes.
        dropout: Dropout probability before the classifier in training.
        snippet_frames: Number of flow frames per snippet.
        width: Factor for all numbers of channels.
        spec: Input specification. The default is the paper's.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("fused_two_stream_tiny", num_classes=10).eval()
        >>> rgb, flow = torch.zeros(2, 3, 5, 64, 64), torch.zeros(2, 2, 25, 64, 64)
        >>> model(rgb, flow).shape, model.features(rgb, flow).shape
        (torch.Size([2, 10]), torch.Size([2, 3, 128]))
        >>> list(model.endpoints(rgb, flow))[-4:]
        ['Conv3d_6a_3x3', 'MaxPool3d_6a_3x3', 'Logits', 'Predictions']

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.3, Figure 2d and Table 1.
        Feichtenhofer et al., "Convolutional Two-Stream Network Fusion for Video Action Recognition", CVPR 2016.
    """

    def __init__(
        self,
        *,
        stream: StreamChoice = "rgb+flow",
        num_classes: int = 400,
        dropout: float = 0.5,
        snippet_frames: int = SNIPPET_FRAMES,
        width: float = 1.0,
        spec: ModelSpec | None = None,
    ):
        super().__init__(spec or fused_two_stream_spec(stream), snippet_frames, width)
        self.feature_dim = round(FUSED_CHANNELS * width)
        self.fusion = ConvUnit(3, sum(trunk.out_channels for _, trunk in self._each_trunk()), self.feature_dim, 3)
        nn.init.normal_(self.fusion.conv.weight, std=GAUSSIAN_STD)
        self.pool = MaxPoolSame((3, 3, 3), (2, 2, 2))
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        head = nn.Linear(self.feature_dim, num_classes)
        nn.init.normal_(head.weight, std=GAUSSIAN_STD)
        nn.init.zeros_(head.bias)
        return head

    def features(self, *streams: Tensor) -> Tensor:
        """Compute the output of the last pooling, averaged over space: (B, ceil(n / 2), 512)."""
        self.check_inputs(*streams)
        feature_maps = [trunk(x) for (_, trunk), x in zip(self._each_trunk(), streams, strict=True)]
        return self._spatial_mean(self.pool(self._fuse(feature_maps)))

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits averaged over time: (B, T', 512) to (B, classes)."""
        return self.head(self.dropout(features)).mean(1)

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        last: dict[str, Tensor] = {}
        for name, x in self._trunk_stages(streams):
            last[name.partition("/")[0]] = x
            yield name, x
        fused = self._fuse(list(last.values()))
        yield "Conv3d_6a_3x3", fused
        pooled = self.pool(fused)
        yield "MaxPool3d_6a_3x3", pooled
        yield "Logits", self.classify(self._spatial_mean(pooled))

    def _fuse(self, feature_maps: list[Tensor]) -> Tensor:
        for feature_map in feature_maps:
            require_grid(feature_map, self._window, self.spec.name)
        return self.fusion(torch.cat(feature_maps, 1))

    @staticmethod
    def _spatial_mean(x: Tensor) -> Tensor:
        return x.mean((3, 4)).transpose(1, 2)


def two_stream_spec(stream: StreamChoice = "rgb+flow") -> ModelSpec:
    """Input specification of Two-Stream (Table 1): one pair (0.4 s) in training, 25 pairs (10 s) in testing."""
    return ModelSpec(
        name="two_stream",
        streams=_streams(stream, num_snippets=1, snippet_frames=SNIPPET_FRAMES),
        size_px=224,
        short_side_px=256,
        min_frames=SNIPPET_FRAMES,
        test_frames=250,
        test_clip_frames=SNIPPET_FRAMES,
    )


def fused_two_stream_spec(stream: StreamChoice = "rgb+flow") -> ModelSpec:
    """Input specification of 3D-Fused (Table 1): five pairs (2 s) in training, five such clips (10 s) in testing."""
    return ModelSpec(
        name="fused_two_stream",
        streams=_streams(stream, num_snippets=5, snippet_frames=SNIPPET_FRAMES),
        size_px=224,
        short_side_px=256,
        min_frames=SNIPPET_FRAMES,
        test_frames=250,
        test_clip_frames=5 * SNIPPET_FRAMES,
    )


def two_stream_tiny_spec(stream: StreamChoice = "rgb+flow") -> ModelSpec:
    """Input specification of the small Two-Stream: 64 x 64 pixels, one pair in training, four in testing."""
    return ModelSpec(
        name="two_stream_tiny",
        streams=_streams(stream, num_snippets=1, snippet_frames=SNIPPET_FRAMES),
        size_px=64,
        short_side_px=72,
        min_frames=SNIPPET_FRAMES,
        test_frames=40,
        test_clip_frames=SNIPPET_FRAMES,
    )


FUSED_TINY_SNIPPET_FRAMES = 5


def fused_two_stream_tiny_spec(stream: StreamChoice = "rgb+flow") -> ModelSpec:
    """Input specification of the small 3D-Fused: 64 x 64 pixels, five snippets of five frames, two clips in testing."""
    return ModelSpec(
        name="fused_two_stream_tiny",
        streams=_streams(stream, num_snippets=5, snippet_frames=FUSED_TINY_SNIPPET_FRAMES),
        size_px=64,
        short_side_px=72,
        min_frames=FUSED_TINY_SNIPPET_FRAMES,
        test_frames=50,
        test_clip_frames=5 * FUSED_TINY_SNIPPET_FRAMES,
    )


def _streams(stream: StreamChoice, num_snippets: int, snippet_frames: int) -> tuple[StreamSpec, ...]:
    """Stream specs with the RGB frame in the middle of each flow snippet, also if only one stream is used."""
    specs: dict[StreamKind, StreamSpec] = {
        "rgb": StreamSpec("rgb", CHANNELS["rgb"], num_snippets, snippet_frames, first_frame=snippet_frames // 2),
        "flow": StreamSpec("flow", CHANNELS["flow"], num_snippets * snippet_frames),
    }
    return tuple(spec for kind, spec in specs.items() if kind in stream.split("+"))
