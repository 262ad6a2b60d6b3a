"""Color images of flow."""

import math

import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.flow.draw import draw_flow, draw_legend


def color_of(x: float, y: float, longest_px: float = 1.0) -> list[int]:
    return draw_flow(torch.tensor([x, y]).view(1, 2, 1, 1), longest_px).flatten().tolist()


def test_directions_have_the_colors_of_the_wheel() -> None:
    assert color_of(1, 0) == [255, 0, 0]
    # The wheel has 55 colors; pure yellow is the 15th, green the 21st, cyan the 25th, blue the 36th.
    for number, color in ((15, [255, 255, 0]), (21, [0, 255, 0]), (25, [0, 255, 255]), (36, [0, 0, 255])):
        angle = 2 * math.pi * number / 55
        assert color_of(math.cos(angle) * 0.9999, math.sin(angle) * 0.9999) == pytest.approx(color, abs=1)


def test_short_vectors_are_pale_and_long_ones_dark() -> None:
    assert color_of(0, 0) == [255, 255, 255]
    assert color_of(0.5, 0) == [255, 128, 128]
    assert color_of(3, 0) == [191, 0, 0]


def test_longest_vector_sets_the_scale() -> None:
    flow = torch.zeros(2, 2, 1, 1)
    flow[1, 0] = 8.0
    flow[0, 0] = 4.0
    assert draw_flow(flow)[:, :, 0, 0].tolist() == [[255, 128, 128], [255, 0, 0]]


def test_legend_is_a_white_cornered_disc() -> None:
    legend = draw_legend(65)[0]
    assert legend[:, 0, 0].tolist() == [255, 255, 255]
    assert legend[:, 32, 32].tolist() == [255, 255, 255]
    assert legend[:, 32, 64].tolist() == [255, 0, 0]
    assert legend.dtype == torch.uint8


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="shape"):
        draw_flow(torch.zeros(2, 4, 4))
    with pytest.raises(InvalidInputError, match="longest_px"):
        draw_flow(torch.zeros(1, 2, 4, 4), 0.0)
