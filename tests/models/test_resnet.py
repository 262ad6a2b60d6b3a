"""I3D-R50 compared with torchvision in 2D, with PySlowFast's kernels in 3D, and on repeated images."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, TooFewFramesError, WeightsError
from quovadis.models.resnet import I3DResNet50, ResNet50
from quovadis.models.safe_convolution import Conv3d
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.weights.from_torchvision import inflate_resnet50

TORCHVISION_TRANSFORM = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of the channels, from torchvision's documentation of ResNet50_Weights."""


def torchvision_forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """Reference implementation of torchvision's ResNet-50 that uses only its state dict."""

    def norm(x: Tensor, name: str) -> Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-5)

    x = F.max_pool2d(F.relu(norm(F.conv2d(x, state["conv1.weight"], stride=2, padding=3), "bn1")), 3, 2, 1)
    for layer, blocks in ((1, 3), (2, 4), (3, 6), (4, 3)):
        for number in range(blocks):
            name = f"layer{layer}.{number}"
            stride = 2 if number == 0 and layer > 1 else 1
            out = F.relu(norm(F.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1"))
            out = F.relu(norm(F.conv2d(out, state[f"{name}.conv2.weight"], stride=stride, padding=1), f"{name}.bn2"))
            out = norm(F.conv2d(out, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if number == 0:
                x = norm(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = F.relu(out + x)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def torchvision_state(width: float = 1.0, classes: int = 1000) -> dict[str, Tensor]:
    """A state dict with torchvision's names and random batch norm parameters."""
    trunk = ResNet50(2, 3, width=width)
    state = trunk.state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1)
        elif name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5)
    return state | {
        "fc.weight": torch.randn(classes, trunk.out_channels) * trunk.out_channels**-0.5,
        "fc.bias": torch.randn(classes),
    }


@pytest.fixture
def time_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(conv: nn.Conv3d, x: Tensor) -> Tensor:
        time, height, width = conv.padding
        x = F.pad(x, [0, 0, 0, 0, time, time], mode="replicate")
        return F.conv3d(x, conv.weight, conv.bias, conv.stride, (0, height, width))

    monkeypatch.setattr(Conv3d, "forward", forward)


def test_resnet_equals_torchvision() -> None:
    state = torchvision_state()
    assert sum(t.numel() for n, t in state.items() if "running" not in n and "num_batches" not in n) == 25_557_032
    assert len(state) == 320
    assert {"layer3.5.bn3.running_var", "layer1.0.downsample.0.weight", "layer4.2.conv2.weight"} <= state.keys()
    assert state["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)


def test_temporal_kernels_equal_pyslowfast() -> None:
    trunk = I3DResNet50(num_classes=400).trunk
    times = {
        layer: [block.conv1.kernel_size[0] for block in trunk.get_submodule(layer)]
        for layer in ("layer1", "layer2", "layer3", "layer4")
    }
    assert times == {"layer1": [3, 3, 3], "layer2": [3, 1, 3, 1], "layer3": [3, 1, 3, 1, 3, 1], "layer4": [1, 3, 1]}
    assert trunk.conv1.kernel_size == (5, 7, 7)
    assert trunk.conv1.stride == (1, 2, 2)
    others = [m for n, m in trunk.named_modules() if isinstance(m, nn.Conv3d) and not n.endswith("conv1")]
    assert all(conv.kernel_size[0] == conv.stride[0] == 1 for conv in others)


@pytest.mark.parametrize("num_frames", [2, 8])
def test_repeated_image_gives_logits_of_image(num_frames: int, time_is_repeated: None) -> None:
    """Compared with torchvision on normalized images; the gray border makes zero padding equivalent."""
    state = {name: t.double() if t.is_floating_point() else t for name, t in torchvision_state(1 / 4, 50).items()}
    model = I3DResNet50(num_classes=50, width=1 / 4).double().eval()
    model.load_state_dict(inflate_resnet50(state, model))
    image = torch.rand(2, 3, 65, 97, dtype=torch.float64)
    mean, deviation = (torch.tensor(v).double().view(3, 1, 1) for v in TORCHVISION_TRANSFORM)
    # Pad with the mean color, which corresponds to the zero padding of torchvision.
    want = torchvision_forward(state, (image - mean) / deviation)
    stem = model.trunk.conv1
    x = (image * 2 - 1).unsqueeze(2).expand(-1, -1, num_frames, -1, -1)
    ground = (mean * 2 - 1).view(1, 3, 1, 1, 1)
    stem.padding = (2, 0, 0)
    canvas = ground.expand(2, 3, num_frames, 71, 103).clone()
    canvas[..., 3:-3, 3:-3] = x
    with torch.inference_mode():
        found = model(canvas)
    assert (found - want).abs().max() < 1e-5 * want.abs().max()


def test_zero_padding_changes_logits_at_the_ends() -> None:
    state = torchvision_state(1 / 8, 5)
    model = I3DResNet50(num_classes=5, width=1 / 8).eval()
    model.load_state_dict(inflate_resnet50(state, model))
    x = (torch.rand(1, 3, 1, 65, 65) * 2 - 1).expand(-1, -1, 8, -1, -1)
    with torch.inference_mode():
        features = model.features(x)
    assert (features[0, 0] - features[0, 2]).abs().max() > 1e-3


def test_classifier_is_reinitialized_and_flow_has_two_channels() -> None:
    state = torchvision_state(1 / 8, 1000)
    model = I3DResNet50(stream="flow", num_classes=7, width=1 / 8)
    inflated = inflate_resnet50(state, model)
    assert inflated["head.weight"].equal(model.head.weight)
    assert inflated["trunk.conv1.weight"].shape == (8, 2, 5, 7, 7)
    with pytest.raises(WeightsError, match=r"layer9.0.conv1.weight has no counterpart"):
        inflate_resnet50(state | {"layer9.0.conv1.weight": torch.zeros(1)}, model)


def test_old_files_without_counters_are_inflated() -> None:
    state = torchvision_state(1 / 8, 5)
    model = I3DResNet50(num_classes=5, width=1 / 8)
    whole = inflate_resnet50(state, model)
    old = inflate_resnet50({name: t for name, t in state.items() if "num_batches" not in name}, model)
    assert all(tensor.equal(old[name]) for name, tensor in whole.items())


def test_resnet_implements_video_model() -> None:
    model = build_model("i3d_r50", num_classes=6)
    assert isinstance(model, VideoModel)
    assert sum(p.numel() for p in build_model("i3d_r50").parameters()) == 28_043_472
    small = I3DResNet50(num_classes=6, width=1 / 8).eval()
    x = torch.randn(2, 3, 8, 64, 64)
    with torch.inference_mode():
        outputs = small.endpoints(x)
        assert list(outputs) == [
            "conv1", "maxpool", "layer1", "pool_time", "layer2", "layer3", "layer4", "Logits", "Predictions",
        ]  # fmt: skip
        torch.testing.assert_close(outputs["Logits"], small(x))
        features = small.features(x)
        assert features.shape == (2, 4, 256)
        torch.testing.assert_close(small.head(features.mean(1)[..., None, None, None])[..., 0, 0, 0], small(x))
        assert list(small.endpoints(x, names=["layer2"])) == ["layer2"]
        maps = small.class_maps(x)
        assert maps.shape == (2, 6, 4, 2, 2)
        torch.testing.assert_close(small.pool_class_maps(maps), small(x))
    with pytest.raises(TooFewFramesError):
        small(x[:, :, :1])
    with pytest.raises(InvalidInputError):
        small(x[:, :2])
    small.labels = tuple("abcdef")
    small.reset_head(3)
    assert small.labels == ()
    assert small(x).shape == (2, 3)
