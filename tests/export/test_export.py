import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, MissingExtraError, TooFewFramesError, UnknownNameError, WeightsError
from quovadis.export import formats as export_formats
from quovadis.export.card import METADATA_KEY, SamplingCard
from quovadis.export.export import TOLERANCE, card_path, export_model, script_path
from quovadis.export.plan import plan_export
from quovadis.export.traceable import Exportable, same_pads
from quovadis.inference.recognizer import Recognizer
from quovadis.models.i3d import I3D
from quovadis.models.layers import same_padding
from quovadis.models.optimization import optimize
from quovadis.models.preprocessing import preprocessing_steps
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.video.read import read_clip
from quovadis.video.writer import write_video
from quovadis.weights.verify import state_sha256
from tests.models.settled import settled
from tests.synthetic import awake, moving_square


def inputs_of(model: VideoModel, steps: int, height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    first = model.spec.streams[0].num_frames
    return tuple(
        torch.rand(batch, s.channels, steps * s.num_frames // first, height, width) * 2 - 1 for s in model.spec.streams
    )


def same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    # For reference: the float32 rounding error of the LSTM model itself is 2e-5.
    return found.shape == expected.shape and float((found - expected).abs().max() / expected.abs().max()) < TOLERANCE


@pytest.mark.parametrize("kernel", [1, 2, 3, 7])
def test_same_pads_equals_same_padding(kernel: int) -> None:
    for stride in range(1, kernel + 1):
        for size in range(1, 70):
            after, before = reversed(same_pads([size], [kernel], [stride]))
            assert (before, after) == same_padding(size, kernel, stride)


def test_same_pads_starts_with_last_axis() -> None:
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
def test_exportable_gives_outputs_of_model(name: str, steps: int, height: int, width: int) -> None:
    model = settled(build_model(name, num_classes=5))
    before = state_sha256(model.state_dict())
    inputs = inputs_of(model, steps, height, width, batch=2)
    with torch.no_grad():
        logits, features = Exportable(model)(*inputs)
        assert same(logits, model(*inputs))
        assert same(features, model.features(*inputs))
    assert state_sha256(model.state_dict()) == before


@pytest.mark.slow
def test_onnx_with_all_axes_dynamic_is_correct_at_unchecked_sizes(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = settled(build_model("i3d_tiny", num_classes=5))
    model.labels = tuple("abcde")
    path = tmp_path / "tiny.onnx"
    card = export_model(model, path, dynamic_axes=("batch", "time", "space"))
    run = export_formats.FORMATS["onnx"].open(path.read_bytes())
    for size in ((9, 33, 63), (24, 64, 65), (31, 95, 66), (64, 71, 48)):
        inputs = inputs_of(model, *size, batch=1 + size[0] % 2)
        with torch.no_grad():
            logits, features = run(*inputs)
            assert same(logits, model(*inputs)), size
            assert same(features, model.features(*inputs)), size

    written = json.loads(card_path(path).read_text())
    assert written == json.loads(card.to_json())
    assert written["inputs"][0]["shape"] == ["batch", 3, "frames", "height", "width"]
    assert written["dynamic_axes"] == {"batch": 1, "frames": 9, "height": 33, "width": 33}
    assert written["labels"] == list("abcde")
    assert written["weights_sha256"] == state_sha256(model.state_dict())
    assert 0 < written["check"]["max_relative_difference"] < 1e-4
    assert len(written["check"]["shapes"]) == 4
    file = onnx.load(path)
    onnx.checker.check_model(file)
    embedded = {p.key: p.value for p in file.metadata_props}
    assert json.loads(embedded[METADATA_KEY]) | {"check": written["check"]} == written
    assert [port.name for port in file.graph.input] == ["rgb"]
    assert [port.name for port in file.graph.output] == ["logits", "features"]
    assert {node.op_type for node in file.graph.node if node.op_type.endswith("Normalization")} == set()


@pytest.mark.slow
def test_multi_stream_model_has_one_input_per_stream(tmp_path: Path) -> None:
    model = settled(build_model("two_stream_tiny", num_classes=5))
    path = tmp_path / "two.pt2"
    card = export_model(model, path, format="torch-export", dynamic_axes=("batch", "time"))
    assert [port.name for port in card.inputs] == ["rgb", "flow"]
    assert [port.shape[2] for port in card.inputs] == ["frames", "10*frames"]
    inputs = inputs_of(model, 3, 64, 64, batch=3)
    with torch.no_grad():
        logits, _ = torch.export.load(path).module()(*inputs)
        assert same(logits, model(*inputs))


@pytest.mark.slow
def test_torch_export_with_fixed_size(tmp_path: Path) -> None:
    model = settled(build_model("convnet_lstm_tiny", num_classes=5))
    path = tmp_path / "lstm.pt2"
    card = export_model(model, path, format="torch-export", num_frames=3, height_px=65, batch_size=2, dynamic_axes=())
    assert card.inputs[0].shape == (2, 3, 3, 65, 64)
    assert card.dynamic_axes == {}
    extra: dict[str, Any] = {f"{METADATA_KEY}.json": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra[f"{METADATA_KEY}.json"])["model"] == "convnet_lstm_tiny"
    inputs = inputs_of(model, 3, 65, 64, batch=2)
    with torch.no_grad():
        assert same(program.module()(*inputs)[0], model(*inputs))


@pytest.mark.slow
def test_file_that_differs_from_model_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def symmetric(shape: Any, kernel: Any, stride: Any) -> list[int]:
        """Symmetric padding, a common mistake of I3D ports."""
        pads = same_pads(shape, kernel, stride)
        return [sum(pads[i : i + 2]) - (sum(pads[i : i + 2]) // 2) * (k % 2) for i in (0, 2, 4) for k in (0, 1)]

    monkeypatch.setattr("quovadis.export.traceable.same_pads", symmetric)
    model = settled(build_model("conv3d_tiny", num_classes=5))
    with pytest.raises(WeightsError, match=r"differs from conv3d_tiny in (logits|features) by .*not written"):
        export_model(model, tmp_path / "wrong.pt2", format="torch-export", height_px=57)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_torch_export_with_all_axes_dynamic_accepts_a_single_output_position(tmp_path: Path) -> None:
    model = settled(build_model("conv3d_tiny", num_classes=5))
    path = tmp_path / "c3d.pt2"
    card = export_model(model, path, format="torch-export", dynamic_axes=("batch", "time", "space"))
    assert card.check is not None
    assert ((1, 3, 1, 33, 33),) in card.check.shapes
    inputs = inputs_of(model, 40, 70, 95)
    with torch.no_grad():
        logits, features = torch.export.load(path).module()(*inputs)
        assert same(logits, model(*inputs))
        assert same(features, model.features(*inputs))


def test_unsupported_exports_are_rejected(tmp_path: Path) -> None:
    lstm, i3d, c3d = (build_model(f"{n}_tiny", num_classes=2) for n in ("convnet_lstm", "i3d", "conv3d"))
    path = tmp_path / "x.onnx"
    with pytest.raises(InvalidInputError, match="convnet_lstm_tiny does not support a dynamic time axis"):
        export_model(lstm, path, dynamic_axes=("time",))
    with pytest.raises(InvalidInputError, match="only together with space"):
        export_model(c3d, path, dynamic_axes=("time",))
    with pytest.raises(TooFewFramesError, match="8 frames; i3d_tiny needs at least 9"):
        export_model(i3d, path, num_frames=8)
    with pytest.raises(InvalidInputError, match="at least 33 x 33 pixels; got 32 x 64"):
        export_model(i3d, path, height_px=32)
    with pytest.raises(InvalidInputError, match="batch_size must be at least 1"):
        export_model(i3d, path, batch_size=0)
    with pytest.raises(InvalidInputError, match="use the original model"):
        export_model(optimize(i3d.eval()), path)
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_model(i3d, path, format="onx")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown dynamic axis 'depth'"):
        export_model(i3d, path, dynamic_axes=("depth",))  # type: ignore[list-item]
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[export\]"):
        export_model(build_model("i3d_tiny", num_classes=2), tmp_path / "x.onnx")


def test_minimum_size_agrees_with_model() -> None:
    model = I3D(num_classes=2, width=1 / 16).eval()
    with torch.no_grad(), pytest.raises(InvalidInputError, match="at least 193 pixels"):
        model(torch.zeros(1, 3, 9, 192, 193))
    with pytest.raises(InvalidInputError, match="at least 193 x 193 pixels; got 192 x 224"):
        export_model(model, "never.onnx", height_px=192)


def test_preprocessing_steps_of_card() -> None:
    steps = preprocessing_steps(build_model("fused_two_stream_tiny", num_classes=2).spec)
    assert steps[0].startswith("sample frames at 25 fps: frame k is the one on screen just before (k + 0.5) / 25 s")
    assert any("round the long side to the nearest pixel, halves to even" in step for step in steps)
    assert any("first row floor((height - 64) / 2)" in step for step in steps)
    assert "rgb: take every 5th frame, starting at frame 2" in steps
    assert any(step.startswith("flow: clip to [-20") for step in steps)
    assert steps[-1] == "uint8 to float32: value / 127.5 - 1"


def run_script(path: Path, video: Path, folder: Path, **environment: str) -> dict[str, float]:
    """Run the script next to an exported file where neither this package nor PyTorch can be imported."""
    blocked = folder / "blocked"
    blocked.mkdir(exist_ok=True)
    for name in ("quovadis", "torch", "av"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} must not be needed')")
    done = subprocess.run(
        [sys.executable, script_path(path), video],
        env={**os.environ, "PYTHONPATH": str(blocked), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {label: float(p) for label, p in (line.split("\t") for line in done.stdout.splitlines())}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        # A rest that is too short for a window, a rest with a window, a frame that is resized.
        ({"num_frames": 40}, [(41, 72, 98), (83, 98, 72), (40, 90, 122)]),
        # A short video that is looped, one window, two windows.
        ({"dynamic_axes": ("batch", "time")}, [(9, 72, 80), (16, 72, 72), (17, 78, 72)]),
        ({"batch_size": 2, "dynamic_axes": ()}, [(20, 72, 72)]),
    ],
)
def test_script_next_to_the_file_equals_predict(
    tmp_path: Path, options: dict[str, Any], sizes: list[tuple[int, int, int]]
) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    model = awake(build_model("i3d_tiny", num_classes=5))
    model.labels = tuple("abcde")
    recognizer = Recognizer([model], model.labels, device="cpu")
    path = tmp_path / "tiny.onnx"
    card = export_model(model, path, **options)
    assert card.sampling is not None
    window_seconds = card.sampling.window_frames / 25
    for num_frames, height, width in sizes:
        frames = moving_square(num_frames, height, width, seed=num_frames)
        video = write_video(tmp_path / f"{num_frames}.mp4", frames, fps=25)
        stored = tmp_path / f"{num_frames}.npy"
        np.save(stored, read_clip(video).frames.permute(0, 2, 3, 1).numpy())
        expected = dict(recognizer.predict(video, window_seconds=window_seconds).top(5))
        # PyTorch resizes bytes in integer arithmetic, whose results differ by one level in some pixels.
        tolerance = 5e-6 if min(height, width) == 72 else 5e-3
        assert run_script(path, stored, tmp_path) == pytest.approx(expected, abs=tolerance), (num_frames, height, width)
        assert max(expected.values()) < 0.999  # otherwise, most errors would be too small to see


@pytest.mark.slow
def test_script_is_written_for_one_rgb_input(tmp_path: Path) -> None:
    path = tmp_path / "two.pt2"
    card = export_model(settled(build_model("two_stream_tiny", num_classes=2)), path, format="torch-export")
    assert card.sampling is None
    assert not script_path(path).exists()


def test_card_states_frames_windows_size_and_crop() -> None:
    model = build_model("i3d_tiny", num_classes=2)

    def sampling(*dynamic_axes: Literal["batch", "time"], **options: int) -> SamplingCard | None:
        settings = {"batch_size": 3, "num_frames": None, "height_px": None, "width_px": None} | options
        return plan_export(model, dynamic_axes=dynamic_axes, **settings).sampling()

    fixed = sampling(num_frames=40, height_px=80)
    assert fixed == SamplingCard(25.0, 1, 40, 40, 2, 80, (80, 64), 3)
    stream, test_frames = model.spec.streams[0], model.spec.test_frames
    dynamic = sampling("batch", "time")
    assert dynamic == SamplingCard(25.0, 1, test_frames, stream.num_frames, max(test_frames // 20, 1), 72, (64, 64), 1)


@pytest.mark.slow
def test_script_reads_the_frames_that_ffmpeg_writes(tmp_path: Path) -> None:
    """A program of the name ffmpeg writes known frames in the format that the script requests."""
    pytest.importorskip("onnxruntime")
    torch.manual_seed(1)
    model = awake(build_model("i3d_tiny", num_classes=5))
    model.labels = tuple("abcde")
    path = tmp_path / "tiny.onnx"
    export_model(model, path)
    frames = moving_square(16, 72, 80).permute(0, 2, 3, 1).numpy()
    np.save(tmp_path / "frames.npy", frames)
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys, numpy\n"
        "assert sys.argv[1:] == '-v error -i v.mp4 -vf fps=25 -f image2pipe -c:v ppm -'.split()\n"
        f"for frame in numpy.load({str(tmp_path / 'frames.npy')!r}):\n"
        "    sys.stdout.buffer.write(b'P6\\n80 72\\n255\\n' + frame.tobytes())\n"
    )
    program.chmod(0o755)
    search = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    found = run_script(path, Path("v.mp4"), tmp_path, PATH=search)
    assert found == run_script(path, tmp_path / "frames.npy", tmp_path)
