"""What TV-L1 can be told, under the symbols of the papers and with the defaults of OpenCV."""

import math
from dataclasses import dataclass

from quovadis.errors import InvalidInputError

MIN_SIDE_PX = 16
"""A level of the pyramid is at least this wide and high (as in OpenCV); so must the frames be."""


@dataclass(frozen=True)
class TVL1Parameters:
    """Parameters of TV-L1 optical flow; the defaults are those of OpenCV's ``DualTVL1OpticalFlow``.

    The model: find the flow u that makes ``integral of |grad u1| + |grad u2| + lambda |I1(x + u) - I0(x)|`` small
    (Zach, Pock, Bischof 2007, eq. 3; Sánchez, Meinhardt, Facciolo 2013, IPOL). Pixels are in [0, 255]. OpenCV's
    illumination term (its ``gamma``, 0 by default and not in the papers) is left out.

    >>> TVL1Parameters().num_scales, TVL1Parameters(num_warps=2).attachment
    (5, 0.15)
    >>> TVL1Parameters(time_step=0.7)
    Traceback (most recent call last):
    quovadis.errors.InvalidInputError: time_step (tau) must be above 0 and at most 0.25; got 0.7
    """

    time_step: float = 0.25
    """tau: step of the dual iteration; above 1/4 it need not converge (Chambolle 2004)."""
    attachment: float = 0.15
    """lambda: weight of the data term; smaller is smoother."""
    tightness: float = 0.3
    """theta: how tightly the auxiliary flow v is bound to u."""
    num_scales: int = 5
    """Levels of the pyramid; levels with a side under 16 px are left out."""
    scale_step: float = 0.8
    """eta: size of a level, as a part of the one below it."""
    num_warps: int = 5
    """Times per level that the second picture is warped by the flow and linearised anew."""
    num_outer_iterations: int = 10
    """Rounds per warp; each begins with the median filter."""
    num_inner_iterations: int = 30
    """Most steps of the primal-dual iteration in a round."""
    stop_change_px: float = 0.01
    """epsilon: a warp ends once the root mean square change of the flow in one step is at most this."""
    median_size_px: int = 5
    """Side of the median filter on the flow: 3 or 5; 1 switches it off."""
    positions_per_px: int = 32
    """Cubic interpolation is at multiples of 1/32 px, as in OpenCV 2 to 4; 0 is exact, as in OpenCV 5."""

    def __post_init__(self) -> None:
        if not 0 < self.time_step <= 0.25:
            raise InvalidInputError(f"time_step (tau) must be above 0 and at most 0.25; got {self.time_step}")
        for name, symbol in (("attachment", "lambda"), ("tightness", "theta")):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidInputError(f"{name} ({symbol}) must be a number above 0; got {value}")
        if not 0 < self.scale_step < 1:
            raise InvalidInputError(f"scale_step must lie between 0 and 1; got {self.scale_step}")
        if not 0 <= self.stop_change_px < math.inf:
            raise InvalidInputError(f"stop_change_px (epsilon) must be 0 or more; got {self.stop_change_px}")
        for name in ("num_scales", "num_warps", "num_outer_iterations", "num_inner_iterations"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.median_size_px not in (1, 3, 5):
            raise InvalidInputError(f"median_size_px must be 5, 3, or 1 for none; got {self.median_size_px}")
        if not isinstance(self.positions_per_px, int) or self.positions_per_px < 0:
            raise InvalidInputError(f"positions_per_px must be a whole number or 0; got {self.positions_per_px!r}")

    def pyramid_sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of each level, the full size first.

        >>> TVL1Parameters().pyramid_sizes(256, 340)
        [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
        >>> TVL1Parameters().pyramid_sizes(20, 40)
        [(20, 40), (16, 32)]
        """
        sizes = [(height, width)]
        while len(sizes) < self.num_scales:
            size = round(sizes[-1][0] * self.scale_step), round(sizes[-1][1] * self.scale_step)
            if min(size) < MIN_SIDE_PX:
                break
            sizes.append(size)
        return sizes


FAST = TVL1Parameters(scale_step=0.5, num_warps=2, num_outer_iterations=2, num_inner_iterations=10)
"""The same algorithm with far fewer iterations; ``benchmarks/results`` says how much faster and how far off."""
