"""Fixtures for tests of the Hugging Face Hub."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quovadis.weights.hub import _print_once
from tests.hub_server import TOKEN, Hub, serving_hub
from tests.weights.hub_run import write_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the weights of a small network."""
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Replace the Hub by a local server, and its cache by an empty one."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the extra hub")
    with serving_hub() as server:
        for name, value in {
            "ENDPOINT": server.root,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.root + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_TOKEN_PATH": str(tmp_path / "no-token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_PROGRESS_BARS": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        _print_once.cache_clear()
        yield server
