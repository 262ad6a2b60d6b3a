"""The words of quovadis: small frozen values that travel from room to room.

Layout letters: B batch, T time (frames), C channels, H height, W width. A repr shows shapes, never pixels.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, TooFewFramesError

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
    """What a model sees: everything that loader, trainer, evaluator and recogniser need to know about it.

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
    """How it is measured unless asked otherwise; see ``quovadis.evaluation.protocol``."""

    @property
    def wants_flow(self) -> bool:
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
        if self.wants_flow:
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


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself; see :func:`quovadis.probe`."""

    path: Path
    width: int
    """As shown: upright, with square pixels."""
    height: int
    fps: float
    """Average frames a second."""
    num_frames: int | None
    """Packets of the picture stream, or frames decoded one by one when asked."""
    duration_seconds: float | None
    """From the first frame to the end of the last one."""
    codec: str
    container: str
    rotation_degrees: int
    has_audio: bool
    counted: bool = False
    """True when ``num_frames`` was counted by decoding every frame."""
    variable_frame_rate: bool | None = None
    """Known only when every frame was decoded."""
    mirrored: bool = False
    """True if the file asks for the picture to be mirrored left-right after the rotation."""
    pixel_aspect_ratio: float = 1.0
    """Width of a stored pixel divided by its height; already applied to ``width`` and ``height``."""
    notes: tuple[str, ...] = ()
    """What else a user should know, in words."""


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of a video.

    >>> Clip(torch.zeros(8, 3, 240, 320, dtype=torch.uint8), torch.arange(8) / 25)
    Clip(T=8, H=240, W=320, 0.000 s to 0.280 s)
    """

    frames: Tensor
    """uint8 (T, 3, H, W), RGB."""
    pts_seconds: Tensor
    """float64 (T,): when each frame is shown, on the file's own clock; it goes back where a short clip is looped."""
    flow: Tensor | None = None
    """float32 (T, 2, H, W) in pixels, x to the right and y down; or None."""
    source: str = ""
    """Where it came from, for messages."""

    def __post_init__(self) -> None:
        frames = self.frames
        if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
            got = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
            raise InvalidTypeError(f"Clip.frames must be a uint8 tensor (T, 3, H, W); got {got}")
        if frames.ndim != 4 or frames.shape[1] != 3:
            channels_last = frames.ndim == 4 and frames.shape[3] == 3
            hint = "; it looks like (T, H, W, 3): use frames.permute(0, 3, 1, 2)" if channels_last else ""
            raise InvalidInputError(f"Clip.frames must have shape (T, 3, H, W); got {tuple(frames.shape)}{hint}")
        pts = torch.as_tensor(self.pts_seconds, dtype=torch.float64)
        if pts.shape != frames.shape[:1]:
            raise InvalidInputError(
                f"Clip.pts_seconds must have one time per frame: {len(frames)} frames, got {tuple(pts.shape)}"
            )
        object.__setattr__(self, "pts_seconds", pts)
        if self.flow is not None:
            expected = (len(frames), 2, *frames.shape[2:])
            if self.flow.dtype != torch.float32 or tuple(self.flow.shape) != expected:
                raise InvalidInputError(
                    f"Clip.flow must be float32 {expected}; got {self.flow.dtype} {tuple(self.flow.shape)}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, index: Tensor) -> "Clip":
        """The frames at ``index`` (int64), in that order, with their times and flow.

        >>> Clip(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3) / 25).take(torch.tensor([0, 2, 0]))
        Clip(T=3, H=8, W=8, 0.000 s to 0.000 s)
        """
        if torch.equal(index, torch.arange(len(self))):
            return self
        flow = None if self.flow is None else self.flow[index]
        return Clip(self.frames[index], self.pts_seconds[index], flow, self.source)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.frames.shape[3]

    def __repr__(self) -> str:
        when = f", {self.pts_seconds[0]:.3f} s to {self.pts_seconds[-1]:.3f} s" if len(self) else ""
        flow = ", with flow" if self.flow is not None else ""
        source = f", {self.source}" if self.source else ""
        return f"Clip(T={len(self)}, H={self.height}, W={self.width}{when}{flow}{source})"


@dataclass(frozen=True)
class Window:
    """The scores of one stretch of a video."""

    start_seconds: float
    stop_seconds: float
    logits: Tensor
    """float32 (classes,)."""


@dataclass(frozen=True)
class Prediction:
    """What the recogniser says about a video.

    >>> from quovadis.types import Prediction, Window
    >>> logits = torch.tensor([0.0, 2.0, 1.0])
    >>> p = Prediction("v.mp4", ("run", "jump", "swim"), logits, (Window(0.0, 2.56, logits),))
    >>> p.label
    'jump'
    >>> [(label, round(probability, 3)) for label, probability in p.top(2)]
    [('jump', 0.665), ('swim', 0.245)]
    """

    source: str
    labels: tuple[str, ...]
    logits: Tensor
    """float32 (classes,): the mean over the windows."""
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()
    """What a reader should know: the video was looped, it ends early ..."""
    window_seconds: float | None = None
    """Length of the windows, as asked for; the last window of a video may be shorter."""
    stride_seconds: float | None = None
    """From one window to the next."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[int(self.logits.argmax())]

    @property
    def probabilities(self) -> Tensor:
        """float32 (classes,): softmax of the averaged logits, as in the official code."""
        return self.logits.softmax(0)

    def top(self, k: int = 5, window: Window | None = None) -> list[tuple[str, float]]:
        """The ``k`` most probable classes with their probabilities, of the video or of one of its windows."""
        probabilities = self.probabilities if window is None else window.logits.softmax(0)
        values, indices = probabilities.topk(min(k, len(self.labels)))
        return [(self.labels[i], float(v)) for v, i in zip(values, indices.tolist(), strict=True)]

    def describe_windows(self) -> str:
        """Length and stride of the windows in words; empty where they are unknown.

        >>> windows = (Window(0.0, 2.0, torch.zeros(1)),)
        >>> Prediction("v.mp4", ("run",), torch.zeros(1), windows, (), 10.0, 10.0).describe_windows()
        'windows of 10 s'
        >>> Prediction("v.mp4", ("run",), torch.zeros(1), windows, (), 2.56, 1.28).describe_windows()
        'windows of 2.56 s every 1.28 s'
        """
        if self.window_seconds is None or self.stride_seconds is None:
            return ""
        every = "" if self.stride_seconds == self.window_seconds else f" every {self.stride_seconds:.4g} s"
        return f"windows of {self.window_seconds:.4g} s{every}"

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """Plain values for JSON: the top ``k`` of the video and of each window."""
        return {
            "video": self.source,
            "window_seconds": self.window_seconds,
            "stride_seconds": self.stride_seconds,
            "top": [{"label": name, "probability": p} for name, p in self.top(k)],
            "windows": [
                {
                    "start_seconds": round(w.start_seconds, 3),
                    "stop_seconds": round(w.stop_seconds, 3),
                    "top": [{"label": name, "probability": p} for name, p in self.top(k, w)],
                }
                for w in self.windows
            ],
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        top = ", ".join(f"{name} {p:.1%}" for name, p in self.top(3))
        return f"Prediction({self.source}: {top}; {len(self.windows)} windows)"


@dataclass(frozen=True)
class VideoResult:
    """How one video of an evaluation came out."""

    path: str
    label: str
    top: tuple[tuple[str, float], ...]
    """Most probable classes first, with probabilities; empty when the file could not be read."""
    error: str = ""

    @property
    def correct(self) -> bool:
        """True when the most probable class is the label."""
        return bool(self.top) and self.top[0][0] == self.label


@dataclass(frozen=True)
class EvaluationResult:
    """The figures of one evaluation, with everything that a reader needs to compare them."""

    dataset: str
    data_identity: str
    """Hash of the list of videos: equal hashes mean equal data."""
    split: str
    protocol: str
    """The protocol in words."""
    model: str
    labels: tuple[str, ...]
    top1: float
    top5: float
    mean_class: float
    """Mean of the per-class top-1 accuracies, over the classes that have videos."""
    loss: float
    """Mean cross-entropy over the videos that could be read; NaN if there is none, which is null in JSON."""
    confusion: Tensor
    """int64 (classes, classes): rows are true labels, columns predictions; unreadable files are in no cell."""
    videos: tuple[VideoResult, ...]
    logits: Tensor
    """float32 (videos, classes): the scores behind the figures; NaN where a video could not be read."""

    @property
    def num_videos(self) -> int:
        """Videos of the split, readable or not: the denominator of every figure."""
        return len(self.videos)

    @property
    def unreadable(self) -> tuple[VideoResult, ...]:
        """Videos that could not be read, and so count as wrong."""
        return tuple(v for v in self.videos if v.error)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "dataset": self.dataset,
            "data_identity": self.data_identity,
            "split": self.split,
            "protocol": self.protocol,
            "model": self.model,
            "labels": list(self.labels),
            "num_videos": self.num_videos,
            "num_unreadable": len(self.unreadable),
            "top1": self.top1,
            "top5": self.top5,
            "mean_class": self.mean_class,
            "loss": None if math.isnan(self.loss) else self.loss,
            "confusion": self.confusion.tolist(),
            "videos": [
                {"path": v.path, "label": v.label, "top": [list(t) for t in v.top], "error": v.error}
                for v in self.videos
            ],
        }

    def __repr__(self) -> str:
        return (
            f"EvaluationResult({self.dataset} {self.split}: top-1 {self.top1:.1%}, top-5 {self.top5:.1%}, "
            f"mean per class {self.mean_class:.1%}, {self.num_videos} videos, "
            f"{len(self.unreadable)} unreadable, {self.protocol})"
        )


@dataclass(frozen=True)
class ClassCount:
    """The videos of one class."""

    label: str
    """Empty for the videos whose class is not published."""
    splits: dict[str, int]
    missing: int
    corrupt: int

    @property
    def num_videos(self) -> int:
        """Listed videos, there or not."""
        return sum(self.splits.values())


@dataclass(frozen=True)
class Duplicate:
    """Files with the same bytes."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    """The splits that they lie in; more than one means that a test video was trained on."""
    labels: tuple[str, ...]
    """Their classes; more than one means that a label is wrong."""


@dataclass(frozen=True)
class Overlap:
    """What two lists of videos have in common, each thing counted once however many videos have it."""

    first: str
    second: str
    same_content: int
    """Files with the same bytes; counts only files that were indexed."""
    same_group: int
    same_youtube_id: int
    """Videos of YouTube that both have cuts of, by file names as Kinetics has them."""


@dataclass(frozen=True)
class DatasetStatistics:
    """What is there, what is wrong, and what the videos are like."""

    dataset: str
    data_identity: str
    """Hash of the list of videos: equal hashes mean equal data."""
    splits: dict[str, int]
    statuses: dict[str, int]
    num_unknown: int
    """Videos of which nothing bad is known because they were never looked at."""
    classes: tuple[ClassCount, ...]
    fps: dict[str, int]
    """Videos by frames a second, the most frequent first."""
    sizes: dict[str, int]
    """Videos by width x height."""
    durations_seconds: tuple[float, ...]
    """In order of length, of the videos whose length is known; as all these figures, without corrupt files."""
    num_bytes: int
    duplicates: tuple[Duplicate, ...]
    overlaps: tuple[Overlap, ...]
    """Between the splits; between this dataset's splits and another's, where one was given."""
    problems: tuple[tuple[str, str, str], ...]
    """Path, status and reason of what is corrupt, then of what is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"num_videos": sum(self.splits.values())}
        seconds = values.pop("durations_seconds")
        values["duration_seconds"] = {
            "total": sum(seconds),
            **{name: seconds[i] if seconds else None for name, i in _order_statistics(len(seconds)).items()},
        }
        values["problems"] = [dict(zip(("path", "status", "reason"), p, strict=True)) for p in self.problems]
        return values


def _order_statistics(count: int) -> dict[str, int]:
    return {"min": 0, "median": count // 2, "max": count - 1}


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says about the network inside; written into the file itself."""

    model: str
    """Name for :func:`quovadis.create_model`."""
    options: dict[str, Any]
    """The other arguments of :func:`quovadis.create_model`: stream, num_classes ..."""
    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where the numbers came from: recipe, step, data identity, or the published file."""


def require_frames(num_frames: int, needed: int, source: str, needed_by: str) -> None:
    """Raise :class:`TooFewFramesError` unless there are ``needed`` frames.

    >>> require_frames(6, 9, "clip.mp4", "i3d")
    Traceback (most recent call last):
    quovadis.errors.TooFewFramesError: clip.mp4 has 6 frames; i3d needs at least 9: use short='loop' or a longer clip
    """
    if num_frames < needed:
        raise TooFewFramesError(
            f"{source or 'the clip'} has {num_frames} frame{'s' * (num_frames != 1)}; {needed_by} needs at "
            f"least {needed}: use short='loop' or a longer clip"
        )
