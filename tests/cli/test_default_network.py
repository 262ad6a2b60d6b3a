"""Commands without --weights use the default network, which is loaded after the inputs are checked."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import quovadis
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.inference.prediction import Window
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.weights import default
from quovadis.weights.catalog import DEFAULT_WEIGHTS
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.verify import state_sha256
from tests.command import run


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of 400 classes that replaces the download."""
    torch.manual_seed(0)
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 400}, class_labels("kinetics400"))
    model = build_model("i3d_tiny", num_classes=400)
    return save_weights(tmp_path_factory.mktemp("cache") / "default.safetensors", model.state_dict(), info)


@pytest.fixture(autouse=True)
def fetched(cached: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of fetched weights; nothing is downloaded."""
    names: list[str] = []

    def get(name: str, **_: object) -> Path:
        names.append(name)
        return cached

    monkeypatch.setattr("quovadis.weights.load.get_weights", get)
    monkeypatch.setattr(default, "_announced", False)
    return names


def test_python_api_uses_the_default_network(
    fetched: list[str], clip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quovadis.load_model().source["published"] == DEFAULT_WEIGHTS
    assert len(quovadis.Recognizer.load().labels) == 400
    assert fetched == [DEFAULT_WEIGHTS] * 2
    messages = capsys.readouterr().err
    assert messages.count("Using i3d-rgb-kinetics400: ") == 1, "must be announced once"
    assert "400 Kinetics actions, RGB, top-1 68.4 %, top-5 88.0 % as published; license Apache-2.0" in messages
    assert "--weights i3d-rgb-imagenet-kinetics400 i3d-flow-imagenet-kinetics400" in messages


@pytest.mark.parametrize(
    "args",
    [
        ("predict", "CLIP"),
        ("timeline", "CLIP", "--out", "OUT"),
        ("explain", "CLIP", "--out", "OUT"),
        ("watch", "CLIP", "--json"),
        ("extract", "CLIP", "--out", "OUT", "--window", "16"),
        ("export", "--out", "OUT/i3d.pt2", "--format", "torch-export"),
    ],
    ids=lambda args: args[0],
)
def test_commands_use_and_announce_the_default_network(
    args: tuple[str, ...], fetched: list[str], clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*(a.replace("CLIP", str(clip_path)).replace("OUT", str(tmp_path)) for a in args)) == 0
    assert set(fetched) == {DEFAULT_WEIGHTS}
    captured = capsys.readouterr()
    assert "Using i3d-rgb-kinetics400" in captured.err
    assert "Using" not in captured.out


def test_json_contains_the_network_and_its_hash(
    cached: Path, clip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", clip_path, "--json", "--weights", cached) == 0
    row = json.loads(capsys.readouterr().out)
    sha256 = state_sha256(quovadis.load_model(cached).state_dict())
    assert row["networks"] == [{"weights": str(cached), "model": "i3d_tiny (rgb)", "sha256": sha256}]


@pytest.mark.parametrize("command", ["predict", "timeline", "explain"])
def test_folders_and_lists_of_videos(
    command: str, two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = two_classes / "test" / "left"
    videos = sorted(folder.glob("*.mp4"))
    (tmp_path / "list.txt").write_text(f"{videos[0]}\n{tmp_path / 'none.mp4'}\n")
    out = () if command == "predict" else ("--out", tmp_path / "out")
    assert run(command, folder, *out, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["video"] for row in rows] == [str(v) for v in videos]
    assert run(command, tmp_path / "list.txt", *out, "--json") == 1
    captured = capsys.readouterr()
    assert [json.loads(line)["video"] for line in captured.out.splitlines()] == [str(videos[0])]
    assert "no file at" in captured.err
    assert "1 of 2 videos could not be read" in captured.err


@pytest.mark.parametrize("command", ["predict", "timeline", "explain"])
def test_no_network_is_loaded_if_no_video_can_be_read(
    command: str, fetched: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = () if command == "predict" else ("--out", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert run(command, tmp_path / "none.mp4", *out) == 1
    assert run(command, *out) == 1
    assert run(command, tmp_path / "empty", *out) == 1
    messages = capsys.readouterr().err
    assert "no file at" in messages
    assert "name at least one video" in messages
    assert fetched == []


def test_an_interrupted_timeline_is_written(
    clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cached: Path
) -> None:
    def interrupted(recognizer: Recognizer, path: Path, *, on_window: object, **_: object) -> None:
        assert callable(on_window)
        for start in (0.0, 0.32):
            on_window(Window(start, start + 0.64, torch.arange(400.0)))
        raise KeyboardInterrupt

    with patch("quovadis.inference.timeline.make_timeline", interrupted):
        assert run("timeline", clip_path, "--out", tmp_path, "--weights", cached) == 130
    kept = json.loads((tmp_path / "square.timeline.json").read_text())
    assert len(kept["windows"]) == 2
    assert kept["notes"] == ["interrupted: this covers the video up to 0.96 s"]
