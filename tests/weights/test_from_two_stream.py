"""Tests of inflating a two_stream network that processes single RGB frames."""

from pathlib import Path

import pytest
import torch

from quovadis.errors import WeightsError
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import create_model, requires_inflation
from tests.models.settled import settled


@pytest.fixture(scope="module")
def frames_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = settled(build_model("two_stream_tiny", stream="rgb", num_classes=5))
    info = WeightsInfo("two_stream_tiny", {"stream": "rgb", "num_classes": 5}, tuple("abcde"), {"step": 7})
    save_weights(folder / "best.safetensors", model.state_dict(), info)
    return folder


def test_inflated_i3d_matches_the_2d_network_on_a_still_video(frames_run: Path) -> None:
    """Far from the ends of a long clip, endpoints do not depend on padding and are equal."""
    frames = create_model("two_stream_tiny", stream="rgb", num_classes=5, weights=frames_run).double().eval()
    video = create_model("i3d_tiny", stream="rgb", num_classes=9, weights=frames_run).double().eval()
    picture = torch.rand(1, 3, 1, 64, 64, dtype=torch.float64) * 2 - 1
    still = picture.repeat(1, 1, 112, 1, 1)
    ours = video.endpoints(still, names=["Mixed_5c"])["Mixed_5c"]
    theirs = frames.endpoints(picture, names=["rgb/Mixed_5c"])["rgb/Mixed_5c"]
    middle = ours[:, :, ours.shape[2] // 2]
    assert (middle - theirs[:, :, 0]).abs().max() < 2e-6 * theirs.abs().max()  # inflated weights are float32
    assert theirs.abs().max() > 1e-3
    assert video.source["step"] == 7


@pytest.mark.parametrize(
    ("name", "stream", "trunks"),
    [
        ("i3d_tiny", "flow", ["trunk"]),
        ("convnet_lstm_tiny", "rgb", ["trunk"]),
        ("two_stream_tiny", "rgb+flow", ["trunks.rgb", "trunks.flow"]),
        ("fused_two_stream_tiny", "rgb+flow", ["trunks.rgb", "trunks.flow"]),
    ],
)
def test_every_trunk_is_inflated(frames_run: Path, name: str, stream: str, trunks: list[str]) -> None:
    given = create_model("two_stream_tiny", stream="rgb", num_classes=5, weights=frames_run).state_dict()
    model = create_model(name, stream=stream, num_classes=4, weights=frames_run)
    state = model.state_dict()
    for trunk in trunks:
        dims = "3d" if f"{trunk}.Conv3d_1a_7x7.conv.weight" in state else "2d"
        unit = "Mixed_4c.Branch_1.Conv{}_0b_3x3.conv.weight"
        ours, theirs = state[f"{trunk}.{unit.format(dims)}"], given[f"trunks.rgb.{unit.format('2d')}"]
        torch.testing.assert_close(ours.sum(2) if ours.ndim == 5 else ours, theirs)
        first = state[f"{trunk}.Conv{dims}_1a_7x7.conv.weight"].flatten(2).sum((1, 2))
        torch.testing.assert_close(first, given["trunks.rgb.Conv2d_1a_7x7.conv.weight"].flatten(1).sum(1))
    assert model.num_classes == 4
    assert requires_inflation(frames_run, name, stream)


def test_the_same_model_is_loaded_with_its_classifier(frames_run: Path) -> None:
    assert not requires_inflation(frames_run, "two_stream_tiny", "rgb")
    assert create_model("two_stream_tiny", stream="rgb", num_classes=5, weights=frames_run).labels == tuple("abcde")


def test_models_without_inception_or_of_another_width_are_refused(frames_run: Path) -> None:
    with pytest.raises(WeightsError, match=r"Conv3D has no Inception-v1.*train it from random weights"):
        create_model("conv3d_tiny", weights=frames_run)
    with pytest.raises(WeightsError, match="cannot inflate into InceptionV1"):
        create_model("i3d", weights=frames_run)
