"""Write and draw timelines: a filmstrip, labeled segments and class probabilities over time."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.inference.timeline import Timeline
from quovadis.report.figure_text import lettering
from quovadis.report.palette import MIN_CONFIDENCE, class_colors
from quovadis.runtime.atomic import write_atomically
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames

_WIDTH_INCHES, _STRIP_INCHES, _BAND_INCHES, _CURVES_INCHES = 13.0, 1.0, 0.34, 2.9
_LINKS_INCHES, _NUMBERS_INCHES, _KEY_INCHES = 0.22, 0.3, 0.19
_PLOT_FRACTION = 0.95
"""Fraction of the width without the margins."""
_CHARACTERS_PER_ROW = 15.5 * _WIDTH_INCHES * _PLOT_FRACTION
"""Characters that fit into the width of the plot at the font size of the band."""
_KEY_COLUMNS, _NUMBER_ROWS, _MAX_TICKS = 4, 3, 11
_INK = "#1f2933"
_THUMBNAIL_PX = 96
_TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True)
class Bar:
    """A segment to draw."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.stop_seconds - self.start_seconds

    @property
    def center_seconds(self) -> float:
        """Time of the middle."""
        return (self.start_seconds + self.stop_seconds) / 2


def num_thumbnails(aspect_ratio: float) -> int:
    """Return how many frames of this aspect ratio (width / height) fit side by side in the filmstrip.

    Example:
        >>> num_thumbnails(16 / 9), num_thumbnails(9 / 16)
        (7, 22)
    """
    return max(round(_WIDTH_INCHES * _PLOT_FRACTION / (_STRIP_INCHES * aspect_ratio)), 1)


def thumbnail_times(bars: Sequence[Bar], span: tuple[float, float], count: int) -> list[float]:
    """Choose the times of the frames in a filmstrip: at least one per segment, and more for longer segments.

    Args:
        bars: Segments in temporal order.
        span: Start and end of the video in seconds, used if there are no segments.
        count: Number of frames. If there are more segments than frames, the longest segments get one.

    Returns:
        ``count`` times in ascending order.

    Example:
        >>> thumbnail_times([Bar(0, 6, "run", 0.9), Bar(6, 8, "jump", 0.9)], (0, 8), 4)
        [1.0, 3.0, 5.0, 7.0]
    """
    bars = bars or [Bar(*span, "", 0.0)]
    longest_first = sorted(range(len(bars)), key=lambda i: -bars[i].seconds)
    num_frames = dict.fromkeys(longest_first[:count], 1)
    while sum(num_frames.values()) < count:
        num_frames[max(num_frames, key=lambda i: bars[i].seconds / num_frames[i])] += 1
    return [
        bars[i].start_seconds + (part + 0.5) / num_frames[i] * bars[i].seconds
        for i in sorted(num_frames)
        for part in range(num_frames[i])
    ]


def draw_timeline(
    frames: Sequence[Tensor],
    frame_seconds: Sequence[float],
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    bars: Sequence[Bar],
    *,
    span: tuple[float, float],
    title: str,
) -> bytes:
    """Draw the filmstrip, the segments and the class probabilities of a video over time.

    Each segment has the color of its class and shows its label, or a number that is explained below if the label does
    not fit. Segments with a probability below 50 % are faded.

    Args:
        frames: Frames of the filmstrip, uint8 (3, h, w), all of one size.
        frame_seconds: Time of each frame; see :func:`thumbnail_times`.
        center_seconds: Time of each point of the curves.
        curves: Probabilities by class.
        bars: Segments in temporal order.
        span: Start and end of the time axis in seconds.
        title: Title of the figure.

    Returns:
        The bytes of a PNG file.

    Example:
        >>> import torch
        >>> frame = torch.zeros(3, 8, 8, dtype=torch.uint8)
        >>> bars = [Bar(0.0, 2.0, "run", 0.9)]
        >>> draw_timeline([frame], [1.0], [0.5, 1.5], {"run": [0.8, 1.0]}, bars, span=(0.0, 2.0), title="a.mp4")[1:4]
        b'PNG'
    """
    with lettering(title, *curves, *(bar.label for bar in bars)) as prepare:
        bars = [replace(bar, label=prepare(bar.label)) for bar in bars]
        curves = {prepare(name): values for name, values in curves.items()}
        colors = class_colors([*curves, *(bar.label for bar in bars)])
        numbered = [bar for bar in bars if not _fits(bar, span)]
        num_key_rows = -(-len(numbered) // _KEY_COLUMNS)
        figure, (strip, links, band, numbers, plot, legend, key) = _create_axes(bool(numbered), num_key_rows, span)
        strip.set_title(prepare(title), loc="left", fontsize=11, color=_INK)
        _draw_strip(strip, links, frames, frame_seconds, bars, colors, span)
        _draw_band(band, bars, colors, span)
        _draw_numbers(numbers, key, numbered, colors, num_key_rows)
        lines = _draw_curves(plot, center_seconds, curves, colors, span)
        legend.legend(lines, list(curves), frameon=False, fontsize=9, loc="lower center", ncols=min(len(curves), 4))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.12, facecolor="white")
        return buffer.getvalue()


def _create_axes(has_numbers: bool, num_key_rows: int, span: tuple[float, float]) -> tuple[Any, Any]:
    """Create the figure and its axes: strip, links, band, numbers, plot, legend and key."""
    from matplotlib.figure import Figure

    heights = (
        *(_STRIP_INCHES, _LINKS_INCHES, _BAND_INCHES),
        *(_NUMBERS_INCHES if has_numbers else 0.05, _CURVES_INCHES),
        *(0.75, max(num_key_rows * _KEY_INCHES, 0.01)),
    )
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.5), dpi=110)
    axes = figure.subplots(
        len(heights), 1, height_ratios=heights, gridspec_kw={"hspace": 0, "left": 0.04, "right": 0.99}
    )
    figure.subplots_adjust(top=1 - 0.42 / figure.get_figheight(), bottom=0.05 / figure.get_figheight())
    strip, links, band, numbers, plot, legend, key = axes
    for axis in (strip, links, band, numbers, plot):
        axis.set_xlim(*span)
    for axis in (strip, links, numbers, legend, key):
        axis.set_axis_off()
    return figure, axes


def _draw_curves(
    axis: Any,
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    colors: Mapping[str, str],
    span: tuple[float, float],
) -> list[Any]:
    """Draw the class probabilities; returns one line per class for the legend."""
    lines = []
    for name, values in curves.items():
        lines += axis.plot(center_seconds, values, color=colors[name], lw=1.8)
        if len(values) < 40:
            axis.plot(center_seconds, values, "o", color=colors[name], ms=3.5)
    axis.set_ylim(0, 1.02)
    axis.set_ylabel("probability")
    axis.set_xticks(_ticks(span))
    axis.xaxis.set_major_formatter(lambda seconds, _: format_time(seconds))
    axis.grid(axis="y", color="#e4e7eb")
    axis.spines[["top", "right"]].set_visible(False)
    return lines


def _draw_strip(
    strip: Any,
    links: Any,
    frames: Sequence[Tensor],
    frame_seconds: Sequence[float],
    bars: Sequence[Bar],
    colors: Mapping[str, str],
    span: tuple[float, float],
) -> None:
    """Draw the frames side by side, and below each frame a line to its time."""
    row = np.concatenate([frame.permute(1, 2, 0).numpy() for frame in frames], axis=1)
    strip.imshow(row, extent=(*span, 0, 1), aspect="auto", interpolation="antialiased")
    links.set_ylim(0, 1)
    width = (span[1] - span[0]) / len(frames)
    for index, seconds in enumerate(frame_seconds):
        label = next((b.label for b in bars if b.start_seconds <= seconds < b.stop_seconds), "")
        middle = span[0] + (index + 0.5) * width
        links.plot([middle, middle, seconds, seconds], [1, 0.8, 0.2, 0], color=colors.get(label, _INK), lw=1.2)


def _fits(bar: Bar, span: tuple[float, float]) -> bool:
    """Whether the label fits into the bar."""
    return len(bar.label) + 1 <= _CHARACTERS_PER_ROW * bar.seconds / (span[1] - span[0])


def _draw_band(axis: Any, bars: Sequence[Bar], colors: Mapping[str, str], span: tuple[float, float]) -> None:
    """Draw the segments as colored bars, with their labels if these fit."""
    for bar in bars:
        is_confident = bar.probability >= MIN_CONFIDENCE
        axis.barh(
            *(0, bar.seconds),
            left=bar.start_seconds,
            height=1,
            color=colors[bar.label],
            edgecolor="white",
            lw=0.8,
            alpha=1 if is_confident else 0.3,
        )
        if _fits(bar, span):
            ink = "white" if is_confident else _INK
            axis.text(bar.center_seconds, 0, bar.label, ha="center", va="center", fontsize=8, color=ink, clip_on=True)
    axis.set_ylim(-0.5, 0.5)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _draw_numbers(axis: Any, key: Any, bars: Sequence[Bar], colors: Mapping[str, str], num_key_rows: int) -> None:
    """Draw numbers below the segments without labels, and the key of the numbers."""
    axis.set_ylim(_NUMBER_ROWS, 0)
    key.set_xlim(0, _KEY_COLUMNS)
    key.set_ylim(max(num_key_rows, 1), 0)
    for index, bar in enumerate(bars):
        color = colors[bar.label]
        row = index % _NUMBER_ROWS + 0.5
        axis.text(bar.center_seconds, row, str(index + 1), ha="center", va="center", fontsize=7, color=color)
        column, line = divmod(index, num_key_rows)
        text = f"{index + 1}  {format_time(round(bar.start_seconds, 1))}  {bar.label}  {bar.probability:.0%}"
        key.text(column, line + 0.5, text, va="center", fontsize=8, color=color)


def _ticks(span: tuple[float, float]) -> list[float]:
    """Return round times within the span.

    >>> _ticks((0.4, 7.3)), _ticks((0, 280))
    ([1, 2, 3, 4, 5, 6, 7], [0, 30, 60, 90, 120, 150, 180, 210, 240, 270])
    """
    length = span[1] - span[0]
    step = next((s for s in _TICK_SECONDS if length / s <= _MAX_TICKS), _TICK_SECONDS[-1])
    first, last = math.ceil(span[0] / step - 1e-9), math.floor(span[1] / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_time(seconds: float) -> str:
    """Format a time or duration.

    Example:
        >>> format_time(7.5), format_time(75), format_time(3675)
        ('7.5 s', '1:15', '1:01:15')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def write_timeline(
    timeline: Timeline, folder: str | PathLike[str], *, k: int = 6, min_probability: float = 0.0
) -> list[Path]:
    """Write ``NAME.timeline.json``, ``.csv`` and ``.png``.

    Args:
        timeline: Timeline of a video file that still exists; its frames are read for the filmstrip.
        folder: Output folder.
        k: Number of classes with a curve.
        min_probability: See :meth:`Timeline.segments`.

    Returns:
        The paths of the three files.

    Raises:
        VideoError: If the video cannot be read.
        StorageError: If a file cannot be written.

    Example:
        >>> timeline = make_timeline(quovadis.Recognizer.load(), "video.mp4")  # doctest: +SKIP
        >>> files = write_timeline(timeline, "timelines/")  # doctest: +SKIP
    """
    if k < 1 or not 0 <= min_probability <= 1:
        raise InvalidInputError(f"k must be at least 1 and min_probability in [0, 1]; got {k} and {min_probability}")
    source = Path(timeline.prediction.source)
    stem = Path(folder) / f"{source.stem}.timeline"
    start, stop = timeline.cells()[0][0], timeline.cells()[-1][1]
    bars = [Bar(**asdict(segment)) for segment in timeline.segments(min_probability)]
    times, frames = read_thumbnails(source, bars, (start, stop))
    image = draw_timeline(
        frames,
        times,
        timeline.center_seconds,
        timeline.curves(timeline.top_labels(k)),
        bars,
        span=(start, stop),
        title=source.name,
    )
    text = json.dumps(timeline.to_dict(k, min_probability), indent=1, allow_nan=False) + "\n"
    contents = {
        "json": text.encode(),
        "csv": timeline.to_csv(min_probability).encode(errors="backslashreplace"),
        "png": image,
    }
    return [write_atomically(stem.with_name(f"{stem.name}.{suffix}"), content) for suffix, content in contents.items()]


def read_thumbnails(path: Path, bars: Sequence[Bar], span: tuple[float, float]) -> tuple[list[float], list[Tensor]]:
    """Read thumbnails for the filmstrip, as many as fit side by side; see :func:`thumbnail_times`.

    Args:
        path: Video file.
        bars: Segments of the video.
        span: Start and end of the video in seconds.

    Returns:
        The times in seconds, and one frame uint8 (3, h, w) for each.
    """
    with VideoReader(path) as reader:
        times = thumbnail_times(bars, span, num_thumbnails(reader.info.width / reader.info.height))
        return times, [resize_frames(reader.frame_at(t).pixels[None], _THUMBNAIL_PX)[0] for t in times]
