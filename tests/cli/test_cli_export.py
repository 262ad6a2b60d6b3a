import json
from pathlib import Path

import pytest

from quovadis.cli import main
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    info = WeightsInfo("conv3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    return save_weights(tmp_path / "best.safetensors", build_model("conv3d_tiny", num_classes=2).state_dict(), info)


def test_export_writes_a_file_and_prints_its_card(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "c3d.pt2"
    main(["export", str(weights), "--out", str(out), "--format", "torch-export"])
    shown = capsys.readouterr()
    assert "batch x 3 x 16 x 56 x 56" in shown.out
    assert "2 input sizes: largest difference" in shown.out
    assert "exporting conv3d_tiny" in shown.err
    card = json.loads((tmp_path / "out" / "c3d.pt2.json").read_text())
    assert card["labels"] == ["left", "right"]
    assert out.is_file()


def test_export_prints_json(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c3d.pt2"
    main(["export", str(weights), "-o", str(out), "--format", "torch-export", "--num-frames", "7", "--json"])
    card = json.loads(capsys.readouterr().out)
    assert card["inputs"][0]["shape"] == ["batch", 3, 7, 56, 56]


def test_export_reports_unsupported_size(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["export", str(weights), "--out", str(tmp_path / "x.onnx"), "--height-px", "8"])
    assert stop.value.code == 1
    assert "conv3d_tiny needs frames of at least 33 x 33 pixels; got 8 x 56" in capsys.readouterr().err
