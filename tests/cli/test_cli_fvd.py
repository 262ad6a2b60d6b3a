import json
from pathlib import Path

import pytest

from quovadis.cli import main
from quovadis.models.zoo import build_model
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
    """Folders ``real`` and ``made`` and a weights file."""
    root = tmp_path_factory.mktemp("fvd")
    for name, seed in (("real", 0), ("made", 50)):
        for i in range(3):
            write_video(root / name / f"{i}.mp4", moving_square(12, 40, 48, seed + i), **LOSSLESS)
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("a", "b"))
    save_weights(root / "w.safetensors", build_model("i3d_tiny", num_classes=2).state_dict(), info)
    return root


def test_fvd_with_card_and_saved_embeddings(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--protocol", "own", "--weights", place / "w.safetensors", "--num-resamples", 20)
    assert run("fvd", place / "real", place / "made", *own, "--out", tmp_path) == 0
    text = capsys.readouterr().out
    assert text.startswith("FVD ")
    for words in ("95% bootstrap interval", "3 videos of real", "40x48", "network    i3d_tiny logits"):
        assert words in text
    kept = json.loads((tmp_path / "fvd.json").read_text())
    assert kept["real"]["num_videos"] == 3
    assert run("fvd", tmp_path / "real.npz", place / "made", *own, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["frechet_video_distance"] == kept["frechet_video_distance"]
    assert again["real"] == kept["real"]
    assert run("fvd", tmp_path / "real.npz", place / "made", *own, "--num-frames", 10) == 1
    assert "num_frames is 12 and 10" in capsys.readouterr().err


def test_wrong_weights_and_unreadable_videos(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fvd", place / "real", place / "made", "--weights", place / "w.safetensors") == 1
    assert "protocol 'reference' needs the network 'i3d-rgb-kinetics400'" in capsys.readouterr().err
    for i in (0, 1):
        write_video(tmp_path / f"{i}.mp4", moving_square(12, 40, 48, i), **LOSSLESS)
    (tmp_path / "2.mp4").write_bytes(b"no")
    own = ("--protocol", "own", "--weights", place / "w.safetensors", "--num-resamples", 0)
    assert run("fvd", place / "real", tmp_path, *own) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("FVD ")
    assert "error: 2.mp4: " in captured.err
    assert "1 of 6 videos could not be read" in captured.err


def test_report(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("--protocol", "own", "--weights", place / "w.safetensors", "--num-resamples", 0)
    assert run("fvd", place / "real", place / "made", *own, "--report", tmp_path / "a.html", "--out", tmp_path) == 0
    assert f"wrote {tmp_path / 'a.html'}" in capsys.readouterr().err
    page = (tmp_path / "a.html").read_text()
    assert page.count("src='data:image/jpeg;base64,") == 6
    assert "0.mp4" in page
    assert run("fvd", tmp_path / "real.npz", place / "made", *own, "--report", tmp_path / "b.html") == 0
    assert (tmp_path / "b.html").read_text().count("src='data:image/jpeg;base64,") == 3
