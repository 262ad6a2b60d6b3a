"""ConvNet+LSTM: a 2D backbone on every fifth frame, followed by an LSTM (paper, section 2.1)."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.models.inception import SnippetInceptionV1, average_pool
from quovadis.models.layers import StepBatchNorm, linear_head
from quovadis.models.spec import CHANNELS, ModelSpec, StreamKind, StreamSpec
from quovadis.models.video_model import VideoModel

HIDDEN_SIZE = 512
FORGET_BIAS = 1.0
"""Initial bias of the forget gate, so that the cell keeps its state from the start (Jozefowicz et al., 2015)."""


class BatchNormLSTM(nn.Module):
    """LSTM with recurrent batch normalization.

    ::

        gates  = BN(x W_x) + BN(h W_h) + b          forget, input, output, candidate
        cell   = sigmoid(forget) * cell + sigmoid(input) * tanh(candidate)
        hidden = sigmoid(output) * tanh(BN(cell))

    Each of the three batch norms has running statistics per step. Only the one of the cell has a shift. Weights are
    initialized orthogonally per gate, states with zero.

    Args:
        input_size: Length D of the inputs.
        hidden_size: Length H of the hidden states.
        num_steps: Number of steps with running statistics: the length of a training clip. Later steps use the
            statistics of the last one.

    References:
        Cooijmans et al., "Recurrent Batch Normalization", arXiv:1603.09025, equations 6 to 8.
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
        """Compute hidden states (B, T, H) from inputs (B, T, D)."""
        hidden = cell = x.new_zeros(x.shape[0], self.hidden_size)
        states = []
        for step, input_product in enumerate(F.linear(x, self.weight_input).unbind(1)):
            hidden_product = F.linear(hidden, self.weight_hidden)
            gates = self.norm_input(input_product, step) + self.norm_hidden(hidden_product, step) + self.bias
            forget_gate, input_gate, output_gate, candidate = gates.chunk(4, 1)
            cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
            hidden = output_gate.sigmoid() * self.norm_cell(cell, step).tanh()
            states.append(hidden)
        return torch.stack(states, 1)


class ConvNetLSTM(VideoModel):
    """Inception-v1 on each frame, average pooling, an LSTM with 512 units and a classifier.

    In training, the loss is the average over all time steps. In evaluation, the prediction is that of the last step.
    Clips can have any number of frames. The network has 8,950,720 parameters (400 classes). The paper only names the
    recurrent batch norm; its details follow Cooijmans et al. (see :class:`BatchNormLSTM`). Endpoints are the layers of
    the trunk, (B, C, T, h, w), and ``AvgPool`` and ``LSTM``, (B, T, D).

    Args:
        stream: ``"rgb"`` in the paper.
        num_classes: Number of classes.
        dropout: Dropout probability of the hidden states before the classifier in training. Not specified in the
            paper.
        width: Factor for all numbers of channels.
        spec: Input specification. The default is the paper's: 25 frames of 224 x 224 pixels with stride 5.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("convnet_lstm_tiny", num_classes=10)
        >>> x = torch.zeros(2, 3, 8, 64, 64)
        >>> model.train()(x).shape, model.eval()(x).shape, model.features(x).shape
        (torch.Size([2, 8, 10]), torch.Size([2, 10]), torch.Size([2, 8, 128]))
        >>> list(model.endpoints(x))[-4:]
        ['AvgPool', 'LSTM', 'Logits', 'Predictions']

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.1, Figure 2a and Table 1.
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

    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""
        return linear_head(self.feature_dim, num_classes)

    def features(self, *streams: Tensor) -> Tensor:
        """Compute the hidden states of the LSTM: (B, T, 512)."""
        self.check_inputs(*streams)
        return self.lstm(self._pool(self.trunk(streams[0])))

    def classify(self, features: Tensor) -> Tensor:
        """Compute logits of the last step, (B, classes), or of all steps in training, (B, T, classes)."""
        return self.head(self.dropout(features if self.training else features[:, -1]))

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        for name, x in self.trunk.stages(streams[0]):
            yield name, x
        pooled = self._pool(x)
        yield "AvgPool", pooled
        hidden = self.lstm(pooled)
        yield "LSTM", hidden
        yield "Logits", self.video_logits(self.classify(hidden))

    def first_filters(self) -> dict[str, Tensor]:
        """Return the filters of the first convolution, (64, 3, 1, 7, 7)."""
        return {self.spec.stream: self.trunk.first_filters()}

    def _pool(self, x: Tensor) -> Tensor:
        """Average each frame over space: (B, T, 1024)."""
        window = self.spec.size_px // 32
        pooled = average_pool(x, (1, window, window), self.spec.name).mean((3, 4)).transpose(1, 2)
        return pooled.to(self.lstm.bias.dtype)


def convnet_lstm_spec(stream: StreamKind = "rgb", name: str = "convnet_lstm") -> ModelSpec:
    """Input specification of ConvNet+LSTM (Table 1): every fifth frame, 25 frames in training, 50 in testing."""
    return ModelSpec(
        name=name,
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=25, frame_stride=5),),
        size_px=224,
        short_side_px=256,
        min_frames=1,
        test_frames=250,
    )


def convnet_lstm_tiny_spec(stream: StreamKind = "rgb") -> ModelSpec:
    """Input specification of the small ConvNet+LSTM: every fourth frame, 8 frames in training, 12 in testing.

    Test clips are longer than training clips so that tests cover steps without running statistics.
    """
    return ModelSpec(
        name="convnet_lstm_tiny",
        streams=(StreamSpec(stream, CHANNELS[stream], num_frames=8, frame_stride=4),),
        size_px=64,
        short_side_px=72,
        min_frames=1,
        test_frames=48,
    )
