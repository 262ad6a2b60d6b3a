"""Methods of optical flow, and the parameters of TV-L1."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from quovadis.errors import InvalidInputError

FlowMethod = Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"]
"""Names of the methods of :func:`quovadis.estimate_flow`."""

METHODS: tuple[FlowMethod, ...] = get_args(FlowMethod)

MIN_SIDE_PX = 16
"""Smallest height and width of frames and of pyramid levels, as in OpenCV."""


@dataclass(frozen=True)
class TVL1Parameters:
    """Parameters of TV-L1 optical flow, with the defaults of OpenCV's ``DualTVL1OpticalFlow``.

    TV-L1 minimizes ``integral of |grad u1| + |grad u2| + lambda |I1(x + u) - I0(x)|`` over the flow u, for pixels in
    [0, 255]. OpenCV's illumination term (``gamma``, 0 by default and not in the papers) is not supported.

    Raises:
        InvalidInputError: If a parameter is out of range.

    Example:
        >>> TVL1Parameters().num_scales, TVL1Parameters(num_warps=2).attachment
        (5, 0.15)
        >>> TVL1Parameters(time_step=0.7)
        Traceback (most recent call last):
        quovadis.errors.InvalidInputError: time_step (tau) must be above 0 and at most 0.25; got 0.7

    References:
        C. Zach, T. Pock, H. Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, eq. 3.
        J. Sánchez Pérez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 Optical Flow Estimation", IPOL 2013.
    """

    time_step: float = 0.25
    """tau: Step size of the dual iteration. Above 1/4 it may not converge (Chambolle 2004)."""
    attachment: float = 0.15
    """lambda: Weight of the data term. Smaller values give smoother flow."""
    tightness: float = 0.3
    """theta: Coupling of the auxiliary flow v to u. Smaller values couple more tightly."""
    num_scales: int = 5
    """Maximum number of pyramid levels. Levels with a side below 16 px are omitted."""
    scale_step: float = 0.8
    """eta: Size of a pyramid level relative to the next larger one."""
    num_warps: int = 5
    """Number of times per level that the second image is warped by the flow and linearized."""
    num_outer_iterations: int = 10
    """Number of rounds per warp. Each one starts with the median filter."""
    num_inner_iterations: int = 30
    """Maximum number of primal-dual iterations per round."""
    stop_change_px: float = 0.01
    """epsilon: A warp stops when the root mean square change of the flow in one iteration is at most this."""
    median_size_px: int = 5
    """Side of the median filter applied to the flow: 3 or 5; 1 disables it."""
    positions_per_px: int = 32
    """Cubic interpolation at multiples of 1/32 px, as in OpenCV 2 to 4; 0 for exact positions, as in OpenCV 5."""

    def __post_init__(self) -> None:
        if not 0 < self.time_step <= 0.25:
            raise InvalidInputError(f"time_step (tau) must be above 0 and at most 0.25; got {self.time_step}")
        for name, symbol in (("attachment", "lambda"), ("tightness", "theta")):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise InvalidInputError(f"{name} ({symbol}) must be a number above 0; got {value}")
        if not 0 < self.scale_step < 1:
            raise InvalidInputError(f"scale_step must be between 0 and 1; got {self.scale_step}")
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
        """Return the height and width of each pyramid level, the full size first.

        Example:
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
"""Parameters of the method ``tvl1-fast``: far fewer iterations. See ``benchmarks/results`` for speed and accuracy."""
