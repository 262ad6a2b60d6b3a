"""Results of an evaluation."""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


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
    data_fingerprint: str
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
