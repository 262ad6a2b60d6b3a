"""ConvNet+LSTM: a image model on every fifth frame, an LSTM over what it says (paper, section 2.1).

The first of the five architectures of the paper. Its LSTM has recurrent batch norm (Cooijmans et al. 2016); the paper
names it and says no more, so the details are theirs where they give them, and named here where they do not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import SnippetInceptionV1, average_pool
from quovadis.models.layers import StepBatchNorm, init_truncated
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel, pick_endpoints

HIDDEN_SIZE = 512
FORGET_BIAS = 1.0
"""Of the forget gate at the start, so that the cell remembers from the first step on (Jozefowicz et al. 2015)."""


class BatchNormLSTM(nn.Module):
    """An LSTM whose sums are batch-normalized at each step (Cooijmans et al. 2016, equations 6 to 8).

    ::

        gates   = BN(x W_x) + BN(h W_h) + b          forget, input, output, candidate
        cell    = sigmoid(forget) * cell + sigmoid(input) * tanh(candidate)
        hidden  = sigmoid(output) * tanh(BN(cell))

    Each of the three norms has a scale that begins at 0.1 and statistics for each step; only that of the cell has a
    shift, because ``b`` is one already. Both states begin at zero. Weights are orthogonal gate by gate; ``b`` is zero
    but for the forget gate. That is 4 H (D + H) + 4 H numbers, as any LSTM has, and 10 H of the norms.

    Args:
        input_size: D.
        hidden_size: H.
        num_steps: steps with statistics of their own: those of a training clip. Later ones use the last.
    """

    def __init__(self, input_size: int, hidden_size: int, num_steps: int):
        super().__init__()
        self.hidden_size = hidden_size
        gates = 4 * hidden_size
        self.weight_input = nn.Parameter(torch.empty(gates, input_size))
        self.weight_hidden = nn.Parameter(torch.empty(gates, hidden_size))
        self.bias = nn.Parameter(torch.zeros(gates))
        self.norm_input = StepBatchNorm(gates, num_steps, shift=False)
        self.norm_hidden = StepBatchNorm(gates, num_steps, shift=False)
        self.norm_cell = StepBatchNorm(hidden_size, num_steps)
        nn.init.constant_(self.bias[:hidden_size], FORGET_BIAS)
        for weight in (self.weight_input, self.weight_hidden):
            for gate in weight.chunk(4):
                nn.init.orthogonal_(gate)

    def forward(self, x: Tensor) -> Tensor:
        """Inputs (B, T, D) to hidden states (B, T, H)."""
        hidden = cell = x.new_zeros(x.shape[0], self.hidden_size)
        states = []
        for step, from_input in enumerate(F.linear(x, self.weight_input).unbind(1)):
            from_hidden = F.linear(hidden, self.weight_hidden)
            gates = self.norm_input(from_input, step) + self.norm_hidden(from_hidden, step) + self.bias
            forget, admit, release, candidate = gates.chunk(4, 1)
            cell = forget.sigmoid() * cell + admit.sigmoid() * candidate.tanh()
            hidden = release.sigmoid() * self.norm_cell(cell, step).tanh()
            states.append(hidden)
        return torch.stack(states, 1)


class ConvNetLSTM(VideoModel):
    """Inception-v1 on each frame, its last average pooling, an LSTM of 512 units, and one classifier.

    In training the classifier has to be right at every step; in evaluation the last step answers.

    Args:
        stream: ``"rgb"`` in the paper.
        num_classes: classes of the head.
        dropout: share of the hidden units dropped before the classifier in training. The paper does not speak of it.
        width: multiplies every number of channels; 1 is the paper's network.
        spec: what the network sees; the default is the paper's 25 frames of 224 x 224, every fifth.

    8,950,720 parameters for 400 classes, the paper's 9 M. Any number of steps passes, from one on.

    >>> import torch
    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("convnet_lstm_tiny", num_classes=10)
    >>> x = torch.zeros(2, 3, 8, 64, 64)
    >>> model.train()(x).shape, model.eval()(x).shape, model.features(x).shape
    (torch.Size([2, 8, 10]), torch.Size([2, 10]), torch.Size([2, 8, 128]))
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
        self.spec = spec or convnet_lstm_spec(stream)
        self.trunk = SnippetInceptionV1(CHANNELS[stream], width=width)
        self.feature_dim = round(HIDDEN_SIZE * width)
        self.lstm = BatchNormLSTM(self.trunk.out_channels, self.feature_dim, self.spec.streams[0].num_frames)
        self.dropout = nn.Dropout(dropout)
        self.reset_head(num_classes)

    def _new_head(self, num_classes: int) -> nn.Module:
        head = nn.Linear(self.feature_dim, num_classes)
        init_truncated(head.weight)
        nn.init.zeros_(head.bias)
        return head

    def forward(self, *streams: Tensor) -> Tensor:
        """Logits: float32 (B, C, T, H, W) in [-1, 1] to (B, classes), or (B, T, classes) in training.

        Raises:
            InvalidTypeError, InvalidInputError: another dtype, layout or number of channels, or too small.
        """
        return self.classify(self.features(*streams))

    def features(self, *streams: Tensor) -> Tensor:
        """Hidden states: (B, T, 512)."""
        self.check_inputs(*streams)
        return self.lstm(self._pool(self.trunk(streams[0])))

    def classify(self, features: Tensor) -> Tensor:
        """Logits of every step in training, (B, T, classes), of the last in evaluation, (B, classes)."""
        return self.head(self.dropout(features if self.training else features[:, -1]))

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Outputs by name: of the trunk (B, C, T, h, w), ``AvgPool`` and ``LSTM`` (B, T, D), the last two (B, classes).

        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> outputs = build_model("convnet_lstm_tiny", num_classes=10).eval().endpoints(torch.zeros(1, 3, 8, 64, 64))
        >>> list(outputs)[-4:], outputs["Mixed_5c"].shape
        (['AvgPool', 'LSTM', 'Logits', 'Predictions'], torch.Size([1, 256, 8, 2, 2]))
        """
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        for name, last in self.trunk.stages(streams[0]):
            outputs[name] = last
            if names is not None and outputs.keys() >= set(names):
                return pick_endpoints(outputs, names)
        outputs["AvgPool"] = self._pool(last)
        outputs["LSTM"] = self.lstm(outputs["AvgPool"])
        outputs["Logits"] = self.answer(self.classify(outputs["LSTM"]))
        outputs["Predictions"] = outputs["Logits"].softmax(1)
        return pick_endpoints(outputs, names)

    def first_filters(self) -> dict[str, Tensor]:
        """The first convolution, (64, 3, 1, 7, 7): one time slice."""
        return {self.spec.stream: self.trunk.first_filters()}

    def _pool(self, x: Tensor) -> Tensor:
        """The average pooling of 7 x 7 for each frame, and the mean where there are several: (B, T, 1024)."""
        window = self.spec.size_px // 32
        pooled = average_pool(x, (1, window, window), self.spec.name).mean((3, 4)).transpose(1, 2)
        return pooled.to(self.lstm.bias.dtype)


def convnet_lstm_spec(stream: StreamKind = "rgb", name: str = "convnet_lstm") -> ModelSpec:
    """Every fifth frame of 25 a second: 25 of them, five seconds, in training, and 50 in testing (Table 1)."""
    return ModelSpec(
        name=name,
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=25, frame_stride=5),),
        size_px=224,
        short_side_px=256,
        min_frames=1,
        test_frames=250,
    )


def convnet_lstm_tiny_spec(stream: StreamKind = "rgb") -> ModelSpec:
    """8 frames of 64 x 64, every fourth, and 12 in testing, so that steps without statistics of their own occur."""
    return ModelSpec(
        name="convnet_lstm_tiny",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=8, frame_stride=4),),
        size_px=64,
        short_side_px=72,
        min_frames=1,
        test_frames=48,
    )
