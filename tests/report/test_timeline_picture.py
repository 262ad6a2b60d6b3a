import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from quovadis.report.timeline import _PALETTE, count_pictures, draw_timeline


def picture(**changes: object) -> np.ndarray:
    red, blue = (torch.zeros(3, 40, 60, dtype=torch.uint8) for _ in range(2))
    red[0] = 255
    blue[2] = 255
    values = {
        "pictures": [red, red, blue, blue],
        "center_seconds": [1.0, 3.0, 5.0, 7.0],
        "curves": {"run": [0.9, 0.8, 0.1, 0.1], "jump": [0.1, 0.2, 0.9, 0.9]},
        "segments": [(0.0, 4.0, "run"), (4.0, 8.0, "jump")],
        "span": (0.0, 8.0),
        "title": "v.mp4",
    }
    png = draw_timeline(**{**values, **changes})  # type: ignore[arg-type]
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def columns_of(image: np.ndarray, color: tuple[float, float, float], share: float) -> np.ndarray:
    """Columns of which at least this share has nearly this colour."""
    close = (np.abs(image - np.array(color) * 255) < 12).all(2)
    return np.flatnonzero(close.mean(0) > share)


def test_strip_and_segments_lie_over_the_same_time() -> None:
    image = picture()
    red, blue = columns_of(image, (1, 0, 0), 0.1), columns_of(image, (0, 0, 1), 0.1)
    run = columns_of(image, to_rgb(_PALETTE[0]), 0.04)
    jump = columns_of(image, to_rgb(_PALETTE[1]), 0.04)
    middle = image.shape[1] / 2
    for early, late in ((red, blue), (run, jump)):
        assert early.max() < late.min()
        assert early.max() == pytest.approx(late.min(), abs=9)
    assert red.max() == pytest.approx(run.max(), abs=4)
    assert abs(red.max() - middle) < 40
    assert len(red) == pytest.approx(len(blue), abs=4)


def test_a_class_without_a_curve_is_grey_and_a_gap_stays_white() -> None:
    image = picture(segments=[(0.0, 2.0, "swim"), (6.0, 8.0, "jump")])
    grey = columns_of(image, to_rgb("#b8c0c8"), 0.04)
    jump = columns_of(image, to_rgb(_PALETTE[1]), 0.04)
    assert len(grey) == pytest.approx(len(jump), abs=6)
    assert jump.min() - grey.max() == pytest.approx(2 * len(grey), rel=0.1)


def test_many_classes_and_long_videos() -> None:
    curves = {f"class number {i}": [i / 30] * 50 for i in range(23)}
    image = picture(
        curves=curves,
        center_seconds=[60.0 * i for i in range(50)],
        segments=[(0.0, 3000.0, "class number 22")],
        span=(0.0, 3000.0),
        pictures=[torch.zeros(3, 96, 54, dtype=torch.uint8)] * count_pictures(9 / 16),
    )
    assert image.shape[1] > 1000
    assert count_pictures(100.0) == 1
