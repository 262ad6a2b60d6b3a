import json
import shutil
from pathlib import Path

import pytest

from quovadis.cli import main
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo


def run(*args: object) -> int:
    """The exit code of a command."""
    try:
        main([str(a) for a in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_segments_and_files(clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    weights = save_weights(tmp_path / "w.safetensors", build_model("i3d_tiny", num_classes=2).state_dict(), info)
    out = tmp_path / "out"
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no")
    assert run("timeline", bad, clip_path, "--weights", weights, "--out", out) == 1
    captured = capsys.readouterr()
    assert "0.00 s to     1.20 s" in captured.out
    assert "timeline in windows of 0.64 s every 0.32 s" in captured.out
    assert "1 of 2 videos could not be read" in captured.err
    assert sorted(p.suffix for p in out.iterdir()) == [".csv", ".json", ".png"]
    assert run("timeline", clip_path, "--weights", weights, "--out", out, "--json", "--top", 1) == 0
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert len(row["curves"]) == 1
    assert (row["window_seconds"], row["stride_seconds"]) == (0.64, 0.32)
    other = tmp_path / "other" / clip_path.name
    other.parent.mkdir()
    shutil.copy(clip_path, other)
    assert run("timeline", clip_path, other, "--weights", weights, "--out", out) == 1
    assert "would be written to one file" in capsys.readouterr().err
    assert run("timeline", "--weights", weights, "--out", out) == 1
