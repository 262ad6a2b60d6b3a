"""HTML page about an evaluation: metrics, training curves, examples, confusion matrices and filters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.prediction import Prediction
from quovadis.report.charts import confusion_svg, curves_svg, filmstrip_uri, png_uri
from quovadis.report.html import render


@dataclass(frozen=True)
class Example:
    """A video of the evaluated split with its predicted classes."""

    frames: Tensor
    """uint8 (T, 3, H, W)."""
    caption: str
    label: str
    """The true class."""
    top: tuple[tuple[str, float], ...]
    """The most probable classes, in descending order, with their probabilities."""
    flow: Tensor | None = None
    """Optical flow drawn in colors, uint8 (T, 3, H, W); None if no model uses flow."""
    evidence: Tensor | None = None
    """Frames with the class activation maps of the most probable class, uint8 (T, 3, H, W)."""

    @property
    def correct(self) -> bool:
        """Whether the most probable class is the label."""
        return bool(self.top) and self.top[0][0] == self.label


@dataclass(frozen=True)
class Page:
    """Content of the HTML page about one or more evaluations."""

    title: str
    summary: str
    """One or two sentences below the title."""
    results: Sequence[EvaluationResult]
    sections: Sequence[str] = ()
    """HTML of sections above the metrics; see :func:`recognition_section`."""
    examples: Sequence[Example] = ()
    logs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Rows of ``log.jsonl`` for each trained stream."""
    filters: Mapping[str, bytes] = field(default_factory=dict)
    """PNG of the first convolution for each model (figure 4 of the paper)."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How the results were made: recipe, data, hardware."""

    def to_html(self) -> str:
        """Render the page as one string with all styles and images embedded."""
        return render(
            "quovadis.report",
            "evaluation.html",
            title=self.title,
            summary=self.summary,
            page=self,
            unreadable={v.path: v.error for result in self.results for v in result.unreadable},
            chance_accuracy=_chance_accuracy,
            curves_svg=curves_svg,
            confusion_svg=confusion_svg,
            filmstrip_uri=filmstrip_uri,
            png_uri=png_uri,
        )


def recognition_section(title: str, prediction: Prediction, images: Mapping[str, bytes], k: int = 5) -> str:
    """Render a section about one video: its most probable classes and images.

    Args:
        title: Heading, plain text.
        prediction: The prediction for the video.
        images: PNG files by description.
        k: Number of classes to show.

    Returns:
        HTML for :attr:`Page.sections`.
    """
    return render(
        "quovadis.report",
        "recognition.html",
        title=title,
        prediction=prediction,
        images=images,
        k=k,
        windows=prediction.describe_windows(),
        png_uri=png_uri,
    )


def _chance_accuracy(result: EvaluationResult) -> float:
    """The accuracy of guessing among the classes that have videos."""
    return 1 / max(int((result.confusion.sum(1) > 0).sum()), 1)
