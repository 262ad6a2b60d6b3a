"""Fixtures for tests and doctests."""

import gc
import os

import quovadis  # noqa: F401  sets the thread policy before torch is imported

# With several test processes, more threads than cores slow each other down. Set before the first import of torch, also
# for processes started by tests.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.synthetic import moving_square, reference_data

if TYPE_CHECKING:
    from quovadis.models.video_model import VideoModel

# Modules that need an optional dependency cannot be imported to collect doctests.
_NEEDS = {
    "src/quovadis/flow/tvl1_triton.py": "triton",
    "src/quovadis/models/triton_layers.py": "triton",
    "src/quovadis/web/server.py": "uvicorn",
}
collect_ignore = [file for file, module in _NEEDS.items() if not find_spec(module)]
# A script that is copied next to exported files.
collect_ignore += ["src/quovadis/export/templates/run.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the fixture ``shared``, so that ``-m shared`` selects them."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


def pytest_collection_finish() -> None:
    """Exclude the modules and the collected tests, which stay until the end, from garbage collection.

    Each full collection would visit them, which takes up to a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference data next to the checkout. Skips the test if it does not exist."""
    return reference_data()


@pytest.fixture(scope="session")
def pretrained() -> Path:
    """Path of the official Kinetics-400 RGB network, downloaded once. Use it with the marker ``pretrained``."""
    from quovadis.errors import DownloadError
    from quovadis.weights.catalog import DEFAULT_WEIGHTS
    from quovadis.weights.download import get_weights

    try:
        return get_weights(DEFAULT_WEIGHTS)
    except DownloadError as error:
        pytest.skip(f"needs the official network, which cannot be downloaded: {str(error).splitlines()[1].strip()}")


@pytest.fixture(scope="session")
def official(pretrained: Path) -> "VideoModel":
    """The official Kinetics-400 RGB network. Tests must not modify it."""
    from quovadis.weights.catalog import DEFAULT_WEIGHTS
    from quovadis.weights.load import load_model

    return load_model(DEFAULT_WEIGHTS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Start every test with the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lossless video with 30 frames of 64 x 48 pixels at 25 fps."""
    from quovadis.video.writer import LOSSLESS, write_video

    path = tmp_path_factory.mktemp("video") / "square.mp4"
    return write_video(path, moving_square(), fps=25, **LOSSLESS)
