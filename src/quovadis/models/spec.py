"""Model specifications: the input streams of a model and everything else that depends on the network."""

import math
from dataclasses import dataclass
from typing import Literal

StreamKind = Literal["rgb", "flow"]
StreamChoice = Literal["rgb", "flow", "rgb+flow"]
"""What a whole model looks at."""

CHANNELS: dict[StreamKind, int] = {"rgb": 3, "flow": 2}


@dataclass(frozen=True)
class StreamSpec:
    """What one input stream of a model looks like.

    >>> StreamSpec("rgb", channels=3, num_frames=64)
    StreamSpec(kind='rgb', channels=3, num_frames=64, frame_stride=1, first_frame=0)
    """

    kind: StreamKind
    channels: int
    """3 for RGB, 2 for flow (x to the right, y down)."""
    num_frames: int
    """Frames of a training clip."""
    frame_stride: int = 1
    """Take every n-th frame of the video at ``ModelSpec.fps``."""
    first_frame: int = 0
    """Which frame of the clip, at that rate, is the first to be taken: where this stream lies within the others."""

    @property
    def span_frames(self) -> int:
        """Frames of video, at the model's rate, that a training clip reaches over."""
        return self.first_frame + (self.num_frames - 1) * self.frame_stride + 1

    def frames_in(self, num_frames: int) -> int:
        """Frames that this stream takes from a clip of ``num_frames`` at the model's rate.

        >>> StreamSpec("rgb", channels=3, num_frames=1, frame_stride=10, first_frame=5).frames_in(250)
        25
        """
        return len(range(self.first_frame, num_frames, self.frame_stride))


@dataclass(frozen=True)
class ModelSpec:
    """What a model sees: everything that loader, trainer, evaluator and recognizer need to know about it.

    Lengths of the model as a whole are frames of video at ``fps``; how many of them a stream takes is its own affair.
    """

    name: str
    streams: tuple[StreamSpec, ...]
    size_px: int
    """Height and width of the crop."""
    short_side_px: int
    """The short side of the video before the crop."""
    min_frames: int
    """Fewer frames than this do not pass through the network."""
    test_frames: int
    """The test footprint (Table 1 of the paper): 250 are ten seconds."""
    test_clip_frames: int | None = None
    """Longer clips are cut into clips of this length, whose logits are averaged; None takes any length as it is."""
    fps: float = 25.0
    protocol: str = "paper"
    """How it is measured unless asked otherwise; see ``quovadis.evaluation.protocols``."""

    @property
    def needs_flow(self) -> bool:
        """True when a stream is optical flow."""
        return any(stream.kind == "flow" for stream in self.streams)

    @property
    def stream(self) -> str:
        """The streams in one word, as ``quovadis.create_model`` takes it: ``rgb``, ``flow`` or ``rgb+flow``."""
        return "+".join(stream.kind for stream in self.streams)

    @property
    def clip_stride(self) -> int:
        """Of the frames at ``fps``, a clip for this model holds every n-th: those that its streams have in common.

        Where a stream is flow, all of them, because flow goes from a frame to the next one.
        """
        if self.needs_flow:
            return 1
        return math.gcd(*(s.frame_stride for s in self.streams), *(s.first_frame for s in self.streams)) or 1

    @property
    def train_seconds(self) -> float:
        """The training footprint (Table 1): each frame stands for the time up to the next that is taken."""
        return max(s.num_frames * s.frame_stride for s in self.streams) / self.fps

    @property
    def test_seconds(self) -> float:
        """The test footprint (Table 1)."""
        return self.test_frames / self.fps
