import json
import subprocess
import sys
from pathlib import Path

import pytest

from quovadis.cli import COMMANDS, main
from quovadis.errors import DownloadError
from quovadis.models.zoo import build_model
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo
from tests.command import run


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    return save_weights(path, build_model("i3d_tiny", num_classes=2).state_dict(), info)


def test_every_command_has_a_module_and_every_module_a_command() -> None:
    folder = Path(sys.modules["quovadis.cli"].__file__ or "").parent
    files = {f.stem for f in folder.glob("*.py") if not f.stem.startswith("_")}
    assert set(COMMANDS) == {name.partition("_")[0] for name in files}
    assert set(COMMANDS) <= files  # COMMAND_PART.py is a part of COMMAND.py


def test_help_lists_the_commands_without_heavy_imports() -> None:
    code = (
        "import sys; from quovadis.cli import main; main(['--help']);"
        "print(sorted({'torch', 'numpy', 'av', 'rich', 'tyro'} & set(sys.modules)))"
    )
    lines = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert lines[-1] == "[]"
    assert all(any(line.strip().startswith(command) for line in lines) for command in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert f"quovadis {command}" in capsys.readouterr().out


def test_invalid_usage_exits_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predcit") == 2
    assert "unknown command 'predcit'; did you mean 'predict'?" in capsys.readouterr().err
    assert run("predict", "--nonsense") == 2
    assert run("train") == 2
    assert run() == 0


def test_errors_are_one_line_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", tmp_path / "none.mp4") == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: no file at {tmp_path / 'none.mp4'}\n"
    assert captured.out == ""
    with pytest.raises(FileNotFoundError):
        main(["probe", str(tmp_path / "none.mp4"), "--debug"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a file on a full disk")
@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["weights", "list"]])
def test_full_disk_of_the_output_is_one_line(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "quovadis", *arguments]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == "error: cannot write the output: No space left on device\n"


def test_probe_prints_text_and_json(clip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("probe", clip_path) == 0
    assert "64x48, 25 fps, 30 frames, 1.20 s, h264 in" in capsys.readouterr().out
    assert run("probe", clip_path, "--count", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["num_frames"] == 30


def test_predict_continues_after_an_unreadable_file(
    clip_path: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no")
    assert run("predict", bad, clip_path, "--weights", weights, "--json", "--top", 1) == 1
    captured = capsys.readouterr()
    (row,) = (json.loads(line) for line in captured.out.splitlines())
    assert row["video"] == str(clip_path)
    assert row["top"][0]["label"] in ("left", "right")
    assert "bad.mp4 is not a video" in captured.err
    assert "1 of 2 videos could not be read" in captured.err
    assert run("predict", clip_path, "--weights", weights.parent) == 0
    assert "%" in capsys.readouterr().out
    assert run("predict", "--weights", weights) == 1


def test_unknown_recipes_and_datasets_get_suggestions(capsys: pytest.CaptureFixture[str], weights: Path) -> None:
    assert run("train", "tinny", "--data", "motions") == 1
    assert "unknown recipe 'tinny'; did you mean 'tiny'?" in capsys.readouterr().err
    assert run("evaluate", "--data", "motoins", "--weights", weights) == 1
    assert "did you mean 'motions'" in capsys.readouterr().err


def test_train_then_evaluate_then_predict(
    two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    code = run(
        *("train", "tiny", "--data", two_classes, "--out", out, "--max-steps", 2, "--validate-every", 1),
        *("--data.batch-size", 4, "--optimizer.learning-rate", 0.01, "--data.num-workers", 0),
    )
    assert code == 0
    assert capsys.readouterr().out.strip() == str(out / "best.safetensors")
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["max_steps"], recipe["optimizer"]["learning_rate"]) == (2, 0.01)
    assert run("evaluate", "--data", two_classes, "--weights", out, "--protocol", "whole", "--out", tmp_path / "e") == 0
    text = capsys.readouterr().out
    assert "top-1" in text
    assert "protocol whole: whole video at 25 fps" in text
    assert (tmp_path / "e" / "report.html").is_file()
    (metrics,) = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert metrics["num_videos"] == 6
    assert run("predict", two_classes / "test" / "left" / "0.mp4", "--weights", out) == 0


@pytest.mark.slow
def test_demo_from_scratch_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--from-scratch", "--max-steps", 2, "--train-per-class", 1, "--test-per-class", 1)
    assert run("demo", "--out", tmp_path, *options) == 0
    text = capsys.readouterr().out
    for step in (
        "1. Videos",
        "2. Optical flow",
        "3. Training",
        "4. Evaluation",
        "5. A video",
        "6. Page",
        "Next:",
    ):
        assert step in text
    html = (tmp_path / "report.html").read_text()
    assert "quovadis demo" in html
    assert "<svg" in html


@pytest.mark.slow
def test_demo_trains_a_classifier_on_a_pretrained_network(
    weights: Path, clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    options = ("--train-per-class", 1, "--test-per-class", 1, "--weights", weights)
    assert run("demo", clip_path, "--out", out, *options) == 0
    text = capsys.readouterr().out
    for step in ("1. Network", "Your video", "2. Videos", "3. Classifier", "4. Evaluation", "5. A video", "6. Page"):
        assert step in text
    html = (out / "report.html").read_text()
    assert html.index("Your video: square.mp4") < html.index("Concatenated test videos: disc ") < html.index("Accuracy")
    assert html.count("Evidence for ") >= 2
    assert load_weights(out / "frozen" / "best.safetensors")[1].source["recipe"] == "frozen"
    assert run("predict", "--weights", out / "frozen", clip_path, "--json") == 0
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert len(row["top"]) == 5


def test_demo_rejects_a_missing_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("demo", tmp_path / "none.mp4", "--out", tmp_path) == 1
    assert "no file at" in capsys.readouterr().err


@pytest.mark.slow
def test_demo_trains_from_scratch_without_a_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DownloadError("no connection")

    monkeypatch.setattr("quovadis.weights.load.get_weights", refuse)
    monkeypatch.setattr("quovadis.cli.demo_scratch.run_from_scratch", lambda options: print("from scratch"))
    assert run("demo", "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert "cannot be downloaded: no connection" in text
    assert text.endswith("from scratch\n")


@pytest.mark.parametrize("command", ["predict", "timeline", "explain", "evaluate"])
def test_precision_and_backend_reach_the_network(
    command: str, tmp_path: Path, two_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loaded(Exception):
        """The network was requested."""

    def load(*weights: str, **options: object) -> None:
        raise Loaded(weights, options["precision"], options["backend"])

    monkeypatch.setattr("quovadis.inference.recognizer.Recognizer.load", load)
    video = next(two_classes.rglob("*.mp4"))
    inputs = ["--data", two_classes] if command == "evaluate" else [video]
    out = ["--out", tmp_path] if command in ("timeline", "explain") else []
    options = ["--weights", "net.pt", "--precision", "bfloat16", "--backend", "openvino"]
    with pytest.raises(Loaded) as caught:
        main([command, *map(str, inputs), *map(str, out), *options])
    weights, *rest = caught.value.args
    assert (str(*weights), *rest) == ("net.pt", "bfloat16", "openvino")
