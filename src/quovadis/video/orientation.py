"""Display matrices: how a stored picture is turned and mirrored before it is shown."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to show a stored picture: swap its axes, then mirror it.

    >>> Orientation(swap_axes=True, mirror_x=True).rotation_degrees
    90
    """

    swap_axes: bool = False
    """Exchange rows and columns."""
    mirror_x: bool = False
    """Mirror left and right, after the swap."""
    mirror_y: bool = False
    """Mirror top and bottom, after the swap."""

    @property
    def mirrored(self) -> bool:
        """True if no rotation alone gives this orientation."""
        return (self.swap_axes + self.mirror_x + self.mirror_y) % 2 == 1

    @property
    def rotation_degrees(self) -> int:
        """Clockwise rotation, 0, 90, 180 or 270; for a mirrored picture, to be mirrored left-right afterwards."""
        mirror_x = self.mirror_x != self.mirrored
        if self.swap_axes:
            return 90 if mirror_x else 270
        return 180 if mirror_x else 0

    @property
    def filters(self) -> list[tuple[str, str]]:
        """The filters that the ``ffmpeg`` program inserts, as names and arguments."""
        if self.swap_axes:
            turn = "clock" if self.mirror_x else "cclock"
            return [("transpose", turn + "_flip" * self.mirrored)]
        return [("hflip", "")] * self.mirror_x + [("vflip", "")] * self.mirror_y


def parse_display_matrix(data: bytes) -> tuple[Orientation, float]:
    """Read FFmpeg's display matrix side data.

    A pixel stored at (x, y) is shown at (a x + c y, b x + d y), up to a shift and a scale.

    Args:
        data: 9 integers of 32 bits in native order: a, b, u, c, d, v, x, y, w.

    Returns:
        The nearest of the eight orientations, and how many degrees it is off.

    >>> parse_display_matrix(_MATRIX.pack(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))  # a quarter turn clockwise
    (Orientation(swap_axes=True, mirror_x=True, mirror_y=False), 0.0)
    """
    if len(data) != _MATRIX.size:
        return Orientation(), 0.0
    a, b, _, c, d, *_ = _MATRIX.unpack(data)
    x_length, y_length = math.hypot(a, c), math.hypot(b, d)
    if not x_length or not y_length:  # shows nothing; FFmpeg ignores it as well
        return Orientation(), 0.0
    straight = (abs(a) / x_length + abs(d) / y_length) / 2
    crossed = (abs(b) / y_length + abs(c) / x_length) / 2
    swap_axes = crossed > straight
    found = Orientation(swap_axes, (c if swap_axes else a) < 0, (b if swap_axes else d) < 0)
    return found, math.degrees(math.acos(min(max(straight, crossed), 1.0)))
