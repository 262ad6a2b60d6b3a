"""Tests of the conversion of a port's state dict, including the scale of its batch norm."""

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from quovadis.errors import WeightsError
from quovadis.models.zoo import build_model
from quovadis.weights.from_pytorch_i3d import PYTORCH_I3D, from_port
from quovadis.weights.i3d_units import CONV_UNITS

UNITS = {PYTORCH_I3D.unit(unit): f"trunk.{unit}" for unit in CONV_UNITS}


@cache
def numbers(stream: str, num_classes: int) -> dict[str, Tensor]:
    """Create a random state dict of the port."""
    with torch.device("meta"):
        ours = build_model("i3d", stream=stream, num_classes=num_classes).state_dict()
    state = {}
    for theirs, unit in UNITS.items():
        shape = ours[f"{unit}.conv.weight"].shape
        state[f"{theirs}.conv3d.weight"] = torch.randn(shape)
        state[f"{theirs}.bn.weight"] = torch.ones(shape[0])
        state[f"{theirs}.bn.bias"] = torch.randn(shape[0])
        state[f"{theirs}.bn.running_mean"] = torch.randn(shape[0])
        state[f"{theirs}.bn.running_var"] = torch.rand(shape[0]) + 0.1
        state[f"{theirs}.bn.num_batches_tracked"] = torch.tensor(0)
    state["logits.conv3d.weight"] = torch.randn(ours["head.weight"].shape)
    state["logits.conv3d.bias"] = torch.randn(num_classes)
    return state


def port_state(stream: str = "rgb", num_classes: int = 5) -> dict[str, Tensor]:
    return dict(numbers(stream, num_classes))


@pytest.mark.parametrize(("stream", "num_classes"), [("rgb", 5), ("flow", 157)])
def test_from_port_maps_every_tensor_unchanged(stream: str, num_classes: int) -> None:
    state = port_state(stream, num_classes)
    assert len(state) == 344
    with torch.device("meta"):
        expected = build_model("i3d", stream=stream, num_classes=num_classes).state_dict()
    ours = from_port(state, PYTORCH_I3D)
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in expected.items()}
    assert torch.equal(ours["trunk.Mixed_4f.Branch_2.Conv3d_0b_3x3.conv.weight"], state["Mixed_4f.b2b.conv3d.weight"])
    assert torch.equal(ours["trunk.Conv3d_1a_7x7.batch_norm.bias"], state["Conv3d_1a_7x7.bn.bias"])
    sums = sorted(round(float(t.double().sum()), 6) for n, t in state.items() if "bn.weight" not in n and t.ndim)
    assert sorted(round(float(t.double().sum()), 6) for t in ours.values()) == sums


def test_num_batches_tracked_may_be_absent() -> None:
    state = {name: t for name, t in port_state().items() if "num_batches" not in name}
    assert len(state) == 287
    assert len(from_port(state, PYTORCH_I3D)) == 230


@pytest.mark.parametrize("unit", ["Conv3d_1a_7x7", "Mixed_5c.b3b"])
def test_negative_and_zero_scales_are_folded_exactly(unit: str) -> None:
    state = {name: t.double() if name.startswith(unit) else t for name, t in port_state().items()}
    channels = len(state[f"{unit}.bn.weight"])
    scale = torch.linspace(-2, 2, channels + 1, dtype=torch.float64)[:-1]
    scale[channels // 2] = 0
    state[f"{unit}.bn.weight"] = scale
    ours = from_port(state, PYTORCH_I3D)
    weight = state[f"{unit}.conv3d.weight"]
    x = torch.randn(1, weight.shape[1], *weight.shape[2:], dtype=torch.float64)
    theirs = F.batch_norm(
        F.conv3d(x, weight),
        state[f"{unit}.bn.running_mean"],
        state[f"{unit}.bn.running_var"],
        scale,
        state[f"{unit}.bn.bias"],
        eps=1e-3,
    )
    name = UNITS[unit]
    folded = F.batch_norm(
        F.conv3d(x, ours[f"{name}.conv.weight"]),
        ours[f"{name}.batch_norm.running_mean"],
        ours[f"{name}.batch_norm.running_var"],
        None,
        ours[f"{name}.batch_norm.bias"],
        eps=1e-3,
    )
    assert torch.allclose(folded, theirs, rtol=1e-12, atol=1e-10)


def test_unknown_and_missing_tensors_are_listed() -> None:
    state = port_state()
    with pytest.raises(WeightsError, match=r"pytorch-i3d: unknown 1: Mixed_6a.b0.conv3d.weight; "):
        from_port(state | {"Mixed_6a.b0.conv3d.weight": torch.zeros(1)}, PYTORCH_I3D)
    del state["Mixed_3b.b1a.bn.running_var"]
    with pytest.raises(WeightsError, match=r"pytorch-i3d: missing 1: Mixed_3b.b1a.bn.running_var; "):
        from_port(state, PYTORCH_I3D)
    with pytest.raises(WeightsError, match="not a state dict of pytorch-i3d"):
        from_port({"conv1.weight": torch.zeros(1)}, PYTORCH_I3D)


def test_a_scale_of_the_wrong_size_is_refused() -> None:
    state = port_state()
    state["Conv3d_2c_3x3.bn.weight"] = torch.ones(7)
    with pytest.raises(WeightsError, match=r"Conv3d_2c_3x3 has a convolution \(192, .*, a scale \(7,\)"):
        from_port(state, PYTORCH_I3D)


def test_from_port_does_not_change_its_input() -> None:
    state = port_state()
    state["Conv3d_1a_7x7.bn.weight"] = torch.full((64,), 2.0)
    before = {name: t.clone() for name, t in state.items()}
    from_port(state, PYTORCH_I3D)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in state)
