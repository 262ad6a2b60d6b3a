"""Training in double precision, to compare runs without rounding errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from quovadis.models.video_model import VideoModel
from quovadis.transforms import to_model
from quovadis.weights.load import create_model


@contextmanager
def float64() -> Iterator[None]:
    """Train in double precision within the block."""

    def create(*args: Any, **options: Any) -> VideoModel:
        return create_model(*args, **options).double()

    with (
        patch("quovadis.training.build.create_model", create),
        patch("quovadis.training.clips.to_model", lambda x: to_model(x).double()),
    ):
        yield
