"""Inflation against stored outputs of torchvision's GoogLeNet, and against the law of boring videos."""

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
from quovadis.models.inflate import inflate
from quovadis.models.layers import ConvUnit, same_padding
from quovadis.models.zoo import build_model
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, to_port
from quovadis.weights.from_torchvision import googlenet_names, inflate_googlenet

GOLDEN = Path(__file__).parent.parent / "golden" / "inflation"


@pytest.fixture(scope="module")
def googlenet() -> dict[str, Tensor]:
    """Synthetic weights under torchvision's names: scales of either sign, and poison in the auxiliary classifiers."""
    packed = (GOLDEN / "googlenet_torchvision.pt.xz").read_bytes()
    return torch.load(io.BytesIO(lzma.decompress(packed)), weights_only=True)


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN / "expected.npz"))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """float32 (3, 3, 224, 224) in [-1, 1]."""
    images = np.load(GOLDEN / "images_3x224x224x3.npz")["images"]
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def video_net(googlenet: dict[str, Tensor]) -> nn.Module:
    model = build_model("i3d", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    return model.eval()


class PictureNet(nn.Module):
    """Our Inception-v1 in 2D with the classifier of GoogLeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = InceptionV1(2, 3)
        self.head = nn.Linear(1024, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).mean((2, 3)))


@pytest.fixture(scope="module")
def picture_net(googlenet: dict[str, Tensor]) -> PictureNet:
    net = PictureNet()
    state = inflate(googlenet, net, names=googlenet_names(dims=2), ignored_keys=("aux1", "aux2"))
    net.load_state_dict(state)
    return net.eval()


@pytest.mark.parametrize(("size", "key"), [(223, "tv2d_223"), (224, "same2d_224")])
def test_the_picture_network_is_torchvisions(
    picture_net: PictureNet, pictures: Tensor, expected: dict[str, np.ndarray], size: int, key: str
) -> None:
    """At 223 torchvision's padding and SAME agree; at 224 the reference has SAME padding."""
    with torch.inference_mode():
        logits = picture_net(pictures[..., :size, :size])
    assert np.abs(logits.numpy() - expected[f"{key}/logits_f64"]).max() < 1e-3


@pytest.mark.parametrize("num_frames", [10, pytest.param(24, marks=pytest.mark.slow)])
def test_the_inflated_network_gives_the_reference_logits(
    video_net: nn.Module, pictures: Tensor, expected: dict[str, np.ndarray], num_frames: int
) -> None:
    video = pictures.unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
    with torch.inference_mode():
        logits = torch.cat([video_net(v[None]) for v in video])
    want = expected[f"inflated_zero_T{num_frames}/logits_per_time_f32"].mean(2)
    assert np.abs(logits.numpy() - want).max() < 1e-3


def test_every_inflated_tensor_is_the_reference(video_net: nn.Module) -> None:
    """Scale folded; the reference was made in float64 under the names of a port."""
    reference = json.loads((GOLDEN / "checksums_folded.json").read_text())
    ours = {name: t for name, t in to_port(video_net.state_dict(), PYTORCH_I3D).items() if "num_batches" not in name}
    assert ours.keys() == reference.keys()
    for name, want in reference.items():
        values = ours[name].double().flatten()
        assert list(ours[name].shape) == want["shape"], name
        assert float(values.sum()) == pytest.approx(want["sum"], rel=1e-6, abs=1e-4), name
        assert float(values.norm()) == pytest.approx(want["l2"], rel=1e-6), name
        assert values[:8].tolist() == pytest.approx(want["first8"], rel=1e-6), name


def test_two_stream_on_rgb_alone_is_the_picture_network_on_a_frame(
    googlenet: dict[str, Tensor], pictures: Tensor, expected: dict[str, np.ndarray]
) -> None:
    """Several frames give the mean of their logits: the reference's are known for each."""
    model = build_model("two_stream", stream="rgb", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    with torch.inference_mode():
        logits = model.eval()(pictures.transpose(0, 1)[None])
    assert np.abs(logits.numpy() - expected["same2d_224/logits_f64"].mean(0)).max() < 1e-3


def test_the_flow_stream_of_two_stream_answers_uniform_flow_as_rgb_answers_gray(
    googlenet: dict[str, Tensor], picture_net: PictureNet, pictures: Tensor
) -> None:
    """Through all layers and the classifier: twenty equal channels against three."""
    model = build_model("two_stream", stream="flow", num_classes=1000)
    model.load_state_dict(inflate_googlenet(googlenet, model))
    gray = pictures[:1, :1]
    with torch.inference_mode():
        found = model.eval()(gray[:, :, None].expand(-1, 2, 10, -1, -1))
        want = picture_net(gray.expand(-1, 3, -1, -1))
    torch.testing.assert_close(found, want, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "trunks"),
    [
        ("convnet_lstm", {"trunk": 3}),
        ("two_stream", {"trunks.rgb": 3, "trunks.flow": 20}),
        ("fused_two_stream", {"trunks.rgb": 3, "trunks.flow": 20}),
    ],
)
def test_every_trunk_of_a_network_starts_from_the_picture_network_and_the_rest_stays(
    googlenet: dict[str, Tensor], picture_net: PictureNet, name: str, trunks: dict[str, int]
) -> None:
    model = build_model(name, num_classes=7)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    after = inflate_googlenet(googlenet, model)
    assert after.keys() == before.keys()
    for trunk, channels in trunks.items():
        for key, tensor in picture_net.trunk.state_dict().items():
            if key == "Conv2d_1a_7x7.conv.weight":
                assert after[f"{trunk}.{key}"].shape == (64, channels, 7, 7)
                torch.testing.assert_close(after[f"{trunk}.{key}"].sum(1), tensor.sum(1), atol=1e-5, rtol=1e-4)
            else:
                assert torch.equal(after[f"{trunk}.{key}"], tensor), key
    rest = [key for key in before if not key.startswith(tuple(trunks))]
    assert {key.split(".")[0] for key in rest} >= {"head"}
    assert all(torch.equal(after[key], before[key]) for key in rest)


def test_create_model_starts_every_network_that_can_from_the_same_file(
    googlenet: dict[str, Tensor], tmp_path: Path
) -> None:
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
    """Pad time with its first and last frame, where the official code pads zeros."""

    def conv_same(x: Tensor, conv: nn.Conv3d) -> Tensor:
        pads = [same_padding(n, k, s) for n, k, s in zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)]
        x = F.pad(x, [0, 0, 0, 0, *pads[0]], mode="replicate")
        return F.conv3d(F.pad(x, [*pads[2], *pads[1]]), conv.weight, conv.bias, conv.stride)

    monkeypatch.setattr(layers, "conv_same", conv_same)


@pytest.mark.parametrize("num_frames", [9, 16])
def test_a_boring_video_gives_the_picture_at_every_time(
    video_net: nn.Module, picture_net: PictureNet, pictures: Tensor, num_frames: int, request: pytest.FixtureRequest
) -> None:
    """The paper's argument, in float64, with time padded by repetition."""
    picture = pictures[:1, :, :96, 64:160].double()
    with torch.inference_mode():
        want = picture_net.double().trunk(picture)
        request.getfixturevalue("time_is_repeated")
        found = video_net.double().trunk(picture.unsqueeze(2).expand(-1, -1, num_frames, -1, -1))
    video_net.float(), picture_net.float()
    assert (found - want.unsqueeze(2)).abs().max() < 1e-5 * want.abs().max()


def test_with_zero_padding_a_short_boring_video_is_not_the_picture(
    video_net: nn.Module, picture_net: PictureNet, pictures: Tensor
) -> None:
    picture = pictures[:1, :, :96, 64:160]
    with torch.inference_mode():
        want = picture_net.trunk(picture)
        found = video_net.trunk(picture.unsqueeze(2).expand(-1, -1, 16, -1, -1))
    assert (found - want.unsqueeze(2)).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.shared
def test_inside_a_long_video_zero_padding_does_not_matter(video_net: nn.Module, pictures: Tensor, shared: Path) -> None:
    reference = np.load(shared / "oracles" / "inflation" / "expected.npz")
    picture = pictures[:1].unsqueeze(2)
    with torch.inference_mode():
        per_time = video_net.head(video_net._pool(video_net.trunk(picture.expand(-1, -1, 128, -1, -1))))[..., 0, 0]
    want = reference["inflated_zero_T128_img0/logits_per_time_f32"]
    assert np.abs(per_time.numpy() - want).max() < 2e-3
    same = reference["same2d_224/logits_f64"][:1, :, None]
    assert np.abs(per_time[..., 6:9].numpy() - same).max() < 2e-3


# The rules of inflation, on one layer.


def unit_2d(channels: int = 3) -> dict[str, Tensor]:
    return {
        "conv.weight": torch.randn(5, channels, 3, 3),
        "batch_norm.bias": torch.randn(5),
        "batch_norm.running_mean": torch.randn(5),
        "batch_norm.running_var": torch.rand(5) + 0.1,
    }


@pytest.mark.parametrize("channels", [2, 20])
@pytest.mark.parametrize("dims", [2, 3])
def test_other_channels_answer_a_uniform_input_as_rgb_answers_gray(dims: int, channels: int) -> None:
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


def test_scales_are_folded_exactly_and_negative_ones_too() -> None:
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


def test_another_epsilon_goes_into_the_variance() -> None:
    state = unit_2d()
    unit = ConvUnit(2, 3, 5, 3)
    found = inflate(state, unit, eps_2d=1e-5)["batch_norm.running_var"]
    torch.testing.assert_close(found + 1e-3, state["batch_norm.running_var"] + 1e-5)


def test_nothing_unmapped_and_nothing_invented() -> None:
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


def test_it_is_pure(googlenet: dict[str, Tensor]) -> None:
    model = build_model("i3d", num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sums = {name: float(tensor.double().sum()) for name, tensor in googlenet.items()}
    result = inflate_googlenet(googlenet, model)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert sums == {name: float(tensor.double().sum()) for name, tensor in googlenet.items()}
    result["head.bias"].add_(1)
    assert model.head.bias.equal(before["head.bias"])


def test_the_classifier_stays_behind_when_the_classes_are_others(googlenet: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(googlenet, tmp_path / "googlenet.pth")
    model = quovadis.create_model("i3d", stream="flow", num_classes=7, weights=tmp_path / "googlenet.pth")
    assert model.head.weight.shape == (7, 1024, 1, 1, 1)
    assert model.trunk.Conv3d_1a_7x7.conv.weight.shape == (64, 2, 7, 7, 7)
    assert model.training
    with pytest.raises(WeightsError, match=r"image model.*create_model"):
        quovadis.load_model(tmp_path / "googlenet.pth")
    with pytest.raises(WeightsError, match=r"GoogLeNet; it can be inflated to i3d, .*, not to i3d_tiny: train"):
        quovadis.create_model("i3d_tiny", weights=tmp_path / "googlenet.pth")
