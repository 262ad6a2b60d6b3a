import io

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.report.activation_maps import draw_filmstrip, full_color_evidence, overlay_maps


def test_overlay_is_brightest_at_the_largest_evidence() -> None:
    frames = torch.full((2, 3, 40, 60), 60, dtype=torch.uint8)
    maps = torch.zeros(2, 4, 4)
    maps[0, 0, 3] = 5.0
    maps[1] = -5.0
    drawn = overlay_maps(frames, maps, max_evidence=5.0, crop_px=40)
    assert drawn.shape == frames.shape
    change = (drawn[0].float() - 60).abs().sum(0)[:, 10:50]
    row, column = divmod(int(change.argmax()), 40)
    assert row < 10
    assert column >= 30
    assert change[20:, :20].max() == 0
    assert (drawn[1, :, :, 10:50] == 60).all(), "evidence against the class is not drawn"
    assert (drawn[:, :, :, :10] == 30).all(), "pixels outside the network's input are darkened"


def test_a_peak_does_not_fade_the_evidence_in_other_frames() -> None:
    maps = torch.full((30, 7, 7), -1.0)
    maps[:, 2:5, 2:5] = 2.0
    maps[3, 0, 0] = 100.0
    assert full_color_evidence(maps) == 2.0
    assert full_color_evidence(torch.tensor([[[-1.0, 0.0, 3.0]]])) == 3.0
    assert full_color_evidence(-maps.abs()) == 1.0


def test_max_evidence_sets_the_scale() -> None:
    frames = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    full = overlay_maps(frames, torch.ones(1, 1, 1), max_evidence=1.0, crop_px=8)
    half = overlay_maps(frames, torch.ones(1, 1, 1), max_evidence=2.0, crop_px=8)
    assert full.float().mean() > half.float().mean() > 0


@pytest.mark.parametrize(
    ("num_maps", "crop_px", "max_evidence"), [(2, 8, 1.0), (1, 9, 1.0), (1, 0, 1.0), (1, 8, 0.0), (1, 8, float("nan"))]
)
def test_mismatched_arguments_raise_invalid_input_error(num_maps: int, crop_px: int, max_evidence: float) -> None:
    frames = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(InvalidInputError, match="one map per frame"):
        overlay_maps(frames, torch.zeros(num_maps, 2, 2), max_evidence=max_evidence, crop_px=crop_px)


def test_filmstrip_shows_every_frame_and_accepts_any_title() -> None:
    from PIL import Image

    frames = torch.zeros(3, 3, 40, 60, dtype=torch.uint8)
    frames[0, 0], frames[1, 1], frames[2, 2] = 255, 255, 255
    png = draw_filmstrip(frames, [0.0, 1.0, 2.5], title="$\\frac{$ [/b] <b>")
    pixels = torch.from_numpy(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).copy())
    middle = pixels[pixels.shape[0] // 2]
    colors = torch.unique_consecutive(middle, dim=0).tolist()
    order = [c for c in colors if c in ([255, 0, 0], [0, 255, 0], [0, 0, 255])]
    assert order == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
