import json
from pathlib import Path

import pytest

from quovadis.cli import main
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.http_server import serving


def run(*args: object) -> int:
    """The exit code of a command."""
    try:
        main([str(a) for a in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    return save_weights(path, build_model("i3d_tiny", num_classes=2).state_dict(), info)


def test_watch_a_file_and_a_url(weights: Path, clip_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("--weights", weights, "--stride-seconds", 0.24)
    assert run("watch", clip_path, *common, "--json") == 0
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [r["stop_seconds"] for r in rows] == [0.64, 0.88, 1.12, 1.2]
    assert sum(c["probability"] for c in rows[0]["top"]) == pytest.approx(1)
    assert "4 windows, 0 frames dropped" in captured.err
    with serving() as server:
        server.files["/v.mp4"] = clip_path.read_bytes()
        assert run("watch", f"{server.root}/v.mp4", *common) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run("watch", "nothing.mp4", *common) == 1
    assert "error: no file at nothing.mp4" in capsys.readouterr().err


def test_ctrl_c_stops_without_an_error(
    weights: Path, clip_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quovadis.inference.live.Watcher.row", interrupted)
    assert run("watch", clip_path, "--weights", weights) == 0
    assert "stopped\n0 windows" in capsys.readouterr().err
