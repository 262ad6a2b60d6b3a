"""ConvNet+LSTM: number of parameters, recurrence compared with its formulas, and logits."""

import numpy as np
import pytest
import torch

from quovadis.models.convnet_lstm import BatchNormLSTM, ConvNetLSTM
from quovadis.models.inception import InceptionV1
from quovadis.models.zoo import build_model
from tests.models.parameters import googlenet, linear
from tests.models.settled import settled

EPS = 1e-5


def numbers_of(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_number_of_parameters_equals_sum_of_parts() -> None:
    with torch.device("meta"):
        model = build_model("convnet_lstm")
    norms = 2 * 4 * 512 + 2 * 512  # scales of both sums, scale and shift of the cell
    assert numbers_of(model.get_submodule("trunk")) == googlenet()
    assert numbers_of(model.get_submodule("lstm")) == linear(1024 + 512, 4 * 512) + norms
    assert numbers_of(model.get_submodule("head")) == linear(512, 400)
    assert round(numbers_of(model) / 1e6) == 9  # table 1 of the paper


def test_shapes_at_full_size() -> None:
    with torch.device("meta"):
        model = build_model("convnet_lstm").eval()
        outputs = model.endpoints(torch.empty(2, 3, 50, 224, 224))
    found = {name: tuple(outputs[name].shape) for name in ("Conv2d_1a_7x7", "Mixed_5c", "AvgPool", "LSTM", "Logits")}
    assert found == {
        "Conv2d_1a_7x7": (2, 64, 50, 112, 112),
        "Mixed_5c": (2, 1024, 50, 7, 7),
        "AvgPool": (2, 50, 1024),
        "LSTM": (2, 50, 512),
        "Logits": (2, 400),
    }


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slow_lstm(lstm: BatchNormLSTM, x: np.ndarray, training: bool) -> tuple[np.ndarray, dict[str, list[np.ndarray]]]:
    """Reference implementation in NumPy: hidden states and the inputs of each norm at each step."""
    state = {name: tensor.numpy() for name, tensor in lstm.state_dict().items()}
    size, last = lstm.hidden_size, len(state["norm_cell.running_mean"]) - 1
    seen: dict[str, list[np.ndarray]] = {"norm_input": [], "norm_hidden": [], "norm_cell": []}

    def normalized(name: str, values: np.ndarray, step: int) -> np.ndarray:
        seen[name].append(values)
        mean, variance = values.mean(0), ((values - values.mean(0)) ** 2).mean(0)
        if not training:
            row = min(step, last)
            mean, variance = state[f"{name}.running_mean"][row], state[f"{name}.running_var"][row]
        shift = state.get(f"{name}.bias", 0.0)
        return (values - mean) / np.sqrt(variance + EPS) * state[f"{name}.weight"] + shift

    hidden = np.zeros((len(x), size))
    cell = np.zeros((len(x), size))
    states = []
    for t in range(x.shape[1]):
        sums = np.empty((len(x), 4 * size))
        from_hidden = np.empty_like(sums)
        for row in range(4 * size):
            for clip in range(len(x)):
                sums[clip, row] = sum(state["weight_input"][row, d] * x[clip, t, d] for d in range(x.shape[2]))
                from_hidden[clip, row] = sum(state["weight_hidden"][row, h] * hidden[clip, h] for h in range(size))
        gates = normalized("norm_input", sums, t) + normalized("norm_hidden", from_hidden, t) + state["bias"]
        forget_gate, input_gate, output_gate, candidate = (gates[:, n * size : (n + 1) * size] for n in range(4))
        cell = sigmoid(forget_gate) * cell + sigmoid(input_gate) * np.tanh(candidate)
        hidden = sigmoid(output_gate) * np.tanh(normalized("norm_cell", cell, t))
        states.append(hidden)
    return np.stack(states, 1), seen


def random_lstm(num_steps: int) -> BatchNormLSTM:
    """A float64 LSTM with random statistics and scales."""
    lstm = BatchNormLSTM(3, 5, num_steps).double()
    for name, tensor in lstm.state_dict().items():
        if "norm" in name or name == "bias":
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    return lstm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_frames", [1, 4, 7])
def test_recurrence_equals_formulas(training: bool, num_frames: int) -> None:
    """Four steps have statistics; with seven, the last three use those of the fourth."""
    lstm = random_lstm(num_steps=4).train(training)
    x = torch.randn(6, num_frames, 3, dtype=torch.float64)
    expected, _ = slow_lstm(lstm, x.numpy(), training)
    np.testing.assert_allclose(lstm(x).detach().numpy(), expected, rtol=0, atol=1e-10)


def test_each_step_has_separate_statistics() -> None:
    lstm = random_lstm(num_steps=4)
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    before = {name: tensor.clone() for name, tensor in lstm.state_dict().items()}
    _, seen = slow_lstm(lstm, x.numpy(), training=True)
    for module in lstm.children():
        module.momentum = 0.25  # type: ignore[assignment]
    lstm(x)
    for name, values in seen.items():
        for kind, of_batch in (("mean", lambda v: v.mean(0)), ("var", lambda v: v.var(0, ddof=1))):
            found = lstm.state_dict()[f"{name}.running_{kind}"].numpy()
            old = before[f"{name}.running_{kind}"].numpy()
            for step in range(3):
                np.testing.assert_allclose(found[step], 0.75 * old[step] + 0.25 * of_batch(values[step]), atol=1e-10)
            np.testing.assert_array_equal(found[3], old[3])  # a step that this clip did not have


def test_initial_scales_and_forget_bias() -> None:
    lstm = BatchNormLSTM(6, 4, 2)
    for norm in lstm.children():
        assert norm.get_parameter("weight").tolist() == pytest.approx([0.1] * norm.get_parameter("weight").numel())
    assert lstm.bias.tolist() == [1.0] * 4 + [0.0] * 12
    for gate in (*lstm.weight_input.chunk(4), *lstm.weight_hidden.chunk(4)):
        assert torch.allclose(gate @ gate.T, torch.eye(4), atol=1e-5)


@pytest.fixture(scope="module")
def model() -> ConvNetLSTM:
    torch.manual_seed(0)
    model = settled(build_model("convnet_lstm_tiny", num_classes=5))
    assert isinstance(model, ConvNetLSTM)
    return model


def test_trunk_equals_2d_network_per_frame(model: ConvNetLSTM) -> None:
    """The trunk on a clip equals the 2D network on each frame."""
    images = InceptionV1(2, 3, width=1 / 4).eval()
    images.load_state_dict(model.trunk.state_dict())
    x = torch.randn(2, 3, 3, 64, 64)
    outputs = model.endpoints(x, names=["Mixed_4b", "AvgPool"])
    for t in range(3):
        stages = dict(images.stages(x[:, :, t]))
        assert torch.allclose(outputs["Mixed_4b"][:, :, t], stages["Mixed_4b"], atol=1e-5)
        assert torch.allclose(outputs["AvgPool"][:, t], stages["Mixed_5c"].mean((2, 3)), atol=1e-5)


def test_prediction_is_last_step_and_depends_on_frame_order(model: ConvNetLSTM) -> None:
    x = torch.randn(2, 3, 6, 64, 64)
    logits = model(x)
    assert torch.equal(logits, model.head(model.features(x)[:, -1]))
    assert not torch.allclose(logits, model(x.flip(2)), atol=1e-4)
    before = model.features(x[:, :, :4])
    assert torch.allclose(before, model.features(x)[:, :4], atol=1e-5), "a step depends on what comes after it"


def test_training_returns_logits_of_all_steps() -> None:
    fresh = build_model("convnet_lstm_tiny", num_classes=5, dropout=0.0)
    x = torch.randn(3, 3, 6, 64, 64)
    outputs = fresh(x)
    assert outputs.shape == (3, 6, 5)
    labels = torch.tensor([0, 3, 2])
    by_hand = sum(-outputs[i, t].log_softmax(0)[labels[i]] for i in range(3) for t in range(6)) / 18
    assert torch.allclose(fresh.loss(outputs, labels), by_hand)


def test_additional_steps_use_last_statistics(model: ConvNetLSTM) -> None:
    lstm = random_lstm(num_steps=2).eval()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    whole = lstm(x)
    for norm in lstm.children():  # the same statistics for every step from the second on
        for buffer in ("running_mean", "running_var"):
            rows = norm.get_buffer(buffer)
            setattr(norm, buffer, torch.cat([rows, rows[1:].expand(3, -1)]))
    assert torch.equal(lstm(x), whole)
    assert model.lstm.norm_cell.running_mean.shape == (8, 128)
