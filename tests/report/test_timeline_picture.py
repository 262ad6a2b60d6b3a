import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from quovadis.report.palette import _PALETTE, class_colors
from quovadis.report.timeline import Bar, _ticks, draw_timeline, num_thumbnails, thumbnail_times


def draw(**changes: object) -> np.ndarray:
    red, blue = (torch.zeros(3, 40, 60, dtype=torch.uint8) for _ in range(2))
    red[0] = 255
    blue[2] = 255
    values = {
        "frames": [red, red, blue, blue],
        "frame_seconds": [1.0, 3.0, 5.0, 7.0],
        "center_seconds": [1.0, 3.0, 5.0, 7.0],
        "curves": {"run": [0.9, 0.8, 0.1, 0.1], "jump": [0.1, 0.2, 0.9, 0.9]},
        "bars": [Bar(0.0, 4.0, "run", 0.9), Bar(4.0, 8.0, "jump", 0.9)],
        "span": (0.0, 8.0),
        "title": "v.mp4",
    }
    png = draw_timeline(**{**values, **changes})  # type: ignore[arg-type]
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def columns_of(image: np.ndarray, color: tuple[float, float, float], fraction: float) -> np.ndarray:
    """Columns of which at least this fraction has nearly this color."""
    close = (np.abs(image - np.array(color) * 255) < 12).all(2)
    return np.flatnonzero(close.mean(0) > fraction)


def test_filmstrip_and_segments_are_aligned_in_time() -> None:
    image = draw()
    red, blue = columns_of(image, (1, 0, 0), 0.1), columns_of(image, (0, 0, 1), 0.1)
    run = columns_of(image, to_rgb(_PALETTE[0]), 0.04)
    jump = columns_of(image, to_rgb(_PALETTE[1]), 0.04)
    for early, late in ((red, blue), (run, jump)):
        assert early.max() < late.min()
        assert early.max() == pytest.approx(late.min(), abs=9)
    assert red.max() == pytest.approx(run.max(), abs=4)
    assert len(red) == pytest.approx(len(blue), abs=4)


def test_classes_have_distinct_colors_and_gaps_are_white() -> None:
    image = draw(bars=[Bar(0.0, 2.0, "swim", 0.9), Bar(6.0, 8.0, "jump", 0.9)])
    swim = columns_of(image, to_rgb(_PALETTE[2]), 0.04)  # run and jump have curves and come first
    jump = columns_of(image, to_rgb(_PALETTE[1]), 0.04)
    assert len(swim) == pytest.approx(len(jump), abs=6)
    assert jump.min() - swim.max() == pytest.approx(2 * len(swim), rel=0.1)
    colors = class_colors([str(i) for i in range(40)])
    assert len(set(colors.values())) == 40
    assert all(max(to_rgb(color)) < 0.9 for color in colors.values()), "white text must be readable on every color"


def test_segments_of_low_probability_are_faded() -> None:
    faded = columns_of(draw(bars=[Bar(0.0, 8.0, "run", 0.49)]), to_rgb(_PALETTE[0]), 0.04)
    sure = columns_of(draw(bars=[Bar(0.0, 8.0, "run", 0.5)]), to_rgb(_PALETTE[0]), 0.04)
    assert len(sure) > 1000
    assert len(faded) < 50


def test_labels_that_do_not_fit_are_listed_below() -> None:
    short = [Bar(i / 10, (i + 1) / 10, f"class {i}", 0.9) for i in range(9)]
    assert draw(bars=short).shape[0] > draw().shape[0] + 60


def test_many_classes_and_long_videos() -> None:
    curves = {f"class number {i}": [i / 30] * 50 for i in range(23)}
    image = draw(
        curves=curves,
        center_seconds=[60.0 * i for i in range(50)],
        bars=[Bar(0.0, 3000.0, "class number 22", 1.0)],
        span=(0.0, 3000.0),
        frames=[torch.zeros(3, 96, 54, dtype=torch.uint8)] * num_thumbnails(9 / 16),
        frame_seconds=[100.0] * num_thumbnails(9 / 16),
    )
    assert image.shape[1] > 1000
    assert num_thumbnails(100.0) == 1


def test_each_segment_has_a_thumbnail_and_longer_segments_have_more() -> None:
    bars = [Bar(0, 1, "a", 1.0), Bar(1, 7, "b", 1.0), Bar(7, 9, "c", 1.0)]
    assert thumbnail_times(bars, (0, 9), 2) == [4.0, 8.0]
    assert thumbnail_times(bars, (0, 9), 3) == [0.5, 4.0, 8.0]
    times = thumbnail_times(bars, (0, 9), 9)
    assert times == sorted(times)
    assert [sum(b.start_seconds <= t < b.stop_seconds for t in times) for b in bars] == [1, 6, 2]
    assert thumbnail_times([], (2.0, 4.0), 2) == [2.5, 3.5]


@pytest.mark.parametrize("length", [0.3, 1.0, 2.56, 9.96, 59, 61, 125.97, 3600, 40000])
def test_ticks_are_round(length: float) -> None:
    ticks = _ticks((0.04, length))
    steps = np.diff(ticks)
    assert 2 <= len(ticks) <= 13
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert ticks[0] >= 0.04 - 1e-9
    assert ticks[-1] <= length + 1e-9
