import json
import re
from pathlib import Path

import numpy as np
import pytest

from quovadis.cli import main
from quovadis.datasets.video_inputs import list_videos
from quovadis.inference.extract import ExtractorSettings, extract_on_worker, plan_jobs
from quovadis.inference.feature_presets import find_feature_preset
from quovadis.models.zoo import build_model
from quovadis.runtime.jobs import run_jobs
from quovadis.video.writer import LOSSLESS, write_video
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.synthetic import moving_square


def run(*args: object) -> int:
    """The exit code of a command."""
    try:
        main([str(a) for a in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, and weights of both streams."""
    root = tmp_path_factory.mktemp("extract")
    for name, num_frames in (("a/v", 40), ("b/v", 33)):
        write_video(root / "clips" / f"{name}.mp4", moving_square(num_frames, 72, 90, num_frames), **LOSSLESS)
    for stream in ("rgb", "flow"):
        info = WeightsInfo("i3d_tiny", {"stream": stream, "num_classes": 2}, ("a", "b"))
        state = build_model("i3d_tiny", stream=stream, num_classes=2).state_dict()
        save_weights(root / f"{stream}.safetensors", state, info)
    return root


@pytest.mark.slow
def test_extract_a_folder_twice(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ("--weights", place / "rgb.safetensors", place / "flow.safetensors", "--out", tmp_path)
    assert run("extract", place / "clips", *both, "--window", 16, "--stride", 8, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2].partition(" into")[0] for line in lines] == ["4 rows", "3 rows"]
    assert list(tmp_path.iterdir()) == []
    assert run("extract", place / "clips", *both, "--window", 16, "--stride", 8, "--streams", "rgb") == 0
    assert capsys.readouterr().out.count(" x 256") == 2
    assert np.load(tmp_path / "a" / "v_rgb.npy").shape == (4, 256)
    two = ("--devices", "cpu", "cpu")
    assert run("extract", place / "clips", *both, "--window", 16, "--stride", 8, "--json", *two) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(len(row["files"]) for row in rows) == [1, 1]  # only flow was left to do
    assert np.load(tmp_path / "b" / "v_flow.npy").shape == (3, 256)
    assert run("extract", place / "clips", *both, "--window", 16, "--stride", 8) == 0
    assert capsys.readouterr().err.count("done before") == 2
    assert run("extract", place / "clips", *both, "--window", 16) == 1
    captured = capsys.readouterr()
    assert captured.err.count("exists with other settings (stride is 8, now 16)") == 2
    assert "2 of 2 videos have no features" in captured.err
    assert run("extract", place / "clips", *both, "--window", 16, "--streams", "rgb", "--overwrite") == 0
    assert np.load(tmp_path / "a" / "v_rgb.npy").shape == (2, 256)


def test_presets_and_whole_video(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video, rgb = place / "clips" / "a" / "v.mp4", ("--weights", place / "rgb.safetensors")
    assert run("extract", video, *rgb, "--out", tmp_path / "w", "--whole", "--fps", 0) == 0
    assert np.load(tmp_path / "w" / "v_rgb.npy").shape == (4, 256)
    assert json.loads((tmp_path / "w" / "v_rgb.json").read_text())["settings"]["fps"] == "file"
    assert run("extract", video, *rgb, "--out", tmp_path / "t", "--preset", "ten-crop") == 0
    assert np.load(tmp_path / "t" / "v_i3d.npy").shape == (2, 10, 256)
    assert run("extract", video, *rgb, "--out", tmp_path, "--preset", "mstcn") == 1
    assert "did you mean 'ms-tcn'" in capsys.readouterr().err
    for wrong in (("--whole", "--window", 16), ("--window", 0), ("--window", 5), ("--streams", "flow")):
        assert run("extract", video, *rgb, "--out", tmp_path / "x", *wrong) == 1
    err = capsys.readouterr().err
    assert "flow features need weights of that stream; got rgb" in err
    assert "for the whole video use --whole" in err
    assert not (tmp_path / "x").exists()


def test_unreadable_videos_are_listed(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no")
    rgb = ("--weights", place / "rgb.safetensors", "--out", tmp_path / "out")
    for extra in ((), ("--dry-run",)):
        assert run("extract", bad, place / "clips", *rgb, *extra) == 1
        captured = capsys.readouterr()
        assert "bad.mp4 is not a video" in captured.err
        assert "1 of 3 videos have no features" in captured.err
    assert np.load(tmp_path / "out" / "a" / "v_rgb.npy").shape == (2, 256)
    assert run("extract", place / "clips/a/v.mp4", place / "clips/b/v.mp4", *rgb) == 1
    assert "would be written to one file" in capsys.readouterr().err
    assert run("extract", *rgb) == 1


def test_damaged_videos_and_totals(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan counts the rows that are written, also where the header promises more."""
    whole = write_video(tmp_path / "w.avi", moving_square(100, 72, 90), codec="mpeg4", options={"g": "5"})
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    whole.unlink()
    command = ("extract", cut, "--weights", place / "rgb.safetensors", "--window", 16, "--out", tmp_path / "out")
    assert run(*command, "--dry-run") == 0
    plan = capsys.readouterr()
    num_rows = int(plan.out.partition(".avi: ")[2].split()[0])
    assert re.search(rf"total: {num_rows} rows of 1 videos, 1 with notes; the networks need about \S+ ", plan.err)
    assert run(*command) == 0
    done = capsys.readouterr()
    note = "the file is damaged ("
    assert note in plan.err
    assert note in done.err
    assert len(np.load(tmp_path / "out" / "cut_rgb.npy")) == num_rows < 6
    assert note in json.loads((tmp_path / "out" / "cut_rgb.json").read_text())["notes"][0]
    for more in (("--dry-run", "--overwrite"), ("--overwrite",)):
        assert run(*command, "--damaged", "refuse", *more) == 1
        assert "cut.avi is damaged" in capsys.readouterr().err


def test_joined_streams_are_not_silently_halved(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("extract", place / "clips/a/v.mp4", "--preset", "actionformer", "--out", tmp_path)
    rgb = ("--weights", place / "rgb.safetensors")
    assert run(*command, *rgb) == 1
    assert "joins rgb and flow features in one array, and there is no network for flow" in capsys.readouterr().err
    assert run(*command, *rgb, "--streams", "rgb") == 0
    assert np.load(tmp_path / "v.npy").shape[1] == 256


@pytest.mark.slow
def test_another_process_computes_the_same_features(place: Path, tmp_path: Path) -> None:
    """Runs the jobs of ``--ray`` in a local process."""
    settings = ExtractorSettings(
        (str(place / "rgb.safetensors"),), find_feature_preset("quovadis").with_options(window=16)
    )
    extractor = settings.build()
    for folder, num_workers in (("here", 0), ("there", 1)):
        jobs, _ = plan_jobs(list_videos([place / "clips"]), tmp_path / folder, extractor, ("rgb",))
        tasks = [(job, settings) for job in jobs]
        results = dict(run_jobs(extract_on_worker, tasks, num_workers=num_workers))
        assert [results[i].error for i in range(2)] == ["", ""]
    for name in ("a/v_rgb.npy", "b/v_rgb.npy"):
        assert np.array_equal(np.load(tmp_path / "here" / name), np.load(tmp_path / "there" / name))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_extract_on_a_cluster(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray", reason="needs the extra 'cluster'")
    arguments = ("--weights", place / "rgb.safetensors", "--out", tmp_path, "--window", 16, "--ray", "local")
    assert run("extract", place / "clips", *arguments) == 0
    assert capsys.readouterr().out.count(" x 256") == 2
