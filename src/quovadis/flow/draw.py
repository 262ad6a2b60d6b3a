"""Pictures of flow: the color is the direction, its strength the speed."""

import math
from functools import cache

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError

# Colors from one pure color to the next on the wheel: red, yellow, green, cyan, blue, magenta and red again.
# The steps are finer where the eye tells colors apart better.
_ARCS = (15, 6, 4, 11, 13, 6)


def draw_flow(flow: Tensor, longest_px: float | None = None) -> Tensor:
    """Color pictures of flow with the color wheel of the Middlebury benchmark.

    No motion is white; the longest vector has the full color, longer ones are darkened. Red points right, and
    the wheel turns over yellow (down), cyan (left) and blue (up).

    Args:
        flow: float32 (T, 2, H, W) in pixels, x to the right and y down.
        longest_px: the length that gets the full color; None takes the longest vector of all frames.

    Returns:
        uint8 (T, 3, H, W), RGB.

    Raises:
        InvalidInputError: another shape, or ``longest_px`` not above 0.

    Source: S. Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011, after the wheel of
    its color-coding program.

    >>> draw_flow(torch.zeros(1, 2, 4, 4)).unique()
    tensor([255], dtype=torch.uint8)
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
    part = (position - position.floor())[..., None]
    color = (wheel[low] * (1 - part) + wheel[(low + 1) % len(wheel)] * part).movedim(-1, 1)
    color = torch.where(strength <= 1, 1 - strength * (1 - color), color * 0.75)
    return (color * 255).round().to(torch.uint8)


def draw_legend(size_px: int = 151) -> Tensor:
    """The wheel itself: the color of every vector from the middle outwards.

    Returns:
        uint8 (1, 3, size_px, size_px), RGB; white outside.

    >>> draw_legend(33).shape
    torch.Size([1, 3, 33, 33])
    """
    along = torch.linspace(-1, 1, size_px)
    flow = torch.stack([along.expand(size_px, -1), along[:, None].expand(-1, size_px)])[None]
    picture = draw_flow(flow, 1.0)
    return picture.masked_fill((flow.square().sum(1, keepdim=True) > 1), 255)


@cache
def _color_wheel() -> Tensor:
    """float32 (55, 3) in [0, 1]: the colors of directions from right over down, left and up to right again."""
    pure = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]])
    arcs = [
        start + (end - start) * (torch.arange(steps) / steps)[:, None]
        for start, end, steps in zip(pure, pure[1:], _ARCS, strict=False)
    ]
    return torch.cat(arcs)
