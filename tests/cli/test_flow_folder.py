"""Commands with --flow-folder read the output of ``quovadis flow``, or name the paths that they tried."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from quovadis.cli import main
from quovadis.cli.flow import main as flow_main
from quovadis.datasets.load import load_dataset
from quovadis.errors import InvalidInputError
from quovadis.flow.codec import preset_for
from quovadis.flow.flow_files import FlowFileWriter, VideoFingerprint
from quovadis.flow.source import FlowSource
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.synthetic import write_square

FRAMES = 10


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos in train, val and test; all file names occur several times."""
    root = tmp_path_factory.mktemp("clips") / "squares"
    names = ["train/left/0", "train/left/1", "train/right/0", "train/right/1", "val/left/0", "val/right/0"]
    for seed, name in enumerate([*names, "test/left/0", "test/right/0"]):
        write_square(root / f"{name}.mp4", seed=seed, num_frames=FRAMES)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = WeightsInfo("i3d_tiny", {"stream": "flow", "num_classes": 2}, ("left", "right"))
    model = build_model("i3d_tiny", stream="flow", num_classes=2)
    return save_weights(tmp_path_factory.mktemp("weights") / "flow.safetensors", model.state_dict(), info)


@pytest.fixture(scope="module")
def stored(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flow as written by ``quovadis flow CLIPS --out FOLDER``."""
    folder = tmp_path_factory.mktemp("flow")
    short_side_px = build_model("i3d_tiny", stream="flow", num_classes=2).spec.short_side_px
    for record in load_dataset(clips).records:
        target = (folder / record.path.relative_to(clips)).with_suffix(".flow.mp4")
        with FlowFileWriter(
            target, VideoFingerprint.of(record.path), preset_for(short_side_px=short_side_px)
        ) as writer:
            writer.write(torch.zeros(FRAMES - 1, 2, short_side_px, round(short_side_px * 1.2)))
    return folder


@pytest.fixture(autouse=True)
def _no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("flow was estimated")

    for place in ("quovadis.flow.source.flow_for_clip", "quovadis.inference.feature_stream.estimate_flow"):
        monkeypatch.setattr(place, refuse)


def command(verb: str, clips: Path, weights: Path, flow: Path, out: Path) -> list[str]:
    short = ("--max-steps", "1", "--validate-every", "1")
    video = str(clips / "test/right/0.mp4")
    flow_folder = ("--flow-folder", str(flow))
    train = (*short, "--data.num-workers", "0", "--data.batch-size", "2", "--data.flow-folder", str(flow))
    center = ("--num-workers", "0", "--protocol", "center-clip")
    transfer = [*_of("full-ft", *train), *_of("original", *train), *_of("fixed", *short)]
    transfer += ["--settings", "fixed", "full-ft", "--protocol", "center-clip", "--json"]
    return {
        "train": ["tiny", "--data", str(clips), "--out", str(out), "--model.stream", "flow", *train],
        "evaluate": ["--data", str(clips), "--weights", str(weights), *flow_folder, *center],
        "predict": [video, "--weights", str(weights), *flow_folder, "--window-seconds", "0.64"],
        "timeline": [video, "--weights", str(weights), "--out", str(out), *flow_folder],
        "extract": [video, "--weights", str(weights), "--out", str(out), *flow_folder, "--window", "16"],
        "transfer": ["--weights", str(weights), "--data", str(clips), "--out", str(out), *transfer],
    }[verb]


def _of(recipe: str, *words: str) -> list[str]:
    return [f"--{recipe}.{word[2:]}" if word.startswith("--") else word for word in words]


COMMANDS = pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "timeline", "extract", "transfer"])


@COMMANDS
def test_flow_folder_with_subfolders(verb: str, clips: Path, weights: Path, stored: Path, tmp_path: Path) -> None:
    main([verb, *command(verb, clips, weights, stored, tmp_path / "out")])


@COMMANDS
def test_missing_flow_is_an_error_that_names_the_paths(
    verb: str, clips: Path, weights: Path, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = shutil.copytree(stored, tmp_path / "flow")
    for file in flow.rglob("0.flow.mp4"):
        file.unlink()
    with pytest.raises(SystemExit) as stopped:
        main([verb, *command(verb, clips, weights, flow, tmp_path / "out")])
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert f"the flow folder {flow} has no flow of {clips}" in message
    assert "/0.flow.mp4" in message.partition("; tried ")[2]


def test_flow_of_one_class_folder_or_of_single_videos_is_found(clips: Path, stored: Path, tmp_path: Path) -> None:
    for given, video in (("test", "test/left/0.mp4"), ("test/left", "test/left/0.mp4"), ("", "train/left/1.mp4")):
        flow = tmp_path / f"flow-{Path(given).name}"
        path = (flow / (clips / video).relative_to(clips / given)).with_suffix(".flow.mp4")
        path.parent.mkdir(parents=True)
        shutil.copy((stored / video).with_suffix(".flow.mp4"), path)
        assert FlowSource(folder=flow).find(clips / video) == path
        assert FlowSource(folder=flow, videos=clips).find(clips / video) == path


def test_longest_matching_path_is_used(clips: Path, stored: Path) -> None:
    source = FlowSource(folder=stored)
    for name in ("train/left/0", "test/left/0", "val/right/0"):
        assert source.find(clips / f"{name}.mp4") == stored / f"{name}.flow.mp4"


def test_output_of_quovadis_flow_is_found(tmp_path: Path) -> None:
    """Also for two videos that differ only in their suffix."""
    for name in ("run/a.mp4", "run/a.avi", "hop/a.mp4"):
        write_square(tmp_path / "in" / name, seed=0, num_frames=3)
    options = ("--method", "tvl1-fast", "--short-side-px", "16", "--out", str(tmp_path / "flow"))
    flow_main([str(tmp_path / "in"), *options])
    source = FlowSource("tvl1-fast", tmp_path / "flow")
    found = {n: source.find(tmp_path / "in" / n) for n in ("run/a.mp4", "run/a.avi", "hop/a.mp4")}
    assert found == {
        "run/a.mp4": tmp_path / "flow/run/a.mp4.flow.mp4",
        "run/a.avi": tmp_path / "flow/run/a.avi.flow.mp4",
        "hop/a.mp4": tmp_path / "flow/hop/a.flow.mp4",
    }


def test_errors_for_wrong_flow_folders(clips: Path, tmp_path: Path) -> None:
    video = clips / "test/left/0.mp4"
    with pytest.raises(InvalidInputError, match=r"the flow folder .*/none does not exist"):
        FlowSource(folder=tmp_path / "none").find(video)
    (tmp_path / "test/left/0").mkdir(parents=True)
    (tmp_path / "test/left/0/flow.json").write_text(json.dumps({}))
    with pytest.raises(InvalidInputError, match=r"as JPEG files.*; run quovadis flow without --jpeg"):
        FlowSource(folder=tmp_path).find(video)
    assert FlowSource().find(video) is None
