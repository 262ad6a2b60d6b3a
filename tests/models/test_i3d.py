"""I3D: number of parameters, endpoints and head."""

import pytest
import torch

from quovadis.errors import InvalidInputError, QuovadisError
from quovadis.models.zoo import build_model

ENDPOINTS = {  # channels of the official graph, and how often time and space were halved
    "Conv3d_1a_7x7": (64, 1, 1),
    "MaxPool3d_2a_3x3": (64, 1, 2),
    "Conv3d_2b_1x1": (64, 1, 2),
    "Conv3d_2c_3x3": (192, 1, 2),
    "MaxPool3d_3a_3x3": (192, 1, 3),
    "Mixed_3b": (256, 1, 3),
    "Mixed_3c": (480, 1, 3),
    "MaxPool3d_4a_3x3": (480, 2, 4),
    "Mixed_4b": (512, 2, 4),
    "Mixed_4c": (512, 2, 4),
    "Mixed_4d": (512, 2, 4),
    "Mixed_4e": (528, 2, 4),
    "Mixed_4f": (832, 2, 4),
    "MaxPool3d_5a_2x2": (832, 3, 5),
    "Mixed_5b": (832, 3, 5),
    "Mixed_5c": (1024, 3, 5),
}


@pytest.mark.parametrize(
    ("num_classes", "rgb", "flow"),
    [
        (51, 12_332_259, 12_310_307),
        (101, 12_383_509, 12_361_557),
        (157, 12_440_909, 12_418_957),
        (400, 12_689_984, 12_668_032),
        (600, 12_894_984, 12_873_032),
        (700, 12_997_484, 12_975_532),
    ],
)
def test_number_of_parameters_equals_official_checkpoints(num_classes: int, rgb: int, flow: int) -> None:
    for stream, expected in (("rgb", rgb), ("flow", flow)):
        with torch.device("meta"):
            model = build_model("i3d", stream=stream, num_classes=num_classes)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected
        assert sum(b.numel() for b in model.buffers()) == 14_560


def test_endpoints_have_official_names_and_shapes() -> None:
    """Shapes for an odd input size on the meta device: each stride rounds up."""

    def halved(size: int, times: int) -> int:
        return size if times == 0 else halved(-(-size // 2), times - 1)

    with torch.device("meta"):
        model = build_model("i3d", stream="flow", num_classes=7).eval()
        outputs = model.endpoints(torch.empty(2, 2, 19, 225, 197))
    assert list(outputs) == [*ENDPOINTS, "Logits", "Predictions"]
    for name, (channels, in_time, in_space) in ENDPOINTS.items():
        expected = (2, channels, halved(19, in_time), halved(225, in_space), halved(197, in_space))
        assert tuple(outputs[name].shape) == expected, name
    assert outputs["Logits"].shape == outputs["Predictions"].shape == (2, 7)


@pytest.mark.parametrize(("num_frames", "steps"), [(9, 1), (16, 1), (17, 2), (64, 7), (79, 9), (250, 31)])
def test_number_of_feature_steps(num_frames: int, steps: int) -> None:
    with torch.device("meta"):
        model = build_model("i3d")
        assert model.features(torch.empty(1, 3, num_frames, 224, 224)).shape == (1, steps, 1024)


@pytest.mark.parametrize(("height", "width", "fits"), [(193, 193, True), (192, 224, False), (224, 192, False)])
def test_minimum_size_is_193_pixels(height: int, width: int, fits: bool) -> None:
    with torch.device("meta"):
        model = build_model("i3d")
        x = torch.empty(1, 3, 9, height, width)
        if fits:
            assert model(x).shape == (1, 400)
        else:
            with pytest.raises(InvalidInputError, match=r"too small for i3d.*needs 7x7.*at least 193 pixels"):
                model(x)


def test_small_input_has_endpoints_before_last_pooling() -> None:
    with torch.device("meta"):
        model = build_model("i3d")
        x = torch.empty(1, 3, 9, 64, 64)
        assert list(model.endpoints(x)) == list(ENDPOINTS)
        with pytest.raises(InvalidInputError, match="too small"):
            model.endpoints(x, names=["Logits"])


def test_logits_are_mean_over_time_of_classified_features() -> None:
    model = build_model("i3d_tiny", num_classes=5).eval()
    x = torch.randn(2, 3, 33, 64, 64)
    features = model.features(x)
    head = model.get_submodule("head")
    by_hand = features @ head.weight.flatten(1).T + head.bias  # type: ignore[operator, union-attr]
    assert features.shape[1] == 4
    assert torch.allclose(model(x), by_hand.mean(1), atol=1e-5)


def test_features_average_two_steps_and_space() -> None:
    model = build_model("i3d_tiny", num_classes=5).eval()
    x = torch.randn(1, 3, 33, 64, 64)
    last = model.endpoints(x, names=["Mixed_5c"])["Mixed_5c"]
    cells = last.mean((3, 4))
    assert torch.allclose(model.features(x), ((cells[:, :, 1:] + cells[:, :, :-1]) / 2).transpose(1, 2), atol=1e-6)


def test_endpoints_agree_with_forward() -> None:
    model = build_model("i3d_tiny", num_classes=5).eval()
    x = torch.randn(1, 3, 16, 64, 64)
    outputs = model.endpoints(x)
    assert torch.equal(outputs["Logits"], model(x))
    assert torch.allclose(outputs["Predictions"].sum(1), torch.ones(1))
    assert torch.equal(outputs["Predictions"], model(x).softmax(1))


def test_endpoints_are_not_overwritten_in_place() -> None:
    model = build_model("i3d_tiny", num_classes=5).eval()
    x = torch.randn(1, 3, 16, 64, 64)
    outputs = model.endpoints(x)
    for name in ENDPOINTS:
        assert torch.equal(outputs[name], model.endpoints(x, names=[name])[name]), name


def test_dropout_is_active_in_training_only() -> None:
    x = torch.randn(1, 3, 16, 64, 64)
    model = build_model("i3d_tiny", num_classes=5, dropout=0.5)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.get_submodule("dropout").train()
    assert not torch.equal(model(x), model(x))
    without = build_model("i3d_tiny", num_classes=5, dropout=0.0).eval()
    without.get_submodule("dropout").train()
    assert torch.equal(without(x), without(x))


@pytest.mark.parametrize("name", ["i3d", "i3d_tiny"])
def test_tiny_variant_has_same_modules(name: str) -> None:
    with torch.device("meta"):
        assert build_model(name).state_dict().keys() == build_model("i3d").state_dict().keys()


def test_errors_are_quovadis_errors() -> None:
    with torch.device("meta"), pytest.raises(QuovadisError):
        build_model("i3d")(torch.empty(1, 3, 9, 9, 9))
