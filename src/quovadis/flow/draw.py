"""Draw optical flow as color images: hue is direction, saturation is length."""

import math
from functools import cache

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError

# Number of steps between neighboring pure colors of the wheel: red, yellow, green, cyan, blue, magenta, red. Steps are
# finer where color perception is better.
_ARCS = (15, 6, 4, 11, 13, 6)


def draw_flow(flow: Tensor, longest_px: float | None = None) -> Tensor:
    """Draw flow with the color wheel of the Middlebury benchmark.

    Zero flow is white, vectors of ``longest_px`` are fully saturated, and longer ones are darkened. Red points right,
    yellow down, cyan left and blue up.

    Args:
        flow: float32 tensor (T, 2, H, W) in pixels; channel 0 points right, channel 1 down.
        longest_px: Length of fully saturated vectors; None uses the length of the longest vector.

    Returns:
        uint8 tensor (T, 3, H, W), RGB.

    Raises:
        InvalidInputError: If the shape of ``flow`` is wrong, or ``longest_px`` is not above 0.

    Example:
        >>> draw_flow(torch.zeros(1, 2, 4, 4)).unique()
        tensor([255], dtype=torch.uint8)

    References:
        S. Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011, and its color-coding
        program.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise InvalidInputError(f"flow must have shape (T, 2, H, W); got {tuple(flow.shape)}")
    if longest_px is not None and not longest_px > 0:
        raise InvalidInputError(f"longest_px must be above 0; got {longest_px}")
    length = flow.square().sum(1).sqrt()
    longest = longest_px if longest_px is not None else float(length.max()) if length.numel() else 0.0
    strength = (length / (longest or 1.0))[:, None]
    wheel = _color_wheel().to(flow.device)
    angle = torch.atan2(flow[:, 1], flow[:, 0]) / (2 * math.pi) % 1.0
    position = angle * len(wheel)
    low = position.floor().long() % len(wheel)
    weight = (position - position.floor())[..., None]
    color = (wheel[low] * (1 - weight) + wheel[(low + 1) % len(wheel)] * weight).movedim(-1, 1)
    color = torch.where(strength <= 1, 1 - strength * (1 - color), color * 0.75)
    return (color * 255).round().to(torch.uint8)


def draw_legend(size_px: int = 151) -> Tensor:
    """Draw the color wheel: each pixel has the color of the vector from the center to it.

    Args:
        size_px: Height and width of the image.

    Returns:
        uint8 tensor (1, 3, size_px, size_px), RGB; white outside of the wheel.

    Example:
        >>> draw_legend(33).shape
        torch.Size([1, 3, 33, 33])
    """
    axis = torch.linspace(-1, 1, size_px)
    flow = torch.stack([axis.expand(size_px, -1), axis[:, None].expand(-1, size_px)])[None]
    return draw_flow(flow, 1.0).masked_fill((flow.square().sum(1, keepdim=True) > 1), 255)


@cache
def _color_wheel() -> Tensor:
    """Return colors (55, 3) in [0, 1] of directions, clockwise from right."""
    pure = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
    arcs = [
        start + (end - start) * (torch.arange(steps) / steps)[:, None]
        for start, end, steps in zip(pure, pure[1:], _ARCS, strict=False)
    ]
    return torch.cat(arcs)
