"""Tests of create_model and load_model."""

from pathlib import Path

import pytest
import torch

import quovadis
from quovadis.errors import UnknownNameError, WeightsError
from quovadis.weights.files import read_safetensors, save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import create_model, find_weights_file


def saved(path: Path, *, num_classes: int = 2, stream: str = "rgb") -> tuple[Path, torch.nn.Module]:
    model = create_model("i3d_tiny", stream=stream, num_classes=num_classes).eval()
    options = {"stream": stream, "num_classes": num_classes}
    return save_weights(path, model.state_dict(), WeightsInfo("i3d_tiny", options, ("run", "jump"))), model


def test_random_weights_are_in_training_mode_and_depend_on_the_seed() -> None:
    first, second = create_model("i3d_tiny", num_classes=3), create_model("i3d_tiny", num_classes=3)
    assert first.training
    assert not torch.equal(first.state_dict()["head.weight"], second.state_dict()["head.weight"])
    torch.manual_seed(5)
    first = create_model("i3d_tiny", num_classes=3)
    torch.manual_seed(5)
    second = create_model("i3d_tiny", num_classes=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_weights_of_a_file_are_in_evaluation_mode(tmp_path: Path) -> None:
    path, model = saved(tmp_path / "w.safetensors")
    loaded = quovadis.create_model("i3d_tiny", num_classes=2, weights=path)
    assert not loaded.training
    x = torch.randn(1, 3, 9, 64, 64)
    assert torch.equal(loaded(x), model(x))


def test_create_model_reads_the_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved(tmp_path / "w.safetensors")
    calls: list[Path] = []

    def read(path: Path) -> tuple[dict[str, torch.Tensor], WeightsInfo | None]:
        calls.append(path)
        return read_safetensors(path)

    monkeypatch.setattr("quovadis.weights.formats.read_safetensors", read)
    create_model("i3d_tiny", num_classes=2, weights=path)
    assert calls == [path]


@pytest.mark.parametrize(
    "asked", [{"num_classes": 3}, {"num_classes": 2, "stream": "flow"}, {"num_classes": 2, "name": "i3d"}], ids=str
)
def test_weights_of_another_model_are_refused(tmp_path: Path, asked: dict[str, str | int]) -> None:
    path, _ = saved(tmp_path / "w.safetensors")
    options = {"name": "i3d_tiny", **asked}
    with pytest.raises(WeightsError, match=r"contains .*'i3d_tiny'.*; requested"):
        create_model(**options, weights=path)  # type: ignore[arg-type]


def test_a_file_with_metadata_of_another_model_is_refused(tmp_path: Path) -> None:
    options = {"stream": "rgb", "num_classes": 2}
    path = save_weights(tmp_path / "w", {"a": torch.zeros(1)}, WeightsInfo("i3d_tiny", options, ("a", "b")))
    with pytest.raises(WeightsError, match="does not fit I3D: missing: "):
        create_model("i3d_tiny", num_classes=2, weights=path)


def test_run_folders_prefer_the_best_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"contains no weights: neither best.safetensors nor last.safetensors"):
        find_weights_file(tmp_path)
    last, _ = saved(tmp_path / "last.safetensors")
    assert find_weights_file(tmp_path) == last
    best, _ = saved(tmp_path / "best.safetensors")
    assert find_weights_file(tmp_path) == best
    assert find_weights_file(last) == last


def test_unknown_files_and_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file at"):
        create_model("i3d_tiny", weights=tmp_path / "none.safetensors")
    with pytest.raises(UnknownNameError, match="did you mean 'i3d_tiny'"):
        create_model("i3d_tinny")
