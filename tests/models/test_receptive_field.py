import pytest

from quovadis.inference.time_axis import TIME_AXES
from quovadis.models.optimize import optimize
from quovadis.models.receptive_field import TemporalLayer
from quovadis.models.zoo import build_model, list_models

FRAMES = [*range(80), 250, 1001]


@pytest.mark.parametrize("name", list_models())
def test_receptive_field_agrees_with_time_axis(name: str) -> None:
    field, axis = build_model(name).receptive_field, TIME_AXES.get(name)
    if axis is None:
        assert field is None
        return
    assert field is not None
    assert (field.stride, field.frames_per_feature) == (axis.stride, axis.share)
    for num_frames in FRAMES:
        assert field.num_features(num_frames) == axis.num_rows(num_frames)
        for index in range(field.num_features(num_frames)):
            assert field.frame_range(index, num_frames) == axis.sees(index, num_frames)
            assert field.center(index, num_frames) == axis.center(index, num_frames)


def test_optimized_model_keeps_receptive_field() -> None:
    model = build_model("i3d_tiny")
    assert optimize(model).receptive_field == model.receptive_field


def test_layer_without_padding_drops_incomplete_windows() -> None:
    assert [TemporalLayer(4, 2, same_padding=False).output_length(n) for n in range(8)] == [0, 0, 0, 0, 1, 1, 2, 2]
