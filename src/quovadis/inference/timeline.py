"""Timelines: the actions in a long video and when they happen."""

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
    """Part of a video in which one class is the most probable."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float
    """Mean over the windows of the segment."""


@dataclass(frozen=True)
class Timeline:
    """Class probabilities of a video over time, from :func:`make_timeline`.

    Example:
        >>> scores = torch.tensor([[9.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
        >>> windows = [Window(t, t + 2.0, scores[t]) for t in range(3)]
        >>> prediction = Prediction("v.mp4", ("run", "jump"), windows[0].logits, tuple(windows))
        >>> [(s.start_seconds, s.stop_seconds, s.label) for s in Timeline(prediction).segments()]
        [(0, 2.5, 'run'), (2.5, 4.0, 'jump')]
    """

    prediction: Prediction
    """Prediction with overlapping windows."""
    smooth_seconds: float = 0.0
    """Width of the moving average: a window is averaged with those whose centers are at most half of this away."""

    @property
    def center_seconds(self) -> list[float]:
        """Middle of each window."""
        return [(w.start_seconds + w.stop_seconds) / 2 for w in self.prediction.windows]

    @property
    def probabilities(self) -> Tensor:
        """float32 (windows, classes): softmax of each window, smoothed over time."""
        raw = torch.stack([w.logits for w in self.prediction.windows]).softmax(1)
        centers = torch.tensor(self.center_seconds, dtype=torch.float64)
        near = (centers[:, None] - centers).abs() <= self.smooth_seconds / 2 + 1e-9
        return (near / near.sum(1, keepdim=True)).float() @ raw

    def cells(self) -> list[tuple[float, float]]:
        """Start and stop of the part of the video that each window stands for, up to halfway to its neighbors."""
        windows, centers = self.prediction.windows, self.center_seconds
        inner = [(a + b) / 2 for a, b in pairwise(centers)]
        edges = [windows[0].start_seconds, *inner, max(w.stop_seconds for w in windows)]
        return list(pairwise(edges))

    def segments(self, min_probability: float = 0.0) -> tuple[Segment, ...]:
        """Merge neighboring windows of the same class.

        Args:
            min_probability: Leave a gap at windows whose best class is less probable.
        """
        probabilities, best = self.probabilities.max(1)
        merged: list[tuple[list[int], int]] = []
        for i, (probability, label) in enumerate(zip(probabilities.tolist(), best.tolist(), strict=True)):
            if probability < min_probability:
                continue
            if merged and merged[-1][1] == label and merged[-1][0][-1] == i - 1:
                merged[-1][0].append(i)
            else:
                merged.append(([i], label))
        cells = self.cells()
        return tuple(
            Segment(cells[w[0]][0], cells[w[-1]][1], self.prediction.labels[label], float(probabilities[w].mean()))
            for w, label in merged
        )

    def top_labels(self, k: int) -> list[str]:
        """Return the ``k`` classes that are most probable for the longest time, then those with the highest peaks."""
        probabilities = self.probabilities
        seconds = torch.zeros(len(self.prediction.labels), dtype=torch.float64)
        for (start, stop), label in zip(self.cells(), probabilities.argmax(1).tolist(), strict=True):
            seconds[label] += stop - start
        peaks = probabilities.amax(0).tolist()
        order = sorted(range(len(peaks)), key=lambda label: (-float(seconds[label]), -peaks[label]))
        return [self.prediction.labels[label] for label in order[:k]]

    def curves(self, labels: Sequence[str]) -> dict[str, list[float]]:
        """Return the probability of each label in every window."""
        column = {name: i for i, name in enumerate(self.prediction.labels)}
        probabilities = self.probabilities
        return {name: probabilities[:, column[name]].tolist() for name in labels}

    def to_dict(self, k: int = 6, min_probability: float = 0.0) -> dict[str, Any]:
        """Convert to plain values for JSON, with the curves of ``k`` classes."""
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
        """Format the segments as CSV: ``start_seconds,stop_seconds,label,probability``."""
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
    """Find the actions in a video and when they happen.

    Args:
        recognizer: One or more models.
        path: Video file.
        window_seconds: Length of a window. Defaults to that of a training clip (2.56 s for I3D).
        stride_seconds: Time from one window to the next. Defaults to half a window.
        smooth_seconds: Average the probabilities over this time; 0 for no smoothing.
        on_window: Called with each window after it was scored.

    Raises:
        VideoError: If nothing of the video can be read.
        InvalidInputError: If the window is too short, or ``smooth_seconds`` is negative.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> timeline = make_timeline(recognizer, getfixture("clip_path"))
        >>> timeline.probabilities.shape, timeline.segments()[0].start_seconds
        (torch.Size([3, 2]), 0.0)
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
    """Make a timeline of the windows that were scored before an interrupt, with a note.

    Args:
        labels: Class names.
        path: Video file.
        windows: One or more windows.
        smooth_seconds: As for :func:`make_timeline`.
    """
    logits = torch.stack([w.logits for w in windows]).mean(0)
    note = f"interrupted: this covers the video up to {windows[-1].stop_seconds:.2f} s"
    return Timeline(Prediction(str(path), tuple(labels), logits, tuple(windows), (note,)), smooth_seconds)
