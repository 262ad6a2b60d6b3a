"""Which frames a feature sees, and how to cut a long video so that no feature notices: arithmetic, no tensors.

A network is convolutional over time, so the features of a whole video are those of its pieces, if every piece (1) has
all the frames that its features see, and (2) lies on the same grid. SAME padding makes the second a matter of the
length: its left half depends on whether each layer's input is even or odd, so the grid of a whole video is fixed by its
number of frames modulo the stride of the network. A piece that starts at a multiple of the stride and has as many
frames modulo the stride as the video has the same grid; its own padding is seen only by features that are not kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from quovadis.errors import InvalidInputError
from quovadis.models.layers import same_padding


@dataclass(frozen=True)
class TimeLayer:
    """One convolution or pooling, as time sees it."""

    kernel: int
    stride: int = 1
    same: bool = True
    """SAME padding; else none."""

    def num_steps(self, num_inputs: int) -> int:
        """Steps of the output."""
        if self.same:
            return -(-num_inputs // self.stride)
        return max((num_inputs - self.kernel) // self.stride + 1, 0)

    def padding(self, num_inputs: int) -> int:
        """Steps that are put before the input."""
        return same_padding(num_inputs, self.kernel, self.stride)[0] if self.same else 0


@dataclass(frozen=True)
class Piece:
    """Frames of a video, and the features that are kept of them."""

    start: int
    stop: int
    first_row: int
    stop_row: int
    offset: int
    """Features of the piece before the first that is kept."""


@dataclass(frozen=True)
class TimeAxis:
    """The layers of a network, as time sees them; where branches run side by side, the one that sees most.

    >>> axis = TIME_AXES["i3d"]
    >>> axis.num_rows(64), axis.sees(0, 64), axis.stride
    (7, (-44, 63), 8)
    >>> last = axis.sees(3, 80)
    >>> last[1] - last[0]  # frames that one feature sees
    107
    """

    layers: tuple[TimeLayer, ...]
    steps: int = 1
    """Steps of the grid that a feature is the average of."""

    @property
    def share(self) -> int:
        """Frames that a feature stands for, where one without kernels and padding would: 16 for I3D, two steps of 8."""
        return self.stride * self.steps

    @cached_property
    def stride(self) -> int:
        """Frames from one feature to the next."""
        product = 1
        for layer in self.layers:
            product *= layer.stride
        return product

    def num_rows(self, num_frames: int) -> int:
        """Features of so many frames: ``ceil(T / 8) - 1`` for I3D."""
        for layer in self.layers:
            num_frames = layer.num_steps(num_frames)
        return num_frames

    def sees(self, row: int, num_frames: int) -> tuple[int, int]:
        """Frames ``[first, stop)`` of a video of ``num_frames`` that feature ``row`` sees; padding counts as frames."""
        lengths = [num_frames]
        for layer in self.layers:
            lengths.append(layer.num_steps(lengths[-1]))
        first, last = row, row
        for layer, length in zip(reversed(self.layers), reversed(lengths[:-1]), strict=True):
            padding = layer.padding(length)
            first = first * layer.stride - padding
            last = last * layer.stride - padding + layer.kernel - 1
        return first, last + 1

    def center(self, row: int, num_frames: int) -> float:
        """The middle of what feature ``row`` sees, in frames from the start of the video."""
        first, stop = self.sees(row, num_frames)
        return (first + stop) / 2

    def piece(self, first_row: int, num_rows: int, num_frames: int) -> Piece:
        """The frames that give ``num_rows`` features from ``first_row`` on as the whole video would.

        Args:
            first_row: of the features of the whole video.
            num_rows: how many; the end of the video may make it fewer.
            num_frames: of the whole video. Only its remainder modulo the stride matters for pieces within the video.
        """
        if num_rows < 1:
            raise InvalidInputError(f"a piece has at least one feature; got {num_rows}")
        stride = self.stride
        start = max(self.sees(first_row, num_frames)[0] // stride * stride, 0)
        stop = self.sees(first_row + num_rows - 1, num_frames)[1]
        stop += (num_frames - (stop - start)) % stride
        stop_row = first_row + num_rows
        if stop >= num_frames:
            stop, stop_row = num_frames, self.num_rows(num_frames)
        return Piece(start, stop, first_row, stop_row, first_row - start // stride)


_THREE = TimeLayer(3)
_I3D = TimeAxis(
    (
        TimeLayer(7, 2),  # Conv3d_1a_7x7
        *[_THREE] * 3,  # Conv3d_2c_3x3, Mixed_3b, Mixed_3c
        TimeLayer(3, 2),  # MaxPool3d_4a_3x3
        *[_THREE] * 5,  # Mixed_4b to Mixed_4f
        TimeLayer(2, 2),  # MaxPool3d_5a_2x2
        *[_THREE] * 2,  # Mixed_5b, Mixed_5c
        TimeLayer(2, same=False),  # the average pooling
    ),
    steps=2,
)
_R50 = TimeAxis(
    (
        TimeLayer(5),
        *[_THREE] * 3,  # layer1
        TimeLayer(2, 2, same=False),
        *[_THREE] * 6,  # two bottlenecks of layer2, three of layer3, one of layer4
    )
)

TIME_AXES: dict[str, TimeAxis] = {"i3d": _I3D, "i3d_tiny": _I3D, "i3d_r50": _R50}
"""By the name of the model."""
