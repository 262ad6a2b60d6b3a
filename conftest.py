"""Fixtures for the tests and for the doctests in the source."""

import os

# Threads that wait for each other sleep: set before the first import of torch, also for the processes that tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from tests.synthetic import moving_square, reference_data

if TYPE_CHECKING:
    from quovadis.models.video_model import VideoModel

# Two workers on two cores: more threads than cores only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

# Can be imported, to look for doctests, only where Triton is, or the extra web.
_NEEDS = {
    "src/quovadis/flow/tvl1_triton.py": "triton",
    "src/quovadis/models/triton_layers.py": "triton",
    "src/quovadis/web/server.py": "uvicorn",
}
collect_ignore = [file for file, module in _NEEDS.items() if not find_spec(module)]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that name the fixture ``shared``, so that ``-m shared`` selects them."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data next to the checkout; skips the test if there is none."""
    return reference_data()


@pytest.fixture(scope="session")
def pretrained() -> Path:
    """The official Kinetics-400 RGB network, fetched once into the user's cache; use with the marker ``pretrained``.

    Processes that ask at once wait for one download.
    """
    from quovadis.errors import DownloadError
    from quovadis.weights.catalog import DEFAULT_WEIGHTS
    from quovadis.weights.download import get_weights

    try:
        return get_weights(DEFAULT_WEIGHTS)
    except DownloadError as error:
        pytest.skip(f"needs the official network, and no source can be reached: {str(error).splitlines()[1].strip()}")


@pytest.fixture(scope="session")
def official(pretrained: Path) -> "VideoModel":
    """The official Kinetics-400 RGB network, loaded once; tests must not change it."""
    from quovadis.weights.catalog import DEFAULT_WEIGHTS
    from quovadis.weights.load import load_model

    return load_model(DEFAULT_WEIGHTS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, whatever ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless video of 30 frames at 25 fps, 64 x 48."""
    from quovadis.video.writer import LOSSLESS, write_video

    path = tmp_path_factory.mktemp("video") / "square.mp4"
    return write_video(path, moving_square(), fps=25, **LOSSLESS)
