"""Model specifications: the input streams of a model, their sizes and rates, and its default protocol."""

import math
from dataclasses import dataclass
from typing import Literal

StreamKind = Literal["rgb", "flow"]
"""Kind of one input stream."""
StreamChoice = Literal["rgb", "flow", "rgb+flow"]
"""Input streams of a whole model, as in ``quovadis.create_model(name, stream=...)``."""

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the convolutions in inference; see ``quovadis.optimize``."""
Backend = Literal["torch", "compile", "openvino"]
"""Library that runs a network in inference; see ``quovadis.optimize``."""

CHANNELS: dict[StreamKind, int] = {"rgb": 3, "flow": 2}


@dataclass(frozen=True)
class StreamSpec:
    """One input stream of a model: a float32 tensor (B, channels, T, H, W) in [-1, 1].

    A stream takes the frames ``first_frame, first_frame + frame_stride, ...`` of the video at ``ModelSpec.fps``.

    Attributes:
        kind: ``"rgb"`` or ``"flow"``.
        channels: 3 for RGB; 2 for flow (x to the right, y down).
        num_frames: Number of frames T of a training clip.
        frame_stride: Distance between two frames of the stream.
        first_frame: Index of the first frame. It aligns the streams of a model with each other.

    Example:
        >>> stream = StreamSpec("rgb", channels=3, num_frames=5, frame_stride=10, first_frame=5)
        >>> stream.extent_frames, stream.num_frames_in(250)
        (46, 25)
    """

    kind: StreamKind
    channels: int
    num_frames: int
    frame_stride: int = 1
    first_frame: int = 0

    @property
    def extent_frames(self) -> int:
        """Length of video that a training clip needs, in frames at ``ModelSpec.fps``."""
        return self.first_frame + (self.num_frames - 1) * self.frame_stride + 1

    def num_frames_in(self, num_frames: int) -> int:
        """Number of frames that this stream takes from a video of ``num_frames`` frames at ``ModelSpec.fps``."""
        return len(range(self.first_frame, num_frames, self.frame_stride))


@dataclass(frozen=True)
class ModelSpec:
    """Everything that data loading, training, evaluation and inference need to know about the inputs of a model.

    Numbers of frames refer to the video resampled to ``fps``. A stream with a ``frame_stride`` takes only some of them.

    Attributes:
        name: Name of the model in :func:`quovadis.list_models`.
        streams: Input streams in the order of the arguments of ``model(*streams)``.
        size_px: Height and width of the crop in pixels.
        short_side_px: Length in pixels to which the short side of a video is resized before cropping.
        min_frames: Minimum number of frames that the network accepts.
        test_frames: Number of frames of a test clip (paper, Table 1): 250 frames are ten seconds.
        test_clip_frames: Number of frames that the network processes at once in testing. Longer clips are split, and
            the logits of the parts are averaged. None means that clips of any length are processed at once.
        fps: Frame rate of the input in frames per second.
        protocol: Name of the default evaluation protocol; see ``quovadis.evaluation.protocols``.

    Example:
        >>> from quovadis.models.two_stream import two_stream_spec
        >>> spec = two_stream_spec("rgb+flow")
        >>> [(stream.kind, stream.num_frames) for stream in spec.streams]
        [('rgb', 1), ('flow', 10)]
        >>> spec.stream, spec.needs_flow, spec.train_seconds, spec.test_seconds
        ('rgb+flow', True, 0.4, 10.0)
    """

    name: str
    streams: tuple[StreamSpec, ...]
    size_px: int
    short_side_px: int
    min_frames: int
    test_frames: int
    test_clip_frames: int | None = None
    fps: float = 25.0
    protocol: str = "paper"

    @property
    def needs_flow(self) -> bool:
        """Whether one of the streams is optical flow."""
        return any(stream.kind == "flow" for stream in self.streams)

    @property
    def stream(self) -> str:
        """Kinds of the streams joined by ``+``: ``rgb``, ``flow`` or ``rgb+flow``."""
        return "+".join(stream.kind for stream in self.streams)

    @property
    def clip_stride(self) -> int:
        """Stride of the frames that a clip for this model must contain.

        It is 1 for models with flow because flow needs consecutive frames. Otherwise it is the largest stride that
        includes the frames of all streams.
        """
        if self.needs_flow:
            return 1
        return math.gcd(*(s.frame_stride for s in self.streams), *(s.first_frame for s in self.streams)) or 1

    @property
    def train_seconds(self) -> float:
        """Duration of a training clip in seconds (paper, Table 1), the stride after its last frame included."""
        return max(s.num_frames * s.frame_stride for s in self.streams) / self.fps

    @property
    def test_seconds(self) -> float:
        """Duration of a test clip in seconds (paper, Table 1)."""
        return self.test_frames / self.fps
