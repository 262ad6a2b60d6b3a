"""Fixtures for all tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from quovadis.datasets.loader import VideoDataLoader
from tests.http_server import Server, serving
from tests.synthetic import write_square


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labeled videos with classes ``left`` and ``right``: per class 6 train, 2 val and 3 test videos."""
    root = tmp_path_factory.mktemp("data") / "squares"
    for index, (split, count) in enumerate((("train", 6), ("val", 2), ("test", 3))):
        for i in range(count):
            for label in ("left", "right"):
                write_square(root / split / label / f"{i}.mp4", seed=100 * index + i, reverse=label == "left")
    return root


@pytest.fixture
def server() -> Iterator[Server]:
    """A local HTTP server whose responses are controlled by the test."""
    with serving() as server:
        yield server


@pytest.fixture
def closed_loaders(monkeypatch: pytest.MonkeyPatch) -> list[VideoDataLoader]:
    """The data loaders that the test has closed."""
    closed: list[VideoDataLoader] = []
    monkeypatch.setattr(VideoDataLoader, "close", lambda loader: closed.append(loader))
    return closed


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train on the CPU even if there is a GPU, whose results are not bit-identical between runs."""
    monkeypatch.setattr("quovadis.training.precision._device", lambda: torch.device("cpu"))
