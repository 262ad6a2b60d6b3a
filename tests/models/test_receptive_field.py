"""Receptive fields against the networks: which frames change a feature."""

from dataclasses import replace

import pytest
import torch

from quovadis.models.i3d import I3D, i3d_tiny_spec
from quovadis.models.optimization import optimize
from quovadis.models.receptive_field import ReceptiveField, TemporalLayer
from quovadis.models.resnet import I3DResNet50
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model, list_models


@pytest.fixture(scope="module")
def models() -> dict[str, VideoModel]:
    """Narrow networks with the full depth in float64."""
    torch.manual_seed(0)
    models: dict[str, VideoModel] = {
        "i3d": I3D(num_classes=2, width=1 / 16, spec=replace(i3d_tiny_spec("rgb"), size_px=32)),
        "i3d_r50": I3DResNet50(num_classes=2, width=1 / 16),
    }
    return {name: model.double().eval() for name, model in models.items()}


def field_of(model: VideoModel) -> ReceptiveField:
    assert model.receptive_field is not None
    return model.receptive_field


@pytest.mark.parametrize("name", list_models())
def test_only_i3d_models_have_a_receptive_field(name: str) -> None:
    with torch.device("meta"):
        field = build_model(name).receptive_field
    assert (field is not None) == name.startswith("i3d")


def test_published_constants_of_i3d(models: dict[str, VideoModel]) -> None:
    field = field_of(models["i3d"])
    assert (field.stride, field.size, field.frames_per_feature) == (8, 107, 16)
    assert (field_of(models["i3d_r50"]).stride, field_of(models["i3d_r50"]).frames_per_feature) == (2, 2)
    assert [field.num_features(n) for n in (0, 1, 8, 9)] == [0, 0, 0, 1]


@pytest.mark.parametrize("name", ["i3d", "i3d_r50"])
@pytest.mark.parametrize("num_frames", [9, 16, 31, 64, 79, 250])
def test_number_of_features(models: dict[str, VideoModel], name: str, num_frames: int) -> None:
    with torch.inference_mode():
        features = models[name].features(torch.zeros(1, 3, num_frames, 32, 32, dtype=torch.float64))
    assert features.shape[1] == field_of(models[name]).num_features(num_frames)


@pytest.mark.parametrize(("name", "num_frames"), [*(("i3d", n) for n in (220, 221, 222, 223)), ("i3d_r50", 61)])
def test_feature_depends_on_its_frame_range_only(models: dict[str, VideoModel], name: str, num_frames: int) -> None:
    model, field = models[name], field_of(models[name])
    index = field.num_features(num_frames) // 2
    start, stop = field.frame_range(index, num_frames)
    assert 0 < start < stop < num_frames
    assert field.center(index, num_frames) == (start + stop) / 2
    x = torch.rand(1, 3, num_frames, 32, 32, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        original = model.features(x)[0, index]
        changes = {}
        for frame in (start - 1, start, (start + stop) // 2, stop - 1, stop):
            changed = x.clone()
            changed[:, :, frame] = -3 * changed[:, :, frame] + 1
            changes[frame] = not torch.equal(model.features(changed)[0, index], original)
    assert changes == {start - 1: False, start: True, (start + stop) // 2: True, stop - 1: True, stop: False}


def test_optimized_model_keeps_receptive_field() -> None:
    model = build_model("i3d_tiny")
    assert optimize(model).receptive_field == model.receptive_field


def test_layer_without_padding_drops_incomplete_windows() -> None:
    assert [TemporalLayer(4, 2, same_padding=False).output_length(n) for n in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]
