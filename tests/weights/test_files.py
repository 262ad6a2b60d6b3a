"""Tests of reading and writing weights files of quovadis."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quovadis.errors import StorageError, WeightsError
from quovadis.models.zoo import build_model
from quovadis.runtime.atomic import write_atomically
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.state_dict import fit_state

INFO = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("run", "jump"), {"recipe": "tiny", "step": 7})


def test_saving_and_loading_preserves_every_bit(tmp_path: Path) -> None:
    state = {
        "single": torch.tensor([0.1, -0.0, float("inf"), float("nan"), 1e-45]),
        "double": torch.rand(3, 4, dtype=torch.float64),
        "half": torch.rand(5).half(),
        "bfloat": torch.rand(5).bfloat16(),
        "count": torch.tensor(2**40),
        "turned": torch.rand(4, 6).T,
        "empty": torch.zeros(0, 3),
    }
    path = save_weights(tmp_path / "new" / "w.safetensors", state, INFO)
    loaded, info = load_weights(path)
    assert info == INFO
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert (
            loaded[name].contiguous().numpy().tobytes() == tensor.contiguous().numpy().tobytes()
            if (tensor.dtype != torch.bfloat16)
            else torch.equal(loaded[name], tensor)
        )


def test_a_saved_model_gives_the_same_output(tmp_path: Path) -> None:
    model = build_model("i3d_tiny", num_classes=2).eval()
    path = save_weights(tmp_path / "w.safetensors", model.state_dict(), INFO)
    other = build_model("i3d_tiny", num_classes=2).eval()
    fit_state(other, load_weights(path)[0], "w")
    x = torch.randn(1, 3, 9, 64, 64)
    assert torch.equal(model(x), other(x))


def test_labels_may_contain_any_characters(tmp_path: Path) -> None:
    info = WeightsInfo("i3d", {}, ("跳舞", 'massaging "person\'s" head', "née"), {})
    assert load_weights(save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, info))[1] == info


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file at"):
        load_weights(tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="no weights file at"):
        load_weights(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100, (10).to_bytes(8, "little") + b"{}"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a valid safetensors file"):
        load_weights(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "w.safetensors", {"a": torch.rand(100)}, INFO)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(WeightsError, match="is not a valid safetensors file"):
        load_weights(path)


def test_a_file_without_metadata_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not state which model it contains"):
        load_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "header",
    [
        "not json",
        "[]",
        json.dumps({"format": 1, "model": "i3d"}),
        json.dumps({"format": 2, "model": "i3d", "options": {}, "labels": [], "source": {}}),
    ],
    ids=["text", "a list", "fields missing", "a later format"],
)
def test_invalid_metadata_is_refused(tmp_path: Path, header: str) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", metadata={"quovadis": header})
    with pytest.raises(WeightsError, match="has invalid metadata in its header"):
        load_weights(tmp_path / "w.safetensors")


def test_fit_state_lists_all_problems_and_leaves_the_model_unchanged() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
    state = model.state_dict()
    del state["0.bias"]
    state["1.weight"] = torch.zeros(4, 5)
    state["2.weight"] = torch.zeros(1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        fit_state(model, state, "w.safetensors")
    message = str(caught.value)
    assert message.startswith("w.safetensors does not fit Sequential: ")
    assert "missing: 0.bias" in message
    assert "unknown: 2.weight" in message
    assert "1.weight: file has (4, 5), model has (4, 3)" in message
    assert "more" not in message
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_fit_state_counts_further_problems() -> None:
    with pytest.raises(WeightsError, match="and 225 more"):
        fit_state(build_model("i3d_tiny"), {}, "empty")


@pytest.mark.parametrize("broken", ["fsync", "replace", "write"])
def test_a_failed_write_keeps_the_existing_file(tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_weights(tmp_path / "best.safetensors", {"a": torch.ones(3)}, INFO)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if broken == "write":
            patch.setattr(Path, "open", full)
        else:
            patch.setattr(os, broken, full)
        with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; an existing file"):
            save_weights(path, {"a": torch.zeros(3)}, INFO)
    assert torch.equal(load_weights(path)[0]["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_file_size_limit_keeps_the_existing_file(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    target = write_atomically(tmp_path / "file", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StorageError, match="File too large"):
            write_atomically(target, bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_writing_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").mkdir()
    (tmp_path / "text").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        save_weights(tmp_path / "w.safetensors", {"a": torch.ones(3)}, INFO)
    with pytest.raises(StorageError, match="cannot write"):
        save_weights(tmp_path / "text" / "w.safetensors", {"a": torch.ones(3)}, INFO)
