"""Predictions: logits of a video and of its windows."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Logits of one window of a video.

    Example:
        >>> import torch
        >>> Window(0.0, 2.56, torch.tensor([0.0, 2.0])).stop_seconds
        2.56
    """

    start_seconds: float
    stop_seconds: float
    logits: Tensor
    """float32 (classes,)."""


@dataclass(frozen=True)
class Prediction:
    """Logits of a video and of its windows, from :meth:`Recognizer.predict`.

    Example:
        >>> import torch
        >>> logits = torch.tensor([0.0, 2.0, 1.0])
        >>> prediction = Prediction("v.mp4", ("run", "jump", "swim"), logits, (Window(0.0, 2.56, logits),))
        >>> prediction.label
        'jump'
        >>> [(label, round(probability, 3)) for label, probability in prediction.top(2)]
        [('jump', 0.665), ('swim', 0.245)]
    """

    source: str
    labels: tuple[str, ...]
    logits: Tensor
    """float32 (classes,): mean over the windows."""
    windows: tuple[Window, ...]
    notes: tuple[str, ...] = ()
    """Caveats, such as a video that was looped or is damaged."""
    window_seconds: float | None = None
    """Requested length of the windows; the window of a shorter video is shorter."""
    stride_seconds: float | None = None
    """Time from one window to the next."""

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.labels[int(self.logits.argmax())]

    @property
    def probabilities(self) -> Tensor:
        """float32 (classes,): softmax of the mean logits, as in the official code."""
        return self.logits.softmax(0)

    def top(self, k: int = 5, window: Window | None = None) -> list[tuple[str, float]]:
        """Return the ``k`` most probable classes with their probabilities, for the video or one of its windows."""
        probabilities = self.probabilities if window is None else window.logits.softmax(0)
        values, indices = probabilities.topk(min(k, len(self.labels)))
        return [(self.labels[i], float(v)) for v, i in zip(values, indices.tolist(), strict=True)]

    def describe_windows(self) -> str:
        """Describe the length and stride of the windows; empty if they are unknown.

        >>> import torch
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
        """Convert to plain values for JSON, with the ``k`` most probable classes of the video and of each window."""
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
        plural = "" if len(self.windows) == 1 else "s"
        return f"Prediction({self.source}: {top}; {len(self.windows)} window{plural})"
