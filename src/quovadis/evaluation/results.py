"""Results of an evaluation: metrics, the confusion matrix and every video."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class VideoResult:
    """Result of one video in an evaluation.

    Example:
        >>> VideoResult("run/1.mp4", "run", (("run", 0.9), ("jump", 0.1))).correct
        True
    """

    path: str
    label: str
    top: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities, in descending order; empty if the video was unreadable."""
    error: str = ""
    """Why the video could not be read; empty if it could."""

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the label."""
        return bool(self.top) and self.top[0][0] == self.label


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of one model on one split, with the protocol and the fingerprint of the data.

    Unreadable videos count as wrong in ``top1``, ``top5`` and ``mean_class``.

    Example:
        >>> import torch
        >>> from quovadis.evaluation.dump import LogitDump, score_dump
        >>> dump = LogitDump(
        ...     "clips", "0", "test", ("i3d (rgb)",), ("paper",), ("run", "jump"), ("a.mp4", "b.mp4"), ("", ""),
        ...     torch.tensor([0, 1]), torch.tensor([[[2.0, 0.0], [3.0, 1.0]]]),
        ... )
        >>> score_dump(dump)[0]
        EvaluationResult(clips test: top-1 50.0%, top-5 100.0%, mean per class 50.0%, 2 videos, 0 unreadable, paper)
    """

    dataset: str
    data_fingerprint: str
    """Hash of the list of videos; equal hashes mean equal data."""
    split: str
    protocol: str
    """Description of the protocol."""
    model: str
    labels: tuple[str, ...]
    top1: float
    top5: float
    mean_class: float
    """Mean of the top-1 accuracies of all classes that have videos."""
    loss: float
    """Mean cross-entropy of the readable videos; NaN (null in JSON) if there are none."""
    confusion: Tensor
    """int64 (classes, classes): rows are true classes, columns predictions; without unreadable videos."""
    videos: tuple[VideoResult, ...]
    logits: Tensor
    """float32 (videos, classes); NaN for unreadable videos."""

    @property
    def num_videos(self) -> int:
        """Number of videos in the split, unreadable ones included."""
        return len(self.videos)

    @property
    def unreadable(self) -> tuple[VideoResult, ...]:
        """The videos that could not be read."""
        return tuple(v for v in self.videos if v.error)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON, without the logits."""
        return {
            "dataset": self.dataset,
            "data_fingerprint": self.data_fingerprint,
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
