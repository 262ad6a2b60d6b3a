import json
from pathlib import Path
from typing import Any

import pytest
import torch

from quovadis.errors import InvalidInputError, MissingExtraError, TooFewFramesError, UnknownNameError, WeightsError
from quovadis.export import formats as export_formats
from quovadis.export.card import HEADER
from quovadis.export.export import TOLERANCE, card_path, export_model
from quovadis.export.traceable import Exportable, same_pads
from quovadis.models.i3d import I3D
from quovadis.models.layers import same_padding
from quovadis.models.optimize import optimize
from quovadis.models.preprocessing import preprocessing_steps
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.weights.verify import state_sha256
from tests.models.settled import settled


def inputs_of(model: VideoModel, steps: int, height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    first = model.spec.streams[0].num_frames
    return tuple(
        torch.rand(batch, s.channels, steps * s.num_frames // first, height, width) * 2 - 1 for s in model.spec.streams
    )


def same(got: torch.Tensor, want: torch.Tensor) -> bool:
    # In float32 the LSTM here is as far from itself in float64 as 2e-5, rewritten or not.
    return got.shape == want.shape and float((got - want).abs().max() / want.abs().max()) < TOLERANCE


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_pads_without_a_branch_are_same_padding(kernel: int) -> None:
    for stride in range(1, kernel + 1):
        for size in range(1, 70):
            after, before = reversed(same_pads([size], [kernel], [stride]))
            assert (before, after) == same_padding(size, kernel, stride)


def test_pads_of_several_axes_come_last_axis_first() -> None:
    assert same_pads([10, 11], [3, 3], [2, 2]) == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("i3d_tiny", 18),
        ("convnet_lstm_tiny", 9),
        ("conv3d_tiny", 35),
        ("two_stream_tiny", 2),
        ("fused_two_stream_tiny", 4),
    ],
)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 82)])
def test_the_rewritten_network_is_the_network(name: str, steps: int, height: int, width: int) -> None:
    model = settled(build_model(name, num_classes=5))
    before = state_sha256(model.state_dict())
    inputs = inputs_of(model, steps, height, width, batch=2)
    with torch.no_grad():
        logits, features = Exportable(model)(*inputs)
        assert same(logits, model(*inputs))
        assert same(features, model.features(*inputs))
    assert state_sha256(model.state_dict()) == before


@pytest.mark.slow
def test_onnx_with_every_size_free_is_right_at_sizes_it_was_not_checked_at(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = settled(build_model("i3d_tiny", num_classes=5))
    model.labels = tuple("abcde")
    path = tmp_path / "tiny.onnx"
    card = export_model(model, path, free_sizes=("batch", "time", "space"))
    run = export_formats.FORMATS["onnx"].open(path.read_bytes())
    for size in ((9, 33, 63), (24, 64, 65), (31, 95, 66), (64, 71, 48)):
        inputs = inputs_of(model, *size, batch=1 + size[0] % 2)
        with torch.no_grad():
            logits, features = run(*inputs)
            assert same(logits, model(*inputs)), size
            assert same(features, model.features(*inputs)), size

    beside = json.loads(card_path(path).read_text())
    assert beside == json.loads(card.to_json())
    assert beside["inputs"][0]["shape"] == ["batch", 3, "frames", "height", "width"]
    assert beside["free_sizes"] == {"batch": 1, "frames": 9, "height": 33, "width": 33}
    assert beside["labels"] == list("abcde")
    assert beside["weights_sha256"] == state_sha256(model.state_dict())
    assert 0 < beside["check"]["max_relative_difference"] < 1e-4
    assert len(beside["check"]["shapes"]) == 4
    file = onnx.load(path)
    onnx.checker.check_model(file)
    within = {p.key: p.value for p in file.metadata_props}
    assert json.loads(within[HEADER]) | {"check": beside["check"]} == beside
    assert [port.name for port in file.graph.input] == ["rgb"]
    assert [port.name for port in file.graph.output] == ["logits", "features"]
    assert {node.op_type for node in file.graph.node if node.op_type.endswith("Normalization")} == set()


def test_a_joint_network_has_an_input_for_each_stream(tmp_path: Path) -> None:
    model = settled(build_model("two_stream_tiny", num_classes=5))
    path = tmp_path / "two.pt"
    card = export_model(model, path, format="torchscript", free_sizes=("batch", "time", "space"))
    assert [port.name for port in card.inputs] == ["rgb", "flow"]
    assert [port.shape[2] for port in card.inputs] == ["frames", "10*frames"]
    inputs = inputs_of(model, 3, 75, 66, batch=3)
    with torch.no_grad():
        logits, _ = torch.jit.load(path)(*inputs)
        assert same(logits, model(*inputs))


@pytest.mark.slow
def test_torch_export_of_a_fixed_size(tmp_path: Path) -> None:
    model = settled(build_model("convnet_lstm_tiny", num_classes=5))
    path = tmp_path / "lstm.pt2"
    card = export_model(model, path, format="torch-export", num_frames=3, height=65, batch=2, free_sizes=())
    assert card.inputs[0].shape == (2, 3, 3, 65, 64)
    assert card.free_sizes == {}
    extra: dict[str, Any] = {f"{HEADER}.json": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra[f"{HEADER}.json"])["model"] == "convnet_lstm_tiny"
    inputs = inputs_of(model, 3, 65, 64, batch=2)
    with torch.no_grad():
        assert same(program.module()(*inputs)[0], model(*inputs))


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def symmetric(shape: Any, kernel: Any, stride: Any) -> list[int]:
        """The mistake of most ports."""
        pads = same_pads(shape, kernel, stride)
        return [sum(pads[i : i + 2]) - (sum(pads[i : i + 2]) // 2) * (k % 2) for i in (0, 2, 4) for k in (0, 1)]

    monkeypatch.setattr("quovadis.export.traceable.same_pads", symmetric)
    model = settled(build_model("conv3d_tiny", num_classes=5))
    with pytest.raises(WeightsError, match=r"differs from conv3d_tiny by .* in (logits|features).*not written"):
        export_model(model, tmp_path / "wrong.pt", format="torchscript", height=57)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    lstm, i3d, c3d = (build_model(f"{n}_tiny", num_classes=2) for n in ("convnet_lstm", "i3d", "conv3d"))
    path = tmp_path / "x.onnx"
    with pytest.raises(InvalidInputError, match="time cannot be free in an export of convnet_lstm_tiny"):
        export_model(lstm, path, free_sizes=("time",))
    with pytest.raises(InvalidInputError, match="only together with space"):
        export_model(c3d, path, free_sizes=("time",))
    with pytest.raises(TooFewFramesError, match="8 frames; i3d_tiny needs at least 9"):
        export_model(i3d, path, num_frames=8)
    with pytest.raises(InvalidInputError, match="33 pixels a side or more; got 32 x 64"):
        export_model(i3d, path, height=32)
    with pytest.raises(InvalidInputError, match="batch must be at least 1"):
        export_model(i3d, path, batch=0)
    with pytest.raises(InvalidInputError, match="give the network that it was made from"):
        export_model(optimize(i3d.eval()), path)
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_model(i3d, path, format="onx")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown size 'depth'"):
        export_model(i3d, path, free_sizes=("depth",))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[export\]"):
        export_model(build_model("i3d_tiny", num_classes=2), tmp_path / "x.onnx")


def test_the_smallest_size_is_the_one_that_the_network_says() -> None:
    model = I3D(num_classes=2, width=1 / 16).eval()
    with torch.no_grad(), pytest.raises(InvalidInputError, match="at least 193 pixels"):
        model(torch.zeros(1, 3, 9, 192, 193))
    with pytest.raises(InvalidInputError, match="193 pixels a side or more; got 192 x 224"):
        export_model(model, "never.onnx", height=192)


def test_the_card_says_how_inputs_are_made() -> None:
    steps = preprocessing_steps(build_model("fused_two_stream_tiny", num_classes=2).spec)
    assert steps[0] == "sample frames at 25 fps by timestamp"
    assert "rgb: take every 5th frame, starting at frame 2" in steps
    assert any(step.startswith("flow: clip to [-20") for step in steps)
    assert steps[-1] == "uint8 to float32: value / 127.5 - 1"
