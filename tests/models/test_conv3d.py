"""3D-ConvNet: number of parameters, layers and pooling."""

from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F

from quovadis.errors import InvalidInputError
from quovadis.models.conv3d import Conv3D, FullyConnectedUnit
from quovadis.models.zoo import build_model

# Channels, time and side of every endpoint, for 16 frames of 112 x 112.
ENDPOINTS = {
    "conv1a": (64, 16, 112),
    "pool1": (64, 8, 56),
    "conv2a": (128, 8, 56),
    "pool2": (128, 4, 28),
    "conv3a": (256, 4, 28),
    "conv3b": (256, 4, 28),
    "pool3": (256, 2, 14),
    "conv4a": (512, 2, 14),
    "conv4b": (512, 2, 14),
    "pool4": (512, 1, 7),
    "conv5a": (512, 1, 7),
    "conv5b": (512, 1, 7),
    "pool5": (512, 1, 4),
    "fc6": (4096, 1, 1),
    "fc7": (4096, 1, 1),
}


def test_number_of_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        model = build_model("conv3d", num_classes=400)
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(27 * a * b for a, b in pairwise(channels))
    fully_connected = 512 * 4 * 4 * 4096 + 4096 * 4096 + 4096 * 400
    shifts = sum(channels[1:]) + 2 * 4096 + 400
    total = convolutions + fully_connected + shifts
    assert sum(p.numel() for p in model.parameters()) == total == 79_634_576


def test_pooling_that_rounds_down_gives_65_million_parameters() -> None:
    with torch.device("meta"):
        model = build_model("conv3d")
    down = 112
    for _ in range(5):
        down //= 2
    grid = model.get_submodule("fc6.conv").get_parameter("weight").numel()
    assert grid == 512 * 4 * 4 * 4096
    assert sum(p.numel() for p in model.parameters()) - grid + 512 * down * down * 4096 == 64_954_512


def test_shapes_at_full_size() -> None:
    with torch.device("meta"):
        outputs = build_model("conv3d").eval().endpoints(torch.empty(2, 3, 16, 112, 112))
    assert list(outputs) == [*ENDPOINTS, "Logits", "Predictions"]
    for name, (channels, time, side) in ENDPOINTS.items():
        assert tuple(outputs[name].shape) == (2, channels, time, side, side), name


@pytest.mark.parametrize(("num_frames", "steps"), [(1, 1), (16, 1), (32, 1), (33, 2), (240, 8)])
def test_time_is_halved_five_times_and_rounds_up(num_frames: int, steps: int) -> None:
    with torch.device("meta"):
        assert build_model("conv3d").eval().features(torch.empty(1, 3, num_frames, 112, 112)).shape == (1, steps, 4096)


def test_pooling_computes_maximum_of_each_window() -> None:
    """Window by window at odd sizes, and where there is one frame left."""
    model = build_model("conv3d_tiny")
    for name in ("pool1", "pool5"):
        pool = model.get_submodule(f"trunk.{name}")
        for time, height, width in product((1, 2, 3), (1, 7), (4, 5)):
            x = -torch.rand(1, 2, time, height, width) - 1
            found = pool(x)
            assert found.shape[2:] == (-(-time // 2), -(-height // 2), -(-width // 2))
            for t, i, j in product(*map(range, found.shape[2:])):
                cells = x[:, :, 2 * t : 2 * t + 2, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                assert torch.equal(found[:, :, t, i, j], cells.amax((2, 3, 4)))


def test_fully_connected_unit_equals_linear_layer() -> None:
    unit = FullyConnectedUnit(6, 5, grid=3).eval()
    x = torch.randn(4, 6, 1, 3, 3)
    linear = F.linear(x.flatten(1), unit.conv.weight.flatten(1))
    by_hand = F.relu(linear / (1 + 1e-3) ** 0.5)
    assert torch.allclose(unit(x).flatten(1), by_hand, atol=1e-6)


def test_fully_connected_layers_are_initialized_like_convolutions() -> None:
    """Truncated normal distribution with standard deviation 1/sqrt(fan in)."""
    weight = FullyConnectedUnit(32, 512, grid=4).conv.weight.detach()
    deviation = (32 * 16) ** -0.5
    assert float(weight.abs().max()) <= 2 * deviation
    assert float(weight.std()) == pytest.approx(0.88 * deviation, rel=0.02)  # what is left of it within the cut


def test_dropout_follows_both_fully_connected_layers_in_training_only() -> None:
    model = build_model("conv3d_tiny", num_classes=3).eval()
    assert isinstance(model, Conv3D)
    x = torch.randn(2, 3, 16, 56, 56)
    assert torch.equal(model(x), model(x))
    model.dropout.train()
    outputs = model.endpoints(x)
    assert float((outputs["fc7"] == 0).float().mean()) < 0.9
    assert not torch.equal(outputs["fc7"], model.endpoints(x, names=["fc7"])["fc7"])
    assert torch.equal(outputs["fc6"], model.endpoints(x, names=["fc6"])["fc6"])


def test_minimum_size_is_97_pixels() -> None:
    with torch.device("meta"):
        model = build_model("conv3d")
        assert model(torch.empty(2, 3, 16, 97, 97)).shape == (2, 400)
        with pytest.raises(InvalidInputError, match=r"too small for conv3d.*needs 4x4.*at least 97 pixels"):
            model(torch.empty(2, 3, 16, 96, 112))
