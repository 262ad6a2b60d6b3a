"""Test protocols as data: which frames and crops of a video a network is evaluated on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import UnknownNameError
from quovadis.models.spec import ModelSpec
from quovadis.transforms import crops_along
from quovadis.video.clip import Clip, require_frames
from quovadis.video.sampling import clip_indices, even_starts


@dataclass(frozen=True)
class Protocol:
    """Frames and crops of a video whose logits are averaged; the softmax is applied to the average.

    Example:
        >>> spec = ModelSpec("i3d", (), 224, 256, min_frames=9, test_frames=250)
        >>> PROTOCOLS["paper"].describe(spec)
        'paper: first 250 frames at 25 fps, shorter videos looped, center crop 224 px, logits averaged'
    """

    name: str
    extent: Literal["whole", "test", "clips"]
    """``whole``: the whole video. ``test``: its first ``test_frames`` (Table 1 of the paper), looped if it is shorter.
    ``clips``: clips of training length. For models with a fixed clip length, the first two are cut into clips."""
    num_clips: int = 1
    """Number of clips of training length, evenly spaced over the video."""
    num_crops: int = 1
    """Number of crops along the longer side; a single crop is the center crop."""
    num_frames: int | None = None
    """Number of frames of a clip; None for the training length of the model."""

    def describe(self, spec: ModelSpec) -> str:
        """Describe the protocol for a model in one line."""
        every = f", every {spec.clip_stride}th" if spec.clip_stride > 1 else ""
        length = spec.test_clip_frames
        if self.extent == "whole":
            taken = f"whole video at {spec.fps:g} fps{every}" + (f", in clips of {length}" if length else "")
        elif self.extent == "test":
            clips = f", in {-(-spec.test_frames // length)} clips of {length}" if length else ""
            taken = f"first {spec.test_frames} frames at {spec.fps:g} fps{every}{clips}"
        else:
            where = "the middle" if self.num_clips == 1 else f"{self.num_clips} places"
            taken = f"{self._clip_extent(spec)[0]} frames at {spec.fps:g} fps{every}, from {where}"
        crops = "center crop" if self.num_crops == 1 else f"{self.num_crops} crops along the longer side of"
        return f"{self.name}: {taken}, shorter videos looped, {crops} {spec.size_px} px, logits averaged"

    def views(self, video: Clip, spec: ModelSpec) -> Iterator[Clip]:
        """Yield the cropped clips of a video, whose logits are averaged.

        Args:
            video: The first :meth:`max_frames` frames at ``spec.fps``, with flow if the model needs it.
            spec: Specification of the model.
        """
        for crop in crops_along(video, spec.size_px, self.num_crops):
            for indices in self.clip_indices(len(video), spec):
                yield crop.take(torch.from_numpy(indices))

    def clip_indices(self, num_frames: int, spec: ModelSpec) -> list[NDArray[np.int64]]:
        """Choose the frames of each clip.

        :func:`quovadis.models.inputs.cut_clip` cuts clips that are longer than a model accepts.

        Args:
            num_frames: Number of frames of the video at ``spec.fps``.
            spec: Specification of the model.

        Returns:
            Frame indices of each clip.

        Raises:
            TooFewFramesError: If the clips of this protocol are too short for the model.
        """
        length, stride, extent = self._clip_extent(spec)
        if self.extent == "clips":
            starts = even_starts(num_frames, extent, self.num_clips)
            return [clip_indices(num_frames, length, frame_stride=stride, start=int(s)) for s in starts]
        extent = spec.test_frames if self.extent == "test" else max(num_frames, extent)
        return [clip_indices(num_frames, -(-extent // stride), frame_stride=stride)]

    def _clip_extent(self, spec: ModelSpec) -> tuple[int, int, int]:
        """Frames, stride and extent of a clip, as :func:`quovadis.datasets.clip_dataset.clip_extent`."""
        frames, stride, extent = clip_extent(spec)
        if self.num_frames is None:
            return frames, stride, extent
        extent = (self.num_frames - 1) * stride + 1
        require_frames(extent, spec.min_frames, f"protocol {self.name}", spec.name)
        return self.num_frames, stride, extent

    def max_frames(self, spec: ModelSpec) -> int | None:
        """Number of frames at ``spec.fps`` that must be read; None for the whole video."""
        return spec.test_frames if self.extent == "test" else None


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        # Issue 28 of the official repository: the first 250 frames, shorter videos looped. With Table 1 this gives
        # ConvNet+LSTM 50 steps, 3D-ConvNet 15 clips, Two-Stream 25 samples, 3D-Fused 5 windows, and I3D one pass.
        Protocol("paper", "test"),
        Protocol("whole", "whole"),
        Protocol("center-clip", "clips"),
        Protocol("center-16", "clips", num_frames=16),
        Protocol("ten-clips", "clips", num_clips=10),
        # 30 views, as in Wang et al. 2018, section 4.
        Protocol("10x3", "clips", num_clips=10, num_crops=3),
    )
}
"""The test protocols by name.

``paper`` is the protocol of Carreira and Zisserman, https://arxiv.org/abs/1705.07750, with details from
https://github.com/google-deepmind/kinetics-i3d/issues/28. ``10x3`` is that of Wang et al., "Non-local Neural Networks",
https://arxiv.org/abs/1711.07971.
"""


def find_protocol(name: str) -> Protocol:
    """Look up a test protocol by name.

    Raises:
        UnknownNameError: If there is no such protocol.

    Example:
        >>> find_protocol("10x3").num_crops
        3
    """
    if name not in PROTOCOLS:
        raise UnknownNameError.among("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
