"""Which frames of a video enter a Frechet Video Distance."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

RANDOM_START = "random start, seed "


@dataclass(frozen=True)
class FrameSampling:
    """Rule by which frames are taken from a video.

    Example:
        >>> sampling = FrameSampling(num_frames=3, frame_stride=2)
        >>> list(range(10))[sampling.frames_from(1)]
        [1, 3, 5]
    """

    num_frames: int | None = None
    """Number of frames; None takes all."""
    frame_stride: int = 1
    fps: float | None = None
    """Frame rate that files are resampled to; None keeps the frames of the file."""
    random_start: bool = False
    seed: int = 0
    """Seed of the random starts."""
    resolution_px: int | None = None
    """First resize the short side to this and take the center square; None keeps the frames."""
    resampling: Literal["lanczos", "bilinear"] = "lanczos"
    """Filter for ``resolution_px``. With ``bilinear``, values are truncated to uint8, as cd-fvd does."""

    def describe(self) -> str:
        """Describe where clips start."""
        return f"{RANDOM_START}{self.seed}" if self.random_start else "from the first frame"

    def start(self, num_available: int, index: int) -> int | None:
        """Choose the first frame of a video.

        As in StyleGAN-V, a video must have ``num_frames * frame_stride`` frames. A random start is any frame from which
        the last frame is still inside the video.

        Args:
            num_available: Number of frames of the video.
            index: Index of the video in its set; it determines the random start, together with the seed.

        Returns:
            Index of the first frame, or None if the video is too short.
        """
        if self.num_frames is None:
            return 0
        if num_available < self.num_frames * self.frame_stride:
            return None
        if not self.random_start:
            return 0
        last = num_available - self.num_frames * self.frame_stride + self.frame_stride - 1
        return int(np.random.default_rng([self.seed, index]).integers(0, last + 1))

    def count(self, num_available: int) -> int:
        """Number of frames that are taken from a video, from its first frame.

        >>> FrameSampling(frame_stride=2).count(9)
        5
        """
        return len(range(num_available)[self.frames_from(0)])

    def frames_from(self, start: int) -> slice:
        """Slice of the frames that are taken when the first one is ``start``."""
        stop = None if self.num_frames is None else start + (self.num_frames - 1) * self.frame_stride + 1
        return slice(start, stop, self.frame_stride)
