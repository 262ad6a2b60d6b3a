"""Display matrices: rotation and mirroring of stored frames for display."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True)
class Orientation:
    """One of the eight orientations of a stored frame: swap its axes, then mirror it.

    Example:
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
        """True if this orientation is not a rotation alone."""
        return (self.swap_axes + self.mirror_x + self.mirror_y) % 2 == 1

    @property
    def rotation_degrees(self) -> int:
        """Clockwise rotation: 0, 90, 180 or 270. If :attr:`mirrored`, a left-right mirroring follows."""
        mirror_x = self.mirror_x != self.mirrored
        if self.swap_axes:
            return 90 if mirror_x else 270
        return 180 if mirror_x else 0

    @property
    def filters(self) -> list[tuple[str, str]]:
        """Filters that the ``ffmpeg`` program inserts, as names and arguments."""
        if self.swap_axes:
            turn = "clock" if self.mirror_x else "cclock"
            return [("transpose", turn + "_flip" * self.mirrored)]
        return [("hflip", "")] * self.mirror_x + [("vflip", "")] * self.mirror_y


def parse_display_matrix(data: bytes) -> tuple[Orientation, float]:
    """Parse FFmpeg's display matrix side data.

    A pixel stored at (x, y) is displayed at (a x + c y, b x + d y), up to translation and scale.

    Args:
        data: Nine 32-bit integers in native byte order: a, b, u, c, d, v, x, y, w.

    Returns:
        The nearest of the eight orientations, and its distance from the matrix in degrees.

    Example:
        >>> parse_display_matrix(_MATRIX.pack(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))  # a quarter turn clockwise
        (Orientation(swap_axes=True, mirror_x=True, mirror_y=False), 0.0)
    """
    if len(data) != _MATRIX.size:
        return Orientation(), 0.0
    a, b, _, c, d, *_ = _MATRIX.unpack(data)
    x_length, y_length = math.hypot(a, c), math.hypot(b, d)
    if not x_length or not y_length:  # a singular matrix, which FFmpeg ignores as well
        return Orientation(), 0.0
    straight = (abs(a) / x_length + abs(d) / y_length) / 2
    crossed = (abs(b) / y_length + abs(c) / x_length) / 2
    swap_axes = crossed > straight
    nearest = Orientation(swap_axes, (c if swap_axes else a) < 0, (b if swap_axes else d) < 0)
    return nearest, math.degrees(math.acos(min(max(straight, crossed), 1.0)))
