"""Two-Stream and 3D-Fused: one Inception-v1 on single frames, one on snippets of flow (paper, section 2.3).

Both look at pairs of an RGB frame and a snippet of ten flow frames around it, whose 20 channels are stacked. They
differ in what comes after the two trunks: averages of scores, or a convolution over the grids of five such pairs. Both
are trained end to end, and here with one stream alone too, for the columns RGB and Flow of the paper's tables.

Where in its snippet the RGB frame lies, the paper does not say: ten flows lead from frame 0 to frame 10, so the one in
the middle, frame 5, is taken.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from quovadis.models.inception import MaxPoolSame, SnippetInceptionV1, average_pool
from quovadis.models.layers import ConvUnit, init_truncated, require_grid
from quovadis.models.spec import CHANNELS, ModelSpec, StreamChoice, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel, pick_endpoints

SNIPPET_FRAMES = 10
FUSED_CHANNELS = 512
GAUSSIAN_STD = 0.01
"""Of the new layers of 3D-Fused. The paper says Gaussian and gives no deviation; this is the field's habit."""


class _SnippetModel(VideoModel):
    """A trunk for each stream, over pairs of an RGB frame and a snippet of flow."""

    def __init__(self, spec: ModelSpec, snippet_frames: int, width: float):
        super().__init__()
        self.spec = spec
        self.trunks = nn.ModuleDict()
        for stream in spec.streams:
            frames = snippet_frames if stream.kind == "flow" else 1
            self.trunks[stream.kind] = SnippetInceptionV1(stream.channels, frames, width=width)
        self._window = spec.size_px // 32

    def forward(self, *streams: Tensor) -> Tensor:
        """Logits: float32 (B, 3, n, H, W) and (B, 2, 10 n, H, W) in [-1, 1] to (B, classes).

        Raises:
            InvalidTypeError, InvalidInputError: another dtype, layout or number of channels; not ten frames of flow
                for each RGB frame; or too small.
        """
        return self.classify(self.features(*streams))

    def first_filters(self) -> dict[str, Tensor]:
        """The first convolution of each stream: (64, 3, 1, 7, 7) and (64, 2, 10, 7, 7)."""
        return {kind: trunk.first_filters() for kind, trunk in self._each_trunk()}

    def _each_trunk(self) -> Iterator[tuple[str, SnippetInceptionV1]]:
        for kind, trunk in self.trunks.items():
            assert isinstance(trunk, SnippetInceptionV1)
            yield kind, trunk

    def _trunk_stages(self, streams: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Stream by stream the stages of its trunk, as ``rgb/Conv2d_1a_7x7``."""
        for (kind, trunk), x in zip(self._each_trunk(), streams, strict=True):
            for name, output in trunk.stages(x):
                yield f"{kind}/{name}", output


class TwoStream(_SnippetModel):
    """Scores of a single RGB frame and of a snippet of flow, averaged within the network.

    Args:
        stream: ``"rgb+flow"``, or one of them alone.
        num_classes: classes of the head.
        dropout: share of features dropped before the classifiers in training.
        snippet_frames: flow frames of a snippet.
        width: multiplies every number of channels; 1 is the paper's network.
        spec: what the network sees; the default is the paper's.

    The averages are of logits, where the paper speaks of predictions: so the order of classes and the loss are those of
    one softmax over both streams. Several pairs in one input give the mean of their logits, as 25 of them do in
    testing. 12,058,560 parameters for 400 classes.

    >>> import torch
    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("two_stream_tiny", num_classes=10).eval()
    >>> rgb, flow = torch.zeros(2, 3, 1, 64, 64), torch.zeros(2, 2, 10, 64, 64)
    >>> model(rgb, flow).shape, model.features(rgb, flow).shape
    (torch.Size([2, 10]), torch.Size([2, 1, 512]))
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

    def _new_head(self, num_classes: int) -> nn.Module:
        heads = nn.ModuleDict()
        for kind, width in zip(self.trunks, self._widths, strict=True):
            head = nn.Linear(width, num_classes)
            init_truncated(head.weight)
            nn.init.zeros_(head.bias)
            heads[kind] = head
        return heads

    def features(self, *streams: Tensor) -> Tensor:
        """What the classifiers see: (B, n, 2048), a row for each pair, RGB first."""
        self.check_inputs(*streams)
        pooled = [self._pool(trunk(x)) for (_, trunk), x in zip(self._each_trunk(), streams, strict=True)]
        return torch.cat(pooled, 2)

    def classify(self, features: Tensor) -> Tensor:
        """Logits averaged over streams and pairs: (B, n, 2048) to (B, classes)."""
        parts = features.split(self._widths, 2)
        scores = [head(self.dropout(part)) for head, part in zip(self.head.children(), parts, strict=True)]
        return torch.stack(scores).mean((0, 2))

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs by stream and name, (B, C, n, h, w); ``rgb/AvgPool`` is (B, n, 1024), the last two (B, classes).

        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("two_stream_tiny", num_classes=10).eval()
        >>> outputs = model.endpoints(torch.zeros(1, 3, 1, 64, 64), torch.zeros(1, 2, 10, 64, 64))
        >>> list(outputs)[-4:]
        ['rgb/AvgPool', 'flow/AvgPool', 'Logits', 'Predictions']
        """
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        last: dict[str, Tensor] = {}
        for name, output in self._trunk_stages(streams):
            outputs[name] = last[name.partition("/")[0]] = output
            if names is not None and outputs.keys() >= set(names):
                return pick_endpoints(outputs, names)
        pooled = {f"{kind}/AvgPool": self._pool(x) for kind, x in last.items()}
        outputs |= pooled
        outputs["Logits"] = self.classify(torch.cat(list(pooled.values()), 2))
        outputs["Predictions"] = outputs["Logits"].softmax(1)
        return pick_endpoints(outputs, names)

    def _pool(self, x: Tensor) -> Tensor:
        """The average pooling of 7 x 7, and the mean where a larger input leaves several: (B, n, 1024)."""
        pooled = average_pool(x, (1, self._window, self._window), self.spec.name).mean((3, 4)).transpose(1, 2)
        return pooled.to(next(self.head.parameters()).dtype)


class FusedTwoStream(_SnippetModel):
    """The grids of five pairs of RGB frame and flow snippet, concatenated, and a 3D convolution over them.

    After the last block of both trunks: concatenation to 5 x 7 x 7 with 2048 channels (the paper's 39 M parameters
    leave no room for a sum), a convolution of 3 x 3 x 3 to 512 with batch norm and ReLU, a max pooling of 3 x 3 x 3,
    the classifier. The paper gives no stride of that pooling; it is 2, as in Inception's poolings of that size. The
    classifier scores every cell that is left, 3 x 4 x 4, and the mean counts: a classifier over them all together
    would have more parameters than 39 M.

    Args:
        stream: ``"rgb+flow"``, or one of them alone.
        num_classes: classes of the head.
        dropout: share of features dropped before the classifier in training.
        snippet_frames: flow frames of a snippet.
        width: multiplies every number of channels; 1 is the paper's network.
        spec: what the network sees; the default is the paper's.

    39,755,824 parameters for 400 classes, 39,550,624 before the classifier.

    >>> import torch
    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("fused_two_stream_tiny", num_classes=10).eval()
    >>> rgb, flow = torch.zeros(2, 3, 5, 64, 64), torch.zeros(2, 2, 25, 64, 64)
    >>> model(rgb, flow).shape, model.features(rgb, flow).shape
    (torch.Size([2, 10]), torch.Size([2, 3, 128]))
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

    def _new_head(self, num_classes: int) -> nn.Module:
        head = nn.Linear(self.feature_dim, num_classes)
        nn.init.normal_(head.weight, std=GAUSSIAN_STD)
        nn.init.zeros_(head.bias)
        return head

    def features(self, *streams: Tensor) -> Tensor:
        """What is left after the pooling, averaged over space: (B, ceil(n / 2), 512)."""
        self.check_inputs(*streams)
        grids = [trunk(x) for (_, trunk), x in zip(self._each_trunk(), streams, strict=True)]
        return self._over_space(self.pool(self._fuse(grids)))

    def classify(self, features: Tensor) -> Tensor:
        """Logits averaged over time: (B, T', 512) to (B, classes)."""
        return self.head(self.dropout(features)).mean(1)

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs by name, (B, C, n, h, w) each; ``Logits`` and ``Predictions`` are (B, classes).

        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("fused_two_stream_tiny", num_classes=10).eval()
        >>> outputs = model.endpoints(torch.zeros(1, 3, 5, 64, 64), torch.zeros(1, 2, 25, 64, 64))
        >>> list(outputs)[-4:], outputs["flow/Mixed_5c"].shape
        (['Conv3d_6a_3x3', 'MaxPool3d_6a_3x3', 'Logits', 'Predictions'], torch.Size([1, 256, 5, 2, 2]))
        """
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        last: dict[str, Tensor] = {}
        for name, output in self._trunk_stages(streams):
            outputs[name] = last[name.partition("/")[0]] = output
            if names is not None and outputs.keys() >= set(names):
                return pick_endpoints(outputs, names)
        outputs["Conv3d_6a_3x3"] = self._fuse(list(last.values()))
        outputs["MaxPool3d_6a_3x3"] = self.pool(outputs["Conv3d_6a_3x3"])
        outputs["Logits"] = self.classify(self._over_space(outputs["MaxPool3d_6a_3x3"]))
        outputs["Predictions"] = outputs["Logits"].softmax(1)
        return pick_endpoints(outputs, names)

    def _fuse(self, grids: list[Tensor]) -> Tensor:
        for grid in grids:
            require_grid(grid, self._window, self.spec.name)
        return self.fusion(torch.cat(grids, 1))

    @staticmethod
    def _over_space(x: Tensor) -> Tensor:
        return x.mean((3, 4)).transpose(1, 2)


def two_stream_spec(stream: StreamChoice = "rgb+flow") -> ModelSpec:
    """A frame and ten frames of flow, 0.4 s, in training; 25 of them, ten seconds, in testing (Table 1)."""
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
    """Five frames ten apart and 50 frames of flow, two seconds; five such clips, ten seconds, in testing (Table 1)."""
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
    """As large in time as the paper's, at 64 x 64; four samples in testing."""
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
    """Five snippets of five frames, one second, at 64 x 64; two such clips in testing."""
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
    """An RGB frame in the middle of each snippet of flow; or one of the two, taken at the same times."""
    of_kind: dict[StreamKind, StreamSpec] = {
        "rgb": StreamSpec("rgb", CHANNELS["rgb"], num_snippets, snippet_frames, first_frame=snippet_frames // 2),
        "flow": StreamSpec("flow", CHANNELS["flow"], num_snippets * snippet_frames),
    }
    return tuple(spec for kind, spec in of_kind.items() if kind in stream.split("+"))
