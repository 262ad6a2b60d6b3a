"""Fixtures for the tests and for the doctests in the source."""

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

# Two workers on two cores: more threads than cores only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)

SHARED = Path(__file__).parent.parent / "shared"

# Can be imported, to look for doctests, only where Triton is.
collect_ignore = [] if find_spec("triton") else ["src/quovadis/flow/tvl1_triton.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what needs the reference data beside the checkout."""
    if SHARED.is_dir():
        return
    skip = pytest.mark.skip(reason="needs the reference data in ../shared")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data; use with the marker ``shared``."""
    return SHARED


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, whatever ran before."""
    torch.manual_seed(0)


def moving_square(num_frames: int = 30, height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    """uint8 (T, 3, H, W): a bright square that moves over fixed noise; every frame differs from every other."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 90, (1, 3, height, width), dtype=np.uint8), num_frames, axis=0)
    for t in range(num_frames):
        left = t % max(width - 10, 1)
        frames[t, :, 8:18, left : left + 10] = 200
        frames[t, :, 0, 0] = t
    return torch.from_numpy(frames)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lossless video of 30 frames at 25 fps, 64 x 48."""
    from quovadis.video.writer import LOSSLESS, write_video

    path = tmp_path_factory.mktemp("video") / "square.mp4"
    return write_video(path, moving_square(), fps=25, **LOSSLESS)
