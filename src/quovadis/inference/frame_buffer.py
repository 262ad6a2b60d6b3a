"""Buffer of the cropped frames of a video that are still needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.inference.feature_stream import CroppedFrames
from quovadis.models.spec import StreamKind


@dataclass(frozen=True)
class FrameSegment:
    """Consecutive frames that pass through the network together."""

    streams: dict[StreamKind, Tensor]
    """uint8 (crops, T, C, size, size)."""
    start_seconds: float
    stop_seconds: float

    def take(self, index: NDArray[np.int64]) -> FrameSegment:
        """Select frames by index, such as those of a loop."""
        streams = {kind: x[:, torch.from_numpy(index)] for kind, x in self.streams.items()}
        return FrameSegment(streams, self.start_seconds, self.stop_seconds)


class FrameBuffer:
    """Frames of a video, indexed from the start of the video.

    Args:
        source: The video, for error messages.
        kinds: Streams to keep.
        frame_seconds: Duration of a frame, to extrapolate times.
    """

    def __init__(self, source: str, kinds: Sequence[StreamKind], frame_seconds: float):
        self.source = source
        self.stop = 0
        """Number of frames added so far."""
        self.num_crops = 1
        self._frame_seconds = frame_seconds
        self._first = 0
        self._streams: dict[StreamKind, deque[Tensor]] = {kind: deque() for kind in kinds}
        self._seconds: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._seconds)

    def add(self, block: CroppedFrames) -> None:
        """Append frames."""
        self.num_crops = block.streams["rgb"].shape[1]
        for kind, frames in self._streams.items():
            frames.extend(block.streams[kind])
        self._seconds.extend(block.seconds)
        self.stop += len(block.seconds)

    def drop_before(self, index: int) -> None:
        """Drop all frames before ``index``."""
        first = max(self._first, min(index, self.stop))
        for _ in range(first - self._first):
            for frames in self._streams.values():
                frames.popleft()
            self._seconds.popleft()
        self._first = first

    def segment(self, start: int, stop: int) -> FrameSegment:
        """Return the frames ``[start, stop)``, which must be in the buffer."""
        streams = {
            kind: torch.stack(list(islice(frames, start - self._first, stop - self._first)), 1)
            for kind, frames in self._streams.items()
        }
        return FrameSegment(streams, self.seconds_at(start), self.seconds_at(stop))

    def seconds_at(self, index: float) -> float:
        """Start time of a frame; interpolated between frames, extrapolated beyond those in the buffer."""
        if not self._seconds:
            return index * self._frame_seconds
        inside = min(max(index - self._first, 0.0), len(self._seconds) - 1.0)
        before = int(inside)
        after = min(before + 1, len(self._seconds) - 1)
        fraction = inside - before
        seconds = self._seconds[before] * (1 - fraction) + self._seconds[after] * fraction
        return seconds + (index - self._first - inside) * self._frame_seconds
