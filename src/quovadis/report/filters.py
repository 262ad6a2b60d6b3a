"""Draw the filters of the first convolution over time (figure 4 of the paper)."""

import io

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.report.figure_text import lettering

_GAP = 1
_GROUP_GAP = 3
_FILTERS_PER_ROW = 4
_PIXELS_PER_WEIGHT = 6


def filter_sheet(weight: Tensor) -> Tensor:
    """Arrange all filters of a convolution in one image, each as a row of its time slices in temporal order.

    Each filter is scaled by its largest absolute weight; zero is mid gray. RGB filters are shown in color. Flow filters
    show x in red and y in green, with constant blue.

    Args:
        weight: float (filters, C, T, h, w) with C = 3 (RGB) or 2 (flow), or (filters, C, h, w) of a 2D network. In
            two dimensions an even C is a stack of flow frames: x and y of the first frame, x and y of the second ...

    Returns:
        uint8 (3, H, W), one pixel per weight; gaps are white.

    Raises:
        InvalidInputError: If the number of channels or dimensions is not supported.

    Example:
        >>> filter_sheet(torch.randn(64, 3, 7, 7, 7)).shape
        torch.Size([3, 127, 229])
    """
    weight = _over_time(weight)
    if weight.ndim != 5 or weight.shape[1] not in (2, 3):
        raise InvalidInputError(f"filters must have shape (filters, 3 or 2, T, h, w); got {tuple(weight.shape)}")
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
    for index in range(count):
        top, left = index // columns * cell_height, index % columns * cell_width
        for t in range(time):
            x = left + t * (width + _GAP)
            sheet[:, top : top + height, x : x + width] = pixels[index, :, t]
    return sheet


def draw_filters(weight: Tensor, title: str) -> bytes:
    """Draw the filters of a convolution as an enlarged PNG with a title.

    Args:
        weight: See :func:`filter_sheet`.
        title: First line of the title.

    Returns:
        The bytes of a PNG file.

    Example:
        >>> draw_filters(torch.randn(4, 3, 2, 2, 2), "first layer")[1:4]
        b'PNG'
    """
    from matplotlib.figure import Figure

    sheet = filter_sheet(weight)
    count, channels, slices = _over_time(weight).shape[:3]
    dpi = 100
    width, height = (side * _PIXELS_PER_WEIGHT / dpi for side in (sheet.shape[2], sheet.shape[1]))
    colors = "R, G, B" if channels == 3 else "x in red, y in green"
    caption = f"{count} filters, {slices} time slices each, early to late; {colors}"
    buffer = io.BytesIO()
    with lettering(title) as draw:
        figure = Figure(figsize=(width + 0.3, height + 0.75), dpi=dpi)
        axes = figure.add_axes(
            (0.15 / (width + 0.3), 0.1 / (height + 0.75), width / (width + 0.3), height / (height + 0.75))
        )
        axes.imshow(sheet.permute(1, 2, 0).numpy(), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{draw(title)}\n{caption}", fontsize=11)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _over_time(weight: Tensor) -> Tensor:
    """Add a time axis to the filters of a 2D network: one slice, or one per flow frame of a stack."""
    if weight.ndim != 4:
        return weight
    channels_per_frame = weight.shape[1] if weight.shape[1] % 2 else 2
    return weight.unflatten(1, (-1, channels_per_frame)).transpose(1, 2)
