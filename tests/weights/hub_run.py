"""Run folder for tests of the Hugging Face Hub."""

from pathlib import Path

import pytest

from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo

LABELS = ("run|fast", "```jump\n# x", "schwimmen ü")
SOURCE = {
    "recipe": "tiny",
    "data": "squares",
    "data_fingerprint": "0123abc",
    "flow_method": None,
    "step": 20,
    "val_loss": 0.25,
    "val_accuracy": 0.875,
}


def write_run(folder: Path) -> Path:
    """Write the weights of a run folder."""
    state = build_model("i3d_tiny", num_classes=3).state_dict()
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 3}, LABELS, SOURCE)
    save_weights(folder / "best.safetensors", state, info)
    (folder / "last.pt").write_bytes(b"the optimizer")
    (folder / "recipe.json").write_text("{}")
    return folder


def bytes_of(run: Path) -> bytes:
    """Return the content of the weights file of the run."""
    return (run / "best.safetensors").read_bytes()


def stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set an endpoint that refuses connections."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
