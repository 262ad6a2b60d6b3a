"""How a video is shown to a network when it is measured. A figure without its protocol means nothing."""

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
    """What is taken from each video; logits are averaged over time and over clips, then comes the softmax.

    >>> PROTOCOLS["paper"].describe(ModelSpec("i3d", (), 224, 256, min_frames=9, test_frames=250))
    'paper: first 250 frames at 25 fps, shorter videos looped, center crop 224 px, logits averaged'
    """

    name: str
    extent: Literal["whole", "test", "clips"]
    """The whole video; its first ``test_frames`` (Table 1), looped where it is shorter; or clips of training length.
    Of the first two, a model that takes clips of one length only is shown one after the other."""
    num_clips: int = 1
    """Of training length, spread evenly over the video."""
    num_crops: int = 1
    """Along the longer side; one is in the center."""
    num_frames: int | None = None
    """Frames of a clip; None is the training length of the model."""

    def describe(self, spec: ModelSpec) -> str:
        """The protocol in words, as it is printed beside every figure."""
        every = f", every {spec.clip_stride}th" if spec.clip_stride > 1 else ""
        cut = spec.test_clip_frames
        if self.extent == "whole":
            taken = f"whole video at {spec.fps:g} fps{every}" + (f", in clips of {cut}" if cut else "")
        elif self.extent == "test":
            pieces = f", in {-(-spec.test_frames // cut)} clips of {cut}" if cut else ""
            taken = f"first {spec.test_frames} frames at {spec.fps:g} fps{every}{pieces}"
        else:
            where = "the middle" if self.num_clips == 1 else f"{self.num_clips} places"
            taken = f"{self._clip_extent(spec)[0]} frames at {spec.fps:g} fps{every}, from {where}"
        crops = "center crop" if self.num_crops == 1 else f"{self.num_crops} crops along the longer side of"
        return f"{self.name}: {taken}, shorter videos looped, {crops} {spec.size_px} px, logits averaged"

    def views(self, video: Clip, spec: ModelSpec) -> Iterator[Clip]:
        """The clips to be scored, cropped, one at a time; the mean of their logits counts.

        Args:
            video: all frames at ``spec.fps`` that :meth:`longest` asks for, with flow where the model wants it.
            spec: what the model sees.
        """
        for crop in crops_along(video, spec.size_px, self.num_crops):
            for ticks in self.clip_indices(len(video), spec):
                yield crop.take(torch.from_numpy(ticks))

    def clip_indices(self, num_ticks: int, spec: ModelSpec) -> list[NDArray[np.int64]]:
        """The frames of each clip, as ticks of the video at ``spec.fps``.

        :func:`quovadis.models.inputs.cut_clip` says what becomes of a clip that is longer than a model takes.

        Args:
            num_ticks: length of the video.
            spec: what the model sees.
        """
        frames, stride, span = self._clip_extent(spec)
        if self.extent == "clips":
            starts = even_starts(num_ticks, span, self.num_clips)
            return [clip_indices(num_ticks, frames, frame_stride=stride, start=int(s)) for s in starts]
        length = spec.test_frames if self.extent == "test" else max(num_ticks, span)
        return [clip_indices(num_ticks, -(-length // stride), frame_stride=stride)]

    def _clip_extent(self, spec: ModelSpec) -> tuple[int, int, int]:
        """Frames, stride and span of a clip, as :func:`quovadis.datasets.clip_dataset.clip_extent`."""
        frames, stride, span = clip_extent(spec)
        if self.num_frames is None:
            return frames, stride, span
        require_frames((self.num_frames - 1) * stride + 1, spec.min_frames, f"protocol {self.name}", spec.name)
        return self.num_frames, stride, (self.num_frames - 1) * stride + 1

    def longest(self, spec: ModelSpec) -> int | None:
        """Ticks that are enough to read; None for all."""
        return spec.test_frames if self.extent == "test" else None


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        # The author in issue 28 of the official repository: the first 250 frames, shorter videos looped. In them, as
        # Table 1 has it: 50 steps of ConvNet+LSTM, 15 clips of 3D-ConvNet, 25 samples of Two-Stream, 5 windows of
        # 3D-Fused, and I3D at once.
        Protocol("paper", "test"),
        Protocol("whole", "whole"),
        Protocol("center-clip", "clips"),
        Protocol("center-16", "clips", num_frames=16),
        Protocol("ten-clips", "clips", num_clips=10),
        # The field's, after Wang et al. 2018 (section 4): 30 views.
        Protocol("10x3", "clips", num_clips=10, num_crops=3),
    )
}


def find_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        UnknownNameError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise UnknownNameError.among("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
