"""Encoding of flow to bytes and back, and presets."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.flow.codec import PAPER, FlowPreset, decode_flow, encode_flow, preset_for, repeat_last
from quovadis.flow.parameters import FAST, TVL1Parameters
from quovadis.transforms import to_model


@given(st.lists(st.floats(-20, 20, width=32), min_size=1), st.sampled_from([20.0, 5.0, 32.0]))
def test_inside_the_clip_the_error_is_at_most_half_a_level(values: list[float], clip_px: float) -> None:
    flow = torch.tensor(values, dtype=torch.float32).clamp(-clip_px, clip_px)
    back = decode_flow(encode_flow(flow, clip_px), clip_px)
    assert (back - flow).abs().max() <= clip_px / 255 + 1e-5


def test_levels_are_the_nearest_of_256() -> None:
    flow = torch.linspace(-25, 25, 2001)
    levels = np.linspace(-20, 20, 256)
    nearest = np.abs(flow.clamp(-20, 20).numpy()[:, None] - levels).argmin(1)
    encoded = encode_flow(flow).numpy().astype(int)
    tie = np.abs((flow.clamp(-20, 20).double().numpy() + 20) * 255 / 40 % 1 - 0.5) < 1e-3
    assert tie.mean() < 0.01
    assert np.array_equal(encoded[~tie], nearest[~tie])
    assert np.abs(encoded - nearest).max() <= 1


def test_every_level_survives_decoding() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(encode_flow(decode_flow(levels)), levels)


def test_encoded_flow_as_network_input() -> None:
    flow = torch.empty(4, 2, 3, 3).uniform_(-30, 30)
    seen = to_model(encode_flow(flow))
    assert seen.shape == (2, 4, 3, 3)
    assert (seen.transpose(0, 1) - flow.clamp(-20, 20) / 20).abs().max() <= 1 / 255 + 1e-6
    assert to_model(encode_flow(torch.zeros(1, 2, 1, 1))).flatten().tolist() == pytest.approx([1 / 255] * 2, abs=1e-6)


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(InvalidTypeError, match="float64"):
        encode_flow(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(InvalidInputError, match="NaN"):
        encode_flow(torch.tensor([0.0, torch.nan]))
    with pytest.raises(InvalidInputError, match="clip_px"):
        encode_flow(torch.zeros(1), clip_px=0)
    with pytest.raises(InvalidTypeError, match="float32"):
        decode_flow(torch.zeros(1))


def test_infinity_is_clipped() -> None:
    assert encode_flow(torch.tensor([torch.inf, -torch.inf])).tolist() == [255, 0]


def test_paper_preset_is_frozen() -> None:
    """Files contain these values; changing one invalidates all stored flow."""
    assert PAPER.to_dict() == {
        "name": "paper",
        "fps": 25.0,
        "short_side_px": 256,
        "gray": "BT.601, 15 bits",
        "method": "tvl1",
        "parameters": {
            "time_step": 0.25, "attachment": 0.15, "tightness": 0.3, "num_scales": 5, "scale_step": 0.8,
            "num_warps": 5, "num_outer_iterations": 10, "num_inner_iterations": 30, "stop_change_px": 0.01,
            "median_size_px": 5, "positions_per_px": 32,
        },
        "clip_px": 20.0,
        "num_levels": 256,
    }  # fmt: skip


def test_preset_as_json_and_difference() -> None:
    other = FlowPreset(name="fast", method="dis", parameters=TVL1Parameters(num_warps=2))
    assert FlowPreset.from_dict(json.loads(json.dumps(other.to_dict()))) == other
    difference = "name is 'fast', not 'paper', method is 'dis', not 'tvl1', parameters.num_warps is 2, not 5"
    assert other.difference(PAPER) == difference
    assert PAPER.difference(PAPER) == ""
    with pytest.raises(InvalidInputError, match="not a preset"):
        FlowPreset.from_dict({"color": "blue"})


def test_repeat_last() -> None:
    flow = torch.randn(3, 2, 4, 5)
    assert torch.equal(repeat_last(flow), flow[[0, 1, 2, 2]])


@pytest.mark.parametrize(
    ("method", "fps", "short_side_px", "name"),
    [
        ("tvl1", 25, 256, "paper"),
        ("tvl1", 12.5, 256, "at 12.5 fps"),
        ("tvl1", 50, 256, "at 50 fps"),
        ("tvl1", 25, 128, "at 128 px"),
        ("dis", 25, 512, "dis at 512 px"),
        ("tvl1-fast", 10, 72, "tvl1-fast at 72 px at 10 fps"),
    ],
)
def test_name_of_a_preset(method: str, fps: float, short_side_px: int, name: str) -> None:
    preset = preset_for(method, fps=fps, short_side_px=short_side_px)
    assert (preset.name, preset.method, preset.fps, preset.short_side_px) == (name, method, fps, short_side_px)
    assert preset.parameters == (FAST if method == "tvl1-fast" else PAPER.parameters)


def test_repr_of_a_preset_has_changed_parameters() -> None:
    assert "num_warps=2" in repr(FlowPreset(parameters=TVL1Parameters(num_warps=2)))
    assert "num_warps" not in repr(PAPER)
