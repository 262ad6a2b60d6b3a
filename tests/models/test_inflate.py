"""Inflation compared with stored outputs of torchvision's GoogLeNet and on videos of one repeated image."""

import io
import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import quovadis
from quovadis.errors import WeightsError
from quovadis.models import layers
from quovadis.models.inception import InceptionV1
from quovadis.models.inflation import inflate
from quovadis.models.layers import ConvUnit, same_padding
from quovadis.models.zoo import build_model
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, to_port
from quovadis.weights.from_torchvision import googlenet_names, inflate_googlenet

GOLDEN = Path(__file__).parent.parent / "golden" / "inflation"


@pytest.fixture(scope="module")
def googlenet() -> dict[str, Tensor]:
    """Synthetic weights with torchvision's names, scales of either sign and invalid auxiliary classifiers."""
    packed = (GOLDEN / "googlenet_torchvision.pt.xz").read_bytes()
    return torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "expected.npz"))


@pytest.fixture(scope="module")
def images() -> Tensor:
    """float32 (3, 3, 224, 224) in [-1, 1]."""
    images = np.load(GOLDEN / "images_3x224x224x3.npz")["images"]
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def video_net(googlenet: dict[str, Tensor]) -> nn.Module:
    model = build_model("i3d", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    return model.eval()


class ImageModel(nn.Module):
    """Inception-v1 in 2D with the classifier of GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = InceptionV1(2, 3)
        self.head = nn.Linear(1024, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).mean((2, 3)))


@pytest.fixture(scope="module")
def image_model(googlenet: dict[str, Tensor]) -> ImageModel:
    net = ImageModel()
    state = inflate(googlenet, net, names=googlenet_names(dims=2), ignored_keys=("aux1", "aux2"))
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize(("size", "key"), [(223, "tv2d_223"), (224, "same2d_224")])
def test_image_model_equals_torchvision(
    image_model: ImageModel, images: Tensor, expected: dict[str, np.ndarray], size: int, key: str
) -> None:
    """At 223 pixels, torchvision's padding equals SAME padding; at 224, the reference uses SAME padding."""
    with torch.inference_mode():
        logits = image_model(images[..., :size, :size])
    assert np.abs(logits.numpy() - expected[f"{key}/logits_f64"]).max() < 1e-3


@pytest.mark.parametrize("num_frames", [10, pytest.param(24, marks=pytest.mark.slow)])
def test_inflated_model_gives_reference_logits(
    video_net: nn.Module, images: Tensor, expected: dict[str, np.ndarray], num_frames: int
) -> None:
    video = images.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
    with torch.inference_mode():
        logits = torch.cat([video_net(v[None]) for v in video])
    want = expected[f"inflated_zero_T{num_frames}/logits_per_time_f32"].mean(2)
    assert np.abs(logits.numpy() - want).max() < 1e-3


def test_inflated_tensors_equal_reference(video_net: nn.Module) -> None:
    """The reference has folded scales, was computed in float64 and uses the names of a port."""
    reference = json.loads((GOLDEN / "checksums_folded.json").read_text())
    ours = {name: t for name, t in to_port(video_net.state_dict(), PYTORCH_I3D).items() if "num_batches" not in name}
    assert ours.keys() == reference.keys()
    for name, want in reference.items():
        values = ours[name].double().flatten()
        assert list(ours[name].shape) == want["shape"], name
        assert float(values.sum()) == pytest.approx(want["sum"], rel=1e-6, abs=1e-4), name
        assert float(values.norm()) == pytest.approx(want["l2"], rel=1e-6), name
        assert values[:8].tolist() == pytest.approx(want["first8"], rel=1e-6), name


def test_rgb_two_stream_equals_image_model_per_frame(
    googlenet: dict[str, Tensor], images: Tensor, expected: dict[str, np.ndarray]
) -> None:
    """The logits of several frames are averaged."""
    model = build_model("two_stream", stream="rgb", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    with torch.inference_mode():
        logits = model.eval()(images.transpose(0, 1)[None])
    assert np.abs(logits.numpy() - expected["same2d_224/logits_f64"].mean(0)).max() < 1e-3


def test_flow_two_stream_on_constant_flow_equals_image_model_on_gray(
    googlenet: dict[str, Tensor], image_model: ImageModel, images: Tensor
) -> None:
    """Twenty equal channels give the same logits as three."""
    model = build_model("two_stream", stream="flow", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    gray = images[:1, :1]
    with torch.inference_mode():
        found = model.eval()(gray[:, :, None].expand(-1, 2, 10, -1, -1))
        want = image_model(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, want, atol=1e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trunks"),
    [
        ("convnet_lstm", {"trunk": 3}),
        ("two_stream", {"trunks.rgb": 3, "trunks.flow": 20}),
        ("fused_two_stream", {"trunks.rgb": 3, "trunks.flow": 20}),
    ],
)
def test_all_trunks_get_image_weights_and_other_weights_stay(
    googlenet: dict[str, Tensor], image_model: ImageModel, name: str, trunks: dict[str, int]
) -> None:
    model = build_model(name, num_classes=7)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    after = inflate_googlenet(googlenet, model)
    assert after.keys() == before.keys()
    for trunk, channels in trunks.items():
        for key, tensor in image_model.trunk.state_dict().items():
            if key == "Conv2d_1a_7x7.conv.weight":
                assert after[f"{trunk}.{key}"].shape == (64, channels, 7, 7)
                torch.testing.assert_close(after[f"{trunk}.{key}"].sum(1), tensor.sum(1), atol=1e-5, rtol=1e-4)
            else:
                assert torch.equal(after[f"{trunk}.{key}"], tensor), key
    rest = [key for key in before if not key.startswith(tuple(trunks))]
    assert {key.split(".")[0] for key in rest} >= {"head"}
    assert all(torch.equal(after[key], before[key]) for key in rest)


def test_create_model_inflates_googlenet_into_supported_models(googlenet: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "googlenet.pth"
    torch.save(googlenet, path)
    model = quovadis.create_model("convnet_lstm", num_classes=7, weights=path)
    kernel = "inception5b.branch3.1.conv.weight"
    gamma = googlenet["inception5b.branch3.1.bn.weight"].view(-1, 1, 1, 1)
    found = model.state_dict()["trunk.Mixed_5c.Branch_2.Conv2d_0b_3x3.conv.weight"]
    torch.testing.assert_close(found, googlenet[kernel] * gamma)
    assert model.training
    assert model.source == {"format": "inflated 2D network", "file": "googlenet.pth"}
    with pytest.raises(WeightsError, match=r"GoogLeNet; .* not to conv3d: train that from random weights"):
        quovadis.create_model("conv3d", weights=path)
    with pytest.raises(WeightsError, match=r"GoogLeNet; .* not to i3d_r50"):
        quovadis.create_model("i3d_r50", weights=path)
    with pytest.raises(WeightsError, match=r"Conv3D has no Inception-v1 trunk .*: train it from random weights"):
        inflate_googlenet(googlenet, build_model("conv3d_tiny"))


@pytest.fixture
def time_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pad time with the first and last frame instead of zeros."""

    def conv_same(x: Tensor, conv: nn.Conv3d) -> Tensor:
        pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)]
        x = F.pad(x, [0, 0, 0, 0, *pads[0]], mode="replicate")
        return F.conv3d(F.pad(x, [*pads[2], *pads[1]]), conv.weight, conv.bias, conv.stride)

    monkeypatch.setattr(layers, "conv_same", conv_same)


@pytest.mark.parametrize("num_frames", [9, 16])
def test_repeated_image_gives_image_features_at_all_times(
    video_net: nn.Module, image_model: ImageModel, images: Tensor, num_frames: int, request: pytest.FixtureRequest
) -> None:
    """In float64, with time padded by repetition (paper, section 2.4)."""
    image = images[:1, :, :96, 64:160].double()
    with torch.inference_mode():
        want = image_model.double().trunk(image)
        request.getfixturevalue("time_is_repeated")
        found = video_net.double().trunk(image.unsqueeze(2).expand(-1, -1, num_frames, -1, -1))
    video_net.float(), image_model.float()
    assert (found - want.unsqueeze(2)).abs().max() < 1e-5 * want.abs().max()


def test_zero_padding_changes_features_of_short_repeated_image(
    video_net: nn.Module, image_model: ImageModel, images: Tensor
) -> None:
    image = images[:1, :, :96, 64:160]
    with torch.inference_mode():
        want = image_model.trunk(image)
        found = video_net.trunk(image.unsqueeze(2).expand(-1, -1, 16, -1, -1))
    assert (found - want.unsqueeze(2)).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.shared
def test_zero_padding_does_not_affect_middle_of_long_video(video_net: nn.Module, images: Tensor, shared: Path) -> None:
    reference = np.load(shared / "oracles" / "inflation" / "expected.npz")
    image = images[:1].unsqueeze(2)
    with torch.inference_mode():
        per_time = video_net.head(video_net._pool(video_net.trunk(image.expand(-1, -1, 128, -1, -1))))[..., 0, 0]
    want = reference["inflated_zero_T128_img0/logits_per_time_f32"]
    assert np.abs(per_time.numpy() - want).max() < 2e-3
    same = reference["same2d_224/logits_f64"][:1, :, None]
    assert np.abs(per_time[..., 6:9].numpy() - same).max() < 2e-3


# Inflation of a single layer.


def unit_2d(channels: int = 3) -> dict[str, Tensor]:
    return {
        "conv.weight": torch.randn(5, channels, 3, 3),
        "batch_norm.bias": torch.randn(5),
        "batch_norm.running_mean": torch.randn(5),
        "batch_norm.running_var": torch.rand(5) + 0.1,
    }


@pytest.mark.parametrize("channels", [2, 20])
@pytest.mark.parametrize("dims", [2, 3])
def test_other_channels_on_constant_input_equal_rgb_on_gray(dims: int, channels: int) -> None:
    state = unit_2d()
    unit = ConvUnit(dims, channels, 5, 3).eval()
    unit.load_state_dict(inflate(state, unit))
    reference = ConvUnit(2, 3, 5, 3).eval()
    reference.load_state_dict(state)
    gray = torch.randn(1, 1, 9, 9)
    with torch.inference_mode():
        want = reference(gray.expand(1, 3, 9, 9))
        x = gray.expand(1, channels, 9, 9)
        found = unit(x) if dims == 2 else unit(x.unsqueeze(2).expand(-1, -1, 5, -1, -1))[:, :, 2]
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_scales_of_either_sign_are_folded_exactly() -> None:
    state = unit_2d()
    gamma = torch.tensor([1.5, -1.0, 0.5, -0.25, 0.0])
    unit = ConvUnit(2, 3, 5, 3).eval()
    unit.load_state_dict(inflate(state | {"batch_norm.weight": gamma}, unit))
    x = torch.randn(2, 3, 9, 9)
    want = F.relu(
        F.batch_norm(
            F.conv2d(x, state["conv.weight"], padding=1),
            state["batch_norm.running_mean"],
            state["batch_norm.running_var"],
            gamma,
            state["batch_norm.bias"],
            eps=1e-3,
        )
    )
    with torch.inference_mode():
        torch.testing.assert_close(unit(x), want, rtol=1e-4, atol=1e-5)


def test_epsilon_difference_is_added_to_variance() -> None:
    state = unit_2d()
    unit = ConvUnit(2, 3, 5, 3)
    found = inflate(state, unit, eps_2d=1e-5)["batch_norm.running_var"]
    torch.testing.assert_close(found + 1e-3, state["batch_norm.running_var"] + 1e-5)


def test_unmapped_missing_and_misshaped_tensors_are_rejected() -> None:
    unit = ConvUnit(3, 3, 5, 3)
    state = unit_2d()
    with pytest.raises(WeightsError, match=r"aux.weight has no counterpart"):
        inflate(state | {"aux.weight": torch.zeros(1)}, unit)
    assert (
        inflate(state | {"aux.weight": torch.zeros(1)}, unit, ignored_keys=("aux",)).keys() == unit.state_dict().keys()
    )
    del state["batch_norm.bias"]
    with pytest.raises(WeightsError, match=r"batch_norm.bias has no source"):
        inflate(state, unit)
    with pytest.raises(WeightsError, match=r"conv.weight: got shape \(5, 4, 3, 3, 3\) .* expected \(5, 3, 3, 3, 3\)"):
        inflate(unit_2d(4), unit)


def test_inflation_modifies_no_arguments(googlenet: dict[str, Tensor]) -> None:
    model = build_model("i3d", num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sums = {name: float(tensor.double().sum()) for name, tensor in googlenet.items()}
    result = inflate_googlenet(googlenet, model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert sums == {name: float(tensor.double().sum()) for name, tensor in googlenet.items()}
    result["head.bias"].add_(1)
    assert model.head.bias.equal(before["head.bias"])


def test_classifier_is_reinitialized_for_other_classes(googlenet: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(googlenet, tmp_path / "googlenet.pth")
    model = quovadis.create_model("i3d", stream="flow", num_classes=7, weights=tmp_path / "googlenet.pth")
    assert model.head.weight.shape == (7, 1024, 1, 1, 1)
    assert model.trunk.Conv3d_1a_7x7.conv.weight.shape == (64, 2, 7, 7, 7)
    assert model.training
    with pytest.raises(WeightsError, match=r"image model.*create_model"):
        quovadis.load_model(tmp_path / "googlenet.pth")
    with pytest.raises(WeightsError, match=r"GoogLeNet; it can be inflated to i3d, .*, not to i3d_tiny: train"):
        quovadis.create_model("i3d_tiny", weights=tmp_path / "googlenet.pth")


def test_image_model_without_classifier_leaves_that_of_the_video_model(googlenet: dict[str, Tensor]) -> None:
    model = build_model("i3d", num_classes=1000)
    trunk = {name: tensor for name, tensor in googlenet.items() if not name.startswith("fc.")}
    state, expected = inflate_googlenet(trunk, model), inflate_googlenet(googlenet, model)
    for name, tensor in model.state_dict().items():
        assert state[name].equal(tensor if name.startswith("head.") else expected[name])


@pytest.mark.parametrize(("num_problems", "end"), [(12, r"unknown11\S* .*add it to ignored_keys"), (14, "and 2 more")])
def test_twelve_problems_are_listed(num_problems: int, end: str) -> None:
    unknown = {f"unknown{i}.weight": torch.zeros(1) for i in range(num_problems)}
    with pytest.raises(WeightsError, match=rf"\n  {end}\Z"):
        inflate(unit_2d() | unknown, ConvUnit(3, 3, 5, 3))
