"""Fixtures of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_server import Server, serving
from tests.synthetic import write_square


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of labeled videos: train/val/test, classes ``left`` and ``right``, 6 + 2 + 3 of each."""
    root = tmp_path_factory.mktemp("data") / "squares"
    for number, (split, count) in enumerate((("train", 6), ("val", 2), ("test", 3))):
        for i in range(count):
            for label in ("left", "right"):
                write_square(root / split / label / f"{i}.mp4", seed=100 * number + i, reverse=label == "left")
    return root


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers as the test says."""
    with serving() as server:
        yield server
