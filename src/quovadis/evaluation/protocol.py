"""How a video is shown to a network when it is measured. A figure without its protocol means nothing."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quovadis.datasets.loader import clip_extent
from quovadis.errors import UnknownNameError
from quovadis.types import ModelSpec
from quovadis.video.sampling import clip_ticks, even_starts


@dataclass(frozen=True)
class Protocol:
    """What is taken from each video; logits are averaged over time and over clips, then comes the softmax.

    >>> PROTOCOLS["paper"].describe(ModelSpec("i3d", (), 224, 256, min_frames=9, test_frames=250))
    'paper: first 250 frames at 25 fps, shorter videos looped, centre crop 224 px, logits averaged'
    """

    name: str
    extent: Literal["whole", "test", "clips"]
    """The whole video; its first ``test_frames`` (Table 1), looped where it is shorter; or clips of training length."""
    num_clips: int = 1
    """Of training length, spread evenly over the video."""

    def describe(self, spec: ModelSpec) -> str:
        """The protocol in words, as it is printed beside every figure."""
        if self.extent == "whole":
            taken = f"whole video at {spec.fps:g} fps"
        elif self.extent == "test":
            taken = f"first {spec.test_frames} frames at {spec.fps:g} fps"
        else:
            frames, stride, _ = clip_extent(spec)
            every = f", every {stride}th" if stride > 1 else ""
            where = "the middle" if self.num_clips == 1 else f"{self.num_clips} places"
            taken = f"{frames} frames at {spec.fps:g} fps{every}, from {where}"
        return f"{self.name}: {taken}, shorter videos looped, centre crop {spec.size_px} px, logits averaged"

    def ticks(self, num_ticks: int, spec: ModelSpec) -> list[NDArray[np.int64]]:
        """The frames of each clip, as ticks of the video at ``spec.fps``.

        Args:
            num_ticks: length of the video.
            spec: what the model sees.
        """
        frames, stride, span = clip_extent(spec)
        if self.extent == "clips":
            starts = even_starts(num_ticks, span, self.num_clips)
            return [clip_ticks(num_ticks, frames, frame_stride=stride, start=int(s)) for s in starts]
        length = spec.test_frames if self.extent == "test" else max(num_ticks, span)
        return [clip_ticks(num_ticks, -(-length // stride), frame_stride=stride)]

    def longest(self, spec: ModelSpec) -> int | None:
        """Ticks that are enough to read; None for all."""
        return spec.test_frames if self.extent == "test" else None


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        # The author in issue 28 of the official repository: the first 250 frames, shorter videos looped.
        Protocol("paper", "test"),
        Protocol("whole", "whole"),
        Protocol("center-clip", "clips"),
        Protocol("ten-clips", "clips", num_clips=10),
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
