import io

import numpy as np
import pytest
import torch
from PIL import Image

from quovadis.errors import InvalidInputError
from quovadis.report.filters import draw_filters, filter_sheet


def test_each_filter_is_a_row_of_its_time_slices() -> None:
    """Set one weight per time slice and check its position in the sheet."""
    weight = torch.zeros(64, 3, 7, 7, 7)
    for t in range(7):
        weight[9, 0, t, t, 2] = 1.0
        weight[9, 2, t, 6 - t, 4] = -1.0
    sheet = filter_sheet(weight)
    assert sheet.shape == (3, 16 * 8 - 1, 4 * 58 - 3)
    top, left = 2 * 8, 1 * 58  # filter 9 is the second in the third row
    for t in range(7):
        x = left + t * 8
        assert sheet[:, top + t, x + 2].tolist() == [255, 128, 128]
        assert sheet[:, top + 6 - t, x + 4].tolist() == [128, 128, 0]
    assert (sheet[:, top + 7] == 255).all()
    gray = filter_sheet(torch.zeros(64, 3, 7, 7, 7))
    assert set(gray.unique().tolist()) == {128, 255}


def test_filters_are_scaled_separately_and_flow_has_constant_blue() -> None:
    weight = torch.randn(8, 2, 7, 7, 7)
    weight[3] *= 1000
    sheet = filter_sheet(weight)
    assert sheet[2].unique().tolist() == [128, 255]
    assert filter_sheet(weight * 0.01).equal(sheet)


def test_2d_rgb_filters_have_one_slice() -> None:
    assert filter_sheet(torch.randn(64, 3, 7, 7)).shape == (3, 127, 4 * 10 - 3)
    with pytest.raises(InvalidInputError, match=r"got \(64, 5, 1, 7, 7\)"):
        filter_sheet(torch.randn(64, 5, 7, 7))


def test_stacked_flow_frames_are_drawn_as_time_slices() -> None:
    """Alternating x and y channels of ten frames are drawn like 3D filters with ten time slices."""
    weight = torch.randn(64, 2, 10, 7, 7)
    stacked = torch.stack([weight[:, c, t] for t in range(10) for c in range(2)], 1)
    assert stacked.shape == (64, 20, 7, 7)
    assert filter_sheet(stacked).equal(filter_sheet(weight))
    assert len(draw_filters(stacked, "weights")) > 1000


def test_the_png_shows_the_sheet() -> None:
    weight = torch.randn(64, 3, 7, 7, 7)
    picture = np.asarray(Image.open(io.BytesIO(draw_filters(weight, "weights"))).convert("RGB"))
    sheet = filter_sheet(weight).permute(1, 2, 0).numpy()
    # Each weight is six pixels wide; the sheet is at the bottom of the image.
    top, left = picture.shape[0] - sheet.shape[0] * 6 - 10, 15
    shown = picture[top + 3 : top + 3 + sheet.shape[0] * 6 : 6, left + 3 : left + 3 + sheet.shape[1] * 6 : 6]
    assert shown.shape == sheet.shape
    assert np.abs(shown.astype(int) - sheet).mean() < 2
