"""Results of the analyses that the web demo shows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from quovadis.inference.activation_maps import ActivationMaps
from quovadis.inference.prediction import Prediction
from quovadis.inference.timeline import Timeline
from quovadis.models.spec import StreamKind
from quovadis.web.limits import UploadInfo


@dataclass(frozen=True)
class FlowFrame:
    """A frame and its optical flow to the next frame."""

    seconds: float
    frame: Tensor
    """uint8 (3, H, W), RGB, short side at most 200 pixels."""
    flow: Tensor
    """uint8 (3, h, w), drawn by :func:`quovadis.flow.draw.draw_flow` at the input size of the network."""


@dataclass(frozen=True)
class FlowSample:
    """Evenly spaced frames of a video with their optical flow."""

    frames: tuple[FlowFrame, ...]
    method: str
    """Method that estimated the flow."""


@dataclass(frozen=True)
class VideoPrediction:
    """The prediction of one recognizer for a whole video."""

    video: str
    """File name without folder."""
    info: UploadInfo
    model: str
    flow_method: str
    prediction: Prediction
    """Equal to :meth:`Recognizer.predict` with default arguments, and so to ``quovadis predict``."""
    work_seconds: float
    maps: ActivationMaps | None = None
    """Activation maps of the most probable classes; None for networks without them, or before they are computed."""
    maps_model: str = ""
    """Description of the network or networks that computed the maps."""
    calibration: str = ""
    """How the probabilities were calibrated; empty if they were not."""


@dataclass(frozen=True)
class BatchRow:
    """The result for one of many videos: a prediction or an error."""

    video: str
    """File name without folder."""
    prediction: VideoPrediction | None = None
    error: str = ""


@dataclass(frozen=True)
class Recognition:
    """The prediction of one recognizer for a video, with its timeline."""

    overall: VideoPrediction
    timeline: Timeline
    """Predictions for shorter, overlapping windows."""
    work_seconds: float

    @property
    def span_seconds(self) -> tuple[float, float]:
        """Start and end of the timeline, in seconds on the clock of the file."""
        cells = self.timeline.cells()
        return cells[0][0], cells[-1][1]


@dataclass(frozen=True)
class Comparison:
    """The predictions of two recognizers for the same video."""

    first: Recognition
    second: Recognition

    @property
    def agreement(self) -> float:
        """Fraction of the time in which both predict the same class, in [0, 1]."""
        tracks = [_best_labels(r.timeline) for r in (self.first, self.second)]
        edges = sorted({edge for track in tracks for start, stop, _ in track for edge in (start, stop)})
        same = sum(b - a for a, b in pairwise(edges) if len({_label_at((a + b) / 2, t) for t in tracks}) == 1)
        return same / (edges[-1] - edges[0])


@dataclass(frozen=True)
class FeatureComparison:
    """Cosine similarities between the features of two clips over time."""

    videos: tuple[str, str]
    streams: tuple[StreamKind, ...]
    center_seconds: tuple[list[float], list[float]]
    """Times of the rows and of the columns of ``similarity``."""
    similarity: Tensor
    """float32 (windows of the first clip, windows of the second clip), averaged over the streams."""
    mean_similarity: float
    """Cosine similarity of the mean features, averaged over the streams."""
    self_similarity: tuple[float | None, float | None]
    """For each clip, the mean cosine similarity of its windows that do not overlap; None if it has no two of them."""
    window_seconds: float
    work_seconds: float


def _best_labels(timeline: Timeline) -> list[tuple[float, float, str]]:
    """Start, stop and most probable class of each cell."""
    labels, best = timeline.prediction.labels, timeline.probabilities.argmax(1).tolist()
    return [(start, stop, labels[i]) for (start, stop), i in zip(timeline.cells(), best, strict=True)]


def _label_at(seconds: float, track: list[tuple[float, float, str]]) -> str:
    """The class at a time; after the last cell, the class of the last cell."""
    return next((label for _, stop, label in track if seconds < stop), track[-1][2])
