"""What happens when in a long video: windows through a recognizer, joined to segments."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import InvalidInputError
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.recognizer import Recognizer


@dataclass(frozen=True)
class Segment:
    """A stretch of a video in which one class is the most probable."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float
    """Mean over the windows that were joined."""


@dataclass(frozen=True)
class Timeline:
    """What happens when.

    >>> from quovadis.inference.prediction import Window
    >>> scores = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    >>> windows = [Window(t, t + 2.0, scores[t]) for t in range(3)]
    >>> prediction = Prediction("v.mp4", ("run", "jump"), windows[0].logits, tuple(windows))
    >>> [(s.start_seconds, s.stop_seconds, s.label) for s in Timeline(prediction).segments()]
    [(0, 2.5, 'run'), (2.5, 4.0, 'jump')]
    """

    prediction: Prediction
    """With overlapping windows."""
    smooth_seconds: float = 0.0
    """The probabilities of a window are the mean over windows whose middles are at most half of this away."""

    @property
    def center_seconds(self) -> list[float]:
        """The middle of each window."""
        return [(w.start_seconds + w.stop_seconds) / 2 for w in self.prediction.windows]

    @property
    def probabilities(self) -> Tensor:
        """float32 (windows, classes): the softmax of each window, smoothed over time."""
        raw = torch.stack([w.logits for w in self.prediction.windows]).softmax(1)
        centers = torch.tensor(self.center_seconds, dtype=torch.float64)
        near = (centers[:, None] - centers).abs() <= self.smooth_seconds / 2 + 1e-9
        return (near / near.sum(1, keepdim=True)).float() @ raw

    def cells(self) -> list[tuple[float, float]]:
        """The stretch that each window speaks for: half way to its neighbors, the first and last to the ends."""
        windows, centers = self.prediction.windows, self.center_seconds
        inner = [(a + b) / 2 for a, b in pairwise(centers)]
        edges = [windows[0].start_seconds, *inner, max(w.stop_seconds for w in windows)]
        return list(pairwise(edges))

    def segments(self, min_probability: float = 0.0) -> tuple[Segment, ...]:
        """Neighboring windows of the same class joined; less probable ones leave a gap.

        Args:
            min_probability: of the best class of a window, below which it speaks for nothing.
        """
        probabilities, best = self.probabilities.max(1)
        joined: list[tuple[list[int], int]] = []
        for i, (probability, label) in enumerate(zip(probabilities.tolist(), best.tolist(), strict=True)):
            if probability < min_probability:
                continue
            if joined and joined[-1][1] == label and joined[-1][0][-1] == i - 1:
                joined[-1][0].append(i)
            else:
                joined.append(([i], label))
        cells = self.cells()
        return tuple(
            Segment(cells[w[0]][0], cells[w[-1]][1], self.prediction.labels[label], float(probabilities[w].mean()))
            for w, label in joined
        )

    def top_labels(self, k: int) -> list[str]:
        """The ``k`` classes that are the most probable for the longest time, then those with the highest peaks."""
        probabilities = self.probabilities
        seconds = torch.zeros(len(self.prediction.labels), dtype=torch.float64)
        for (start, stop), label in zip(self.cells(), probabilities.argmax(1).tolist(), strict=True):
            seconds[label] += stop - start
        peaks = probabilities.amax(0).tolist()
        order = sorted(range(len(peaks)), key=lambda label: (-float(seconds[label]), -peaks[label]))
        return [self.prediction.labels[label] for label in order[:k]]

    def curves(self, labels: Sequence[str]) -> dict[str, list[float]]:
        """The probability of some classes over the windows."""
        column = {name: i for i, name in enumerate(self.prediction.labels)}
        probabilities = self.probabilities
        return {name: probabilities[:, column[name]].tolist() for name in labels}

    def to_dict(self, k: int = 6, min_probability: float = 0.0) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "video": self.prediction.source,
            "segments": [asdict(s) for s in self.segments(min_probability)],
            "min_probability": min_probability,
            "smooth_seconds": self.smooth_seconds,
            "window_seconds": self.prediction.window_seconds,
            "stride_seconds": self.prediction.stride_seconds,
            "windows": [[w.start_seconds, w.stop_seconds] for w in self.prediction.windows],
            "curves": self.curves(self.top_labels(k)),
            "notes": list(self.prediction.notes),
        }

    def to_csv(self, min_probability: float = 0.0) -> str:
        """The segments: ``start_seconds,stop_seconds,label,probability``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("start_seconds", "stop_seconds", "label", "probability"))
        for s in self.segments(min_probability):
            writer.writerow((f"{s.start_seconds:.3f}", f"{s.stop_seconds:.3f}", s.label, f"{s.probability:.4f}"))
        return text.getvalue()


def make_timeline(
    recognizer: Recognizer,
    path: str | PathLike[str],
    *,
    window_seconds: float | None = None,
    stride_seconds: float | None = None,
    smooth_seconds: float = 0.0,
    on_window: Callable[[Window], None] | None = None,
) -> Timeline:
    """Recognize a video window by window.

    Args:
        recognizer: the model or models.
        path: any video.
        window_seconds: length of a window; by default a training clip (2.56 s for I3D).
        stride_seconds: from one window to the next; by default half a window.
        smooth_seconds: probabilities are averaged over so long a time; 0 takes each window for itself.
        on_window: called with each window once it has its scores; what it raises ends the work.

    Raises:
        VideoError: the video cannot be read at all. InvalidInputError: a window that is too short.
    """
    spec = recognizer.spec
    window = clip_extent(spec)[2] / spec.fps if window_seconds is None else window_seconds
    stride = window / 2 if stride_seconds is None else stride_seconds
    if not 0 <= smooth_seconds < float("inf"):
        raise InvalidInputError(f"smooth_seconds must be 0 or more; got {smooth_seconds}")
    prediction = recognizer.predict(path, window_seconds=window, stride_seconds=stride, on_window=on_window)
    return Timeline(prediction, smooth_seconds)


def partial_timeline(
    labels: Sequence[str], path: str | PathLike[str], windows: Sequence[Window], smooth_seconds: float = 0.0
) -> Timeline:
    """Make the timeline of the windows that were scored before an interrupt; a note says where it ends.

    Args:
        labels: The classes.
        path: The video.
        windows: At least one.
        smooth_seconds: As for :func:`make_timeline`.
    """
    logits = torch.stack([w.logits for w in windows]).mean(0)
    note = f"interrupted: this covers the video up to {windows[-1].stop_seconds:.2f} s"
    return Timeline(Prediction(str(path), tuple(labels), logits, tuple(windows), (note,)), smooth_seconds)
