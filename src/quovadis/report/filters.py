"""Figure 4 of the paper: the first convolution's filters over time."""

import io

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.report.lettering import lettering

_GAP = 1
_GROUP_GAP = 3
_FILTERS_PER_ROW = 4
_PIXELS_PER_WEIGHT = 6


def filter_sheet(weight: Tensor) -> Tensor:
    """All filters of a convolution as one picture: a filter is a row of its time slices, early to late.

    Each filter is scaled by its own largest absolute weight, so zero is mid gray. RGB filters are shown in color. Flow
    filters have x in red and y in green, and blue stays gray.

    Args:
        weight: float (filters, C, T, h, w) with C = 3 (RGB) or 2 (flow), or without T for a 2D network, whose time
            slices are the flow frames of a stack: x and y of the first, x and y of the second ...

    Returns:
        uint8 (3, H, W), one pixel for each weight; gaps are white.

    Raises:
        InvalidInputError: another number of channels or dimensions.

    >>> filter_sheet(torch.randn(64, 3, 7, 7, 7)).shape
    torch.Size([3, 127, 229])
    """
    weight = _over_time(weight)
    if weight.ndim != 5 or weight.shape[1] not in (2, 3):
        raise InvalidInputError(f"filters to draw are (filters, 3 or 2, T, h, w); got {tuple(weight.shape)}")
    weight = weight.detach().float().cpu()
    count, channels, time, height, width = weight.shape
    if channels == 2:
        weight = torch.cat([weight, torch.zeros(count, 1, time, height, width)], 1)
    largest = weight.abs().flatten(1).amax(1).clamp_min(1e-12).view(-1, 1, 1, 1, 1)
    pixels = ((weight / largest + 1) * 127.5).round().to(torch.uint8)
    columns = min(_FILTERS_PER_ROW, count)
    rows = -(-count // columns)
    cell_height, cell_width = height + _GAP, time * (width + _GAP) - _GAP + _GROUP_GAP
    sheet = torch.full((3, rows * cell_height - _GAP, columns * cell_width - _GROUP_GAP), 255, dtype=torch.uint8)
    for number in range(count):
        top, left = number // columns * cell_height, number % columns * cell_width
        for t in range(time):
            x = left + t * (width + _GAP)
            sheet[:, top : top + height, x : x + width] = pixels[number, :, t]
    return sheet


def draw_filters(weight: Tensor, title: str) -> bytes:
    """The same as a titled PNG, enlarged so that single weights can be seen.

    Args:
        weight: as for :func:`filter_sheet`.
        title: what the weights are.

    Returns:
        The bytes of a PNG file.
    """
    from matplotlib.figure import Figure

    sheet = filter_sheet(weight)
    count, channels, slices = _over_time(weight).shape[:3]
    dpi = 100
    width, height = (side * _PIXELS_PER_WEIGHT / dpi for side in (sheet.shape[2], sheet.shape[1]))
    colors = "R, G, B" if channels == 3 else "x in red, y in green"
    words = f"{count} filters, {slices} time slices each, early to late; {colors}"
    buffer = io.BytesIO()
    with lettering(title) as draw:
        figure = Figure(figsize=(width + 0.3, height + 0.75), dpi=dpi)
        axes = figure.add_axes(
            (0.15 / (width + 0.3), 0.1 / (height + 0.75), width / (width + 0.3), height / (height + 0.75))
        )
        axes.imshow(sheet.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{draw(title)}\n{words}", fontsize=11)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _over_time(weight: Tensor) -> Tensor:
    """The filters of a 2D network with a time axis: one slice, or one for each flow frame of a stack."""
    if weight.ndim != 4:
        return weight
    of_a_frame = weight.shape[1] if weight.shape[1] % 2 else 2
    return weight.unflatten(1, (-1, of_a_frame)).transpose(1, 2)
