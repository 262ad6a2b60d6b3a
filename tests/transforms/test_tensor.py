"""to_model gives exactly the input of the official code."""

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.transforms import to_model


def test_every_level_equals_the_official_input() -> None:
    video = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    official = video.astype(np.float32) / np.float32(127.5) - np.float32(1)
    x = to_model(torch.from_numpy(video))
    assert x.dtype == torch.float32
    assert np.array_equal(x.numpy(), official.transpose(1, 0, 2, 3))
    assert (float(x.min()), float(x.max())) == (-1.0, 1.0)


def test_channels_come_before_time_with_and_without_a_batch() -> None:
    frames = torch.randint(0, 256, (2, 5, 3, 6, 7), dtype=torch.uint8)
    batch = to_model(frames)
    assert batch.shape == (2, 3, 5, 6, 7)
    assert torch.equal(batch[1], to_model(frames[1]))
    for t in range(5):
        for c in range(3):
            assert torch.equal(batch[:, c, t], frames[:, t, c].float().div(127.5).sub(1.0))


def test_input_is_not_modified() -> None:
    frames = torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)
    to_model(frames)
    assert (frames == 200).all()


@pytest.mark.parametrize(
    "frames",
    [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.int64), np.zeros((2, 3, 4, 4), np.uint8)],
    ids=["float", "int64", "numpy"],
)
def test_other_types_are_refused(frames: torch.Tensor) -> None:
    with pytest.raises(InvalidTypeError, match="to_model expects a uint8 tensor"):
        to_model(frames)


def test_single_image_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"\(3, 4, 4\)"):
        to_model(torch.zeros(3, 4, 4, dtype=torch.uint8))
