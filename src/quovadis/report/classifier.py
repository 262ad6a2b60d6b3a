"""HTML page about a classifier on frozen features: accuracy, a map of the videos, and what to check in the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.errors import DatasetError
from quovadis.evaluation.results import EvaluationResult
from quovadis.metrics.calibration import expected_calibration_error, reliability_bins
from quovadis.report.charts import confusion_svg, jpeg_uri, learning_curve_svg, reliability_svg
from quovadis.report.html import render
from quovadis.report.palette import class_colors
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.plain_text import printable
from quovadis.training.accuracy_curve import more_data_helps
from quovadis.training.data_findings import DataFindings
from quovadis.training.frozen_classifier import FrozenRun
from quovadis.training.frozen_features import read_filmstrip

_MAX_MAP_STRIPS = 2000
"""Filmstrips on the map, each about 6 kB."""
_MAX_LISTED = 40
_MAX_MISTAKES = 12
_SHAPES = ("circle", "square", "triangle", "diamond")
_NUM_COLORS = 10
_NUM_BINS = 10


@dataclass(frozen=True)
class ClassRow:
    """Results of one class."""

    label: str
    num_videos: int
    """Evaluated videos of the class that could be read."""
    recall: float | None
    """Fraction of them that are recognized; None without videos."""
    precision: float | None
    """Fraction of the videos predicted as this class that belong to it; None without such videos."""
    confused_with: str
    """The most frequent wrong prediction; empty if there is none."""
    num_confused: int


def write_classifier_page(
    path: str | PathLike[str], run: FrozenRun, *, title: str, summary: str, facts: Mapping[str, str]
) -> Path:
    """Write the HTML page about a trained classifier. Filmstrips are read from the cache of the features.

    Args:
        path: The file to write.
        run: The result of the training.
        title: Title of the page.
        summary: One or two sentences below the title.
        facts: How the results were made, by name.

    Returns:
        The path of the file.

    Raises:
        StorageError: If the file cannot be written.

    Example:
        >>> run = train_frozen("i3d-rgb-kinetics400", data, "runs/mine", num_folds=5)  # doctest: +SKIP
        >>> write_classifier_page("report.html", run, title="Mine", summary="", facts={})  # doctest: +SKIP
    """
    findings = run.findings
    strips = _Filmstrips(findings)
    content = render(
        "quovadis.report",
        "classifier.html",
        title=title,
        summary=summary,
        facts=facts,
        run=run,
        findings=findings,
        rows=class_rows(run.result),
        confusion=confusion_svg(run.result.confusion, run.result.labels),
        reliability=_draw_reliability(run),
        curve=_draw_curve(run),
        more_data=more_data_helps(run.curve) if run.curve else "",
        videos=_describe_videos(findings, strips),
        classes=_describe_classes(findings.labels),
        mistakes=_mistakes(findings),
        probability_of=_probabilities(findings),
        strip=strips.uri,
        max_listed=_MAX_LISTED,
        max_strips=_MAX_MAP_STRIPS,
    )
    return write_atomically(path, content.encode())


def class_rows(result: EvaluationResult) -> list[ClassRow]:
    """Compute recall, precision and the most frequent confusion of each class, lowest recall first.

    Example:
        >>> rows = class_rows(evaluation_result)  # doctest: +SKIP
        >>> rows[0].label, rows[0].confused_with  # doctest: +SKIP
        ('jump', 'run')
    """
    confusion = result.confusion
    predicted = confusion.sum(0)
    rows = []
    for i, label in enumerate(result.labels):
        own = confusion[i]
        total, hits = int(own.sum()), int(own[i])
        wrong = own.clone()
        wrong[i] = 0
        worst = int(wrong.argmax())
        rows.append(
            ClassRow(
                label,
                total,
                hits / total if total else None,
                hits / int(predicted[i]) if predicted[i] else None,
                result.labels[worst] if wrong[worst] else "",
                int(wrong[worst]),
            )
        )
    return sorted(rows, key=lambda row: (row.recall is None, row.recall, row.label))


class _Filmstrips:
    """Filmstrips of videos as ``data:`` URLs; empty where the cache file was removed."""

    def __init__(self, findings: DataFindings):
        self._files = findings.files

    def uri(self, index: int) -> str:
        try:
            return jpeg_uri(read_filmstrip(self._files[index]))
        except DatasetError:
            return ""


def _draw_reliability(run: FrozenRun) -> str:
    targets = run.findings.targets[run.findings.scored]
    series = {}
    for name, probabilities in (("before", run.uncalibrated), ("after", run.findings.probabilities)):
        error = expected_calibration_error(probabilities, targets)
        series[f"{name} calibration, error {error:.1%}"] = reliability_bins(probabilities, targets, _NUM_BINS)
    return reliability_svg(series)


def _draw_curve(run: FrozenRun) -> str:
    points = run.curve
    if not points:
        return ""
    return learning_curve_svg(
        [p.num_per_class for p in points],
        [p.accuracy for p in points],
        [p.low for p in points],
        [p.high for p in points],
    )


def _probabilities(findings: DataFindings) -> dict[int, tuple[str, float]]:
    """The predicted class and its probability for each scored video."""
    best, predicted = findings.probabilities.max(1)
    return {
        index: (findings.labels[label], probability)
        for index, label, probability in zip(findings.scored.tolist(), predicted.tolist(), best.tolist(), strict=True)
    }


def _describe_videos(findings: DataFindings, strips: _Filmstrips) -> list[dict[str, Any]]:
    """What the map shows for each video, for JSON."""
    predictions = _probabilities(findings)
    doubtful = {doubt.index for doubt in findings.doubts}
    videos = []
    for i, ((x, y), label) in enumerate(zip(findings.points.tolist(), findings.targets.tolist(), strict=True)):
        predicted, probability = predictions.get(i, ("", 0.0))
        videos.append(
            {
                "x": round(x, 4),
                "y": round(y, 4),
                "label": label,
                "name": printable(findings.names[i]),
                "part": findings.parts[i],
                "predicted": printable(predicted),
                "probability": round(probability, 3),
                "doubtful": i in doubtful,
                "neighbor": int(findings.neighbors[i]),
                "strip": strips.uri(i) if i < _MAX_MAP_STRIPS else "",
            }
        )
    return videos


def _describe_classes(labels: Sequence[str]) -> list[dict[str, str]]:
    """Name, color and marker of each class: every marker in ten colors, then further colors."""
    colors = class_colors([str(i) for i in range(max(len(labels), _NUM_COLORS))])
    limit = _NUM_COLORS * len(_SHAPES)
    return [
        {
            "name": printable(label),
            "color": colors[str(i % _NUM_COLORS if i < limit else i)],
            "shape": _SHAPES[i // _NUM_COLORS % len(_SHAPES)],
        }
        for i, label in enumerate(labels)
    ]


def _mistakes(findings: DataFindings) -> list[int]:
    """The wrong videos with the most confident predictions, without the doubtful labels."""
    best, predicted = findings.probabilities.max(1)
    wrong: Tensor = predicted != findings.targets[findings.scored]
    doubtful = {doubt.index for doubt in findings.doubts}
    order = best.masked_fill(~wrong, -1).argsort(descending=True, stable=True)[: int(wrong.sum())]
    return [i for i in findings.scored[order].tolist() if i not in doubtful][:_MAX_MISTAKES]
