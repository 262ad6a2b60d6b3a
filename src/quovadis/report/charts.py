"""Charts and images embedded in HTML pages: SVG elements and ``data:`` URLs."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from quovadis.metrics.calibration import ReliabilityBin
from quovadis.metrics.sample_size import RepeatedDistance
from quovadis.report.figure_text import escape_mathtext
from quovadis.video.filmstrip import encode_filmstrip

_INK, _ACCENT, _SOFT = "#1f2933", "#0b7285", "#9aa5b1"


def curves_svg(log: Sequence[Mapping[str, Any]]) -> str:
    """Plot loss, accuracy and learning rate over the steps of a run.

    Args:
        log: Rows of ``log.jsonl``: steps with ``loss``, ``accuracy`` and ``learning_rate``; validations with
            ``val_loss`` and ``val_accuracy``.
    """
    from matplotlib.figure import Figure

    steps = [row for row in log if "loss" in row]
    validations = [row for row in log if "val_loss" in row]
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    x = [row["step"] for row in steps]
    for axis, key, title in ((loss, "loss", "loss"), (accuracy, "accuracy", "accuracy")):
        values = np.array([row[key] for row in steps], float)
        axis.plot(x, _smooth(values), color=_SOFT, label="training, smoothed")
        at = [row["step"] for row in validations]
        axis.plot(at, [row[f"val_{key}"] for row in validations], color=_ACCENT, marker="o", ms=3, label="validation")
        axis.set_title(title, loc="left")
    loss.legend(frameon=False, fontsize=8)
    accuracy.set_ylim(0, 1)
    rate.plot(x, [row["learning_rate"] for row in steps], color=_INK)
    rate.set_yscale("log")
    rate.set_title("learning rate", loc="left")
    for axis in (loss, accuracy, rate):
        axis.set_xlabel("step")
        axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def confusion_svg(confusion: Tensor, labels: Sequence[str]) -> str:
    """Draw a confusion matrix with rows normalized to fractions of the true class.

    Args:
        confusion: int64 (classes, classes): rows are true labels, columns predictions.
        labels: Class names; omitted for more than 60 classes.
    """
    from matplotlib.figure import Figure

    fractions = (confusion / confusion.sum(1, keepdim=True).clamp(min=1)).numpy()
    n = len(labels)
    side = min(max(0.24 * n + 2.2, 4.0), 11.0)
    figure = Figure(figsize=(side, side * 0.9), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(fractions, vmin=0, vmax=1, cmap="GnBu", interpolation="nearest")
    if n <= 60:
        names = list(map(escape_mathtext, labels))
        axis.set_xticks(range(n), names, rotation=90, fontsize=7)
        axis.set_yticks(range(n), names, fontsize=7)
    if n <= 12:
        for i in range(n):
            for j in range(n):
                ink = "white" if fractions[i, j] > 0.6 else _INK
                axis.text(j, i, str(int(confusion[i, j])), ha="center", va="center", fontsize=8, color=ink)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    figure.colorbar(image, ax=axis, shrink=0.6, label="fraction of the true class")
    return _svg(figure)


def filmstrip_uri(frames: Tensor, num_frames: int = 8, height_px: int = 96) -> str:
    """Encode evenly spaced frames of a clip side by side as the ``data:`` URL of a JPEG.

    Args:
        frames: uint8 (T, 3, H, W).
        num_frames: Maximum number of frames to show.
        height_px: Height of the strip.
    """
    return jpeg_uri(encode_filmstrip(frames, num_frames=num_frames, height_px=height_px))


def jpeg_uri(jpeg: bytes) -> str:
    """Encode the bytes of a JPEG file as a ``data:`` URL."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def frame_uri(frame: Tensor) -> str:
    """Encode a frame, uint8 (3, H, W), as the ``data:`` URL of a JPEG."""
    return jpeg_uri(encode_filmstrip(frame[None], num_frames=1, height_px=frame.shape[1]))


def png_uri(png: bytes) -> str:
    """Encode the bytes of a PNG file as a ``data:`` URL."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def histogram_svg(values: Sequence[float], axis_title: str, counted: str = "videos") -> str:
    """Draw a histogram.

    Args:
        values: At least one value.
        axis_title: Title of the x axis, with the unit.
        counted: Title of the y axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6, 2.4), layout="constrained")
    axis = figure.subplots()
    axis.hist(values, bins=min(40, max(len(set(values)), 5)), color=_ACCENT)
    axis.set_xlabel(escape_mathtext(axis_title))
    axis.set_ylabel(escape_mathtext(counted))
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def bars_svg(counts: Mapping[str, int], axis_title: str) -> str:
    """Draw counts as horizontal bars. Counts after the first 12 are summed in one bar.

    Args:
        counts: Counts by name, in drawing order.
        axis_title: Title of the chart.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    shown = dict(list(counts.items())[:12])
    if len(counts) > len(shown):
        shown["all others"] = sum(counts.values()) - sum(shown.values())
    figure = Figure(figsize=(4.6, 0.9 + 0.2 * len(shown)), layout="constrained")
    axis = figure.subplots()
    bars = axis.barh(range(len(shown)), list(shown.values()), color=_ACCENT, height=0.7)
    axis.set_yticks(range(len(shown)), list(map(escape_mathtext, shown)), fontsize=8)
    axis.bar_label(bars, padding=3, fontsize=8)
    axis.margins(x=0.15)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.invert_yaxis()
    axis.set_xlabel("videos")
    axis.set_title(escape_mathtext(axis_title), loc="left", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def reliability_svg(series: Mapping[str, Sequence[ReliabilityBin]]) -> str:
    """Plot accuracy against confidence, and the number of videos at each confidence.

    Args:
        series: Bins by name, at most two; the last one is emphasized and counted.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6, 4.6), layout="constrained")
    axis, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axis.plot([0, 1], [0, 1], color=_SOFT, linestyle=":", label="calibrated")
    colors = (_SOFT, _ACCENT)[-len(series) :]
    for (name, bins), color in zip(series.items(), colors, strict=True):
        filled = [b for b in bins if b.count]
        x, y = [b.confidence for b in filled], [b.accuracy for b in filled]
        axis.plot(x, y, marker="o", ms=4, color=color, label=escape_mathtext(name))
    axis.set_ylim(0, 1.02)
    axis.set_ylabel("accuracy")
    axis.legend(frameon=False, fontsize=8, loc="upper left")
    last = list(series.values())[-1]
    counts.bar([(b.low + b.high) / 2 for b in last], [b.count for b in last], width=0.9 / len(last), color=_ACCENT)
    counts.set_xlim(0, 1)
    counts.set_xlabel("confidence: probability of the predicted class")
    counts.set_ylabel("videos")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for part in (axis, counts):
        part.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def learning_curve_svg(
    sizes: Sequence[int], accuracies: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> str:
    """Plot accuracy against the number of training videos per class, on a logarithmic axis.

    Args:
        sizes: Numbers of videos per class, increasing.
        accuracies: Accuracies in [0, 1].
        low: Lower ends of the intervals.
        high: Upper ends of the intervals.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, PercentFormatter

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axis = figure.subplots()
    axis.fill_between(sizes, low, high, color=_ACCENT, alpha=0.15, linewidth=0)
    axis.plot(sizes, accuracies, marker="o", ms=4, color=_ACCENT)
    axis.set_xscale("log")
    axis.set_xticks(list(sizes), [str(n) for n in sizes])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.set_xlabel("training videos per class")
    axis.set_ylabel("top-1 of other groups")
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def sample_curve_svg(curve: Sequence[RepeatedDistance], baseline: RepeatedDistance | None = None) -> str:
    """Plot a distance against the number of samples, with one standard deviation.

    Args:
        curve: Result of :func:`quovadis.metrics.sample_curve`.
        baseline: Distance between halves of the real set, drawn as a dashed line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axis = figure.subplots()
    counts = [point.count for point in curve]
    axis.errorbar(
        counts, [p.mean for p in curve], [p.std for p in curve], color=_ACCENT, marker="o", ms=4, lw=1.5, capsize=2
    )
    axis.annotate(
        f"{curve[-1].mean:.4g}",
        (counts[-1], curve[-1].mean),
        (0, 8),
        textcoords="offset points",
        ha="center",
        fontsize=8,
    )
    if baseline is not None:
        axis.axhline(baseline.mean, color=_SOFT, ls="--", lw=1.2)
        label = f"halves of the real set, {baseline.count} videos each"
        axis.annotate(label, (0, baseline.mean), (4, -10), ("axes fraction", "data"), "offset points", fontsize=8)
    axis.set_xscale("log")
    axis.set_xticks(counts, labels=[str(count) for count in counts])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.set_ylim(bottom=0)
    axis.margins(y=0.15)
    axis.set_xlabel("videos in each set")
    axis.set_ylabel("distance")
    axis.spines[["top", "right"]].set_visible(False)
    return _svg(figure)


def _smooth(values: np.ndarray, window: int = 21) -> np.ndarray:
    """Average each value with the ``window - 1`` values before it."""
    if len(values) == 0:
        return values
    sums = np.cumsum(np.insert(values, 0, 0.0))
    start = np.maximum(np.arange(len(values)) - window + 1, 0)
    return (sums[1:] - sums[start]) / (np.arange(len(values)) - start + 1)


def _svg(figure: Any) -> str:
    """Convert a figure to an SVG element with text in the fonts of the page, so that any script is displayed."""
    import matplotlib

    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quovadis"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
