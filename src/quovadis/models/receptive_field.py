"""Temporal receptive fields: which frames a feature depends on, and how many features a video has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from quovadis.models.layers import same_padding


@dataclass(frozen=True)
class TemporalLayer:
    """The temporal axis of one convolution or pooling layer.

    >>> TemporalLayer(kernel=7, stride=2).output_length(9)
    5
    """

    kernel: int
    stride: int = 1
    same_padding: bool = True
    """Whether the layer uses TensorFlow's SAME padding. Without it, the layer has no padding."""

    def output_length(self, input_length: int) -> int:
        """Number of time steps in the output."""
        if self.same_padding:
            return -(-input_length // self.stride)
        return max((input_length - self.kernel) // self.stride + 1, 0)

    def padding_before(self, input_length: int) -> int:
        """Number of padded steps before the first input step."""
        return same_padding(input_length, self.kernel, self.stride)[0] if self.same_padding else 0


@dataclass(frozen=True)
class ReceptiveField:
    """The temporal receptive field of the features of a network; see ``VideoModel.receptive_field``.

    With SAME padding, the position of the receptive field depends on the number of frames modulo :attr:`stride`, so
    the methods need the number of frames of the whole video.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> field = build_model("i3d_tiny").receptive_field
        >>> field.stride, field.size, field.frames_per_feature
        (8, 107, 16)
        >>> field.num_features(64), field.frame_range(3, num_frames=64)
        (7, (-20, 87))
    """

    layers: tuple[TemporalLayer, ...]
    """The layers from input to features; for parallel branches, the one with the largest kernel."""
    pooled_steps: int = 1
    """Number of steps of the last feature map that are averaged into one feature: 2 for I3D."""

    @cached_property
    def stride(self) -> int:
        """Number of frames between two consecutive features."""
        return math.prod(layer.stride for layer in self.layers)

    @cached_property
    def size(self) -> int:
        """Number of frames that one feature depends on."""
        size = 1
        for layer in reversed(self.layers):
            size = (size - 1) * layer.stride + layer.kernel
        return size

    @property
    def frames_per_feature(self) -> int:
        """Number of frames that a feature summarizes, apart from the context of its kernels: 16 for I3D."""
        return self.stride * self.pooled_steps

    def num_features(self, num_frames: int) -> int:
        """Number of features of a video with ``num_frames`` frames: ``ceil(T / 8) - 1`` for I3D."""
        for layer in self.layers:
            num_frames = layer.output_length(num_frames)
        return num_frames

    def frame_range(self, index: int, num_frames: int) -> tuple[int, int]:
        """Return the frames ``[start, stop)`` that feature ``index`` depends on.

        Args:
            index: Index of the feature, from 0 to ``num_features(num_frames) - 1``.
            num_frames: Number of frames of the video.

        Returns:
            Frame indices. ``start`` is negative and ``stop`` exceeds ``num_frames`` where the receptive field
            includes padding.
        """
        lengths = [num_frames]
        for layer in self.layers:
            lengths.append(layer.output_length(lengths[-1]))
        start = index
        for layer, length in zip(reversed(self.layers), reversed(lengths[:-1]), strict=True):
            start = start * layer.stride - layer.padding_before(length)
        return start, start + self.size

    def center(self, index: int, num_frames: int) -> float:
        """Middle of :meth:`frame_range`, in frames from the start of the video."""
        start, stop = self.frame_range(index, num_frames)
        return (start + stop) / 2
