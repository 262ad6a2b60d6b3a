"""A picture of what happens when in a video: filmstrip, labeled segments, curves of the classes."""

from __future__ import annotations

import colorsys
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.inference.timeline import Timeline
from quovadis.report.lettering import lettering
from quovadis.runtime.atomic import write_atomically
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames

_WIDTH_INCHES, _STRIP_INCHES, _BAND_INCHES, _CURVES_INCHES = 13.0, 1.0, 0.34, 2.9
_LINKS_INCHES, _NUMBERS_INCHES, _KEY_INCHES = 0.22, 0.3, 0.19
_PLOT_SHARE = 0.95
"""Of the width, without the margins."""
_LETTERS = 15.5 * _WIDTH_INCHES * _PLOT_SHARE
"""That fit into the whole width at the size of the band."""
_KEY_COLUMNS, _NUMBER_ROWS, _MAX_TICKS = 4, 3, 11
_UNSURE = 0.5
"""Segments with a lower probability are faded."""
_INK = "#1f2933"
_PICTURE_PX = 96
# Dark enough for white letters.
_PALETTE = (
    *("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c"),
    *("#8a6d00", "#1971c2", "#7f4f24", "#9c36b5", "#2f4858"),
)
_TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True)
class Bar:
    """A segment to draw."""

    start_seconds: float
    stop_seconds: float
    label: str
    probability: float

    @property
    def center_seconds(self) -> float:
        """The middle."""
        return (self.start_seconds + self.stop_seconds) / 2


def count_pictures(aspect: float) -> int:
    """How many frames of this width by height fit side by side in the filmstrip.

    >>> count_pictures(16 / 9), count_pictures(9 / 16)
    (7, 22)
    """
    return max(round(_WIDTH_INCHES * _PLOT_SHARE / (_STRIP_INCHES * aspect)), 1)


def picture_times(bars: Sequence[Bar], span: tuple[float, float], count: int) -> list[float]:
    """Choose the times of the frames of a filmstrip: one for each segment, and more for the longer ones.

    Args:
        bars: Segments in order of time.
        span: First and last second, for a video without segments.
        count: Number of frames. Where there are more segments, the longest get a frame.

    Returns:
        ``count`` times in order.

    Example:
        >>> picture_times([Bar(0, 6, "run", 0.9), Bar(6, 8, "jump", 0.9)], (0, 8), 4)
        [1.0, 3.0, 5.0, 7.0]
    """
    bars = bars or [Bar(*span, "", 0.0)]
    by_length = sorted(range(len(bars)), key=lambda i: bars[i].start_seconds - bars[i].stop_seconds)
    frames = dict.fromkeys(by_length[:count], 1)
    while sum(frames.values()) < count:
        longest = max(frames, key=lambda i: (bars[i].stop_seconds - bars[i].start_seconds) / frames[i])
        frames[longest] += 1
    return [
        bars[i].start_seconds + (part + 0.5) / frames[i] * (bars[i].stop_seconds - bars[i].start_seconds)
        for i in sorted(frames)
        for part in range(frames[i])
    ]


def draw_timeline(
    pictures: Sequence[Tensor],
    picture_seconds: Sequence[float],
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    bars: Sequence[Bar],
    *,
    span: tuple[float, float],
    title: str,
) -> bytes:
    """Draw it.

    Every segment has the color of its class. It carries its label, or a number that is explained below where the label
    does not fit; segments of a probability below 50 % are faded.

    Args:
        pictures: uint8 (3, h, w) of one size.
        picture_seconds: The time of each picture, see :func:`picture_times`.
        center_seconds: The time of each point of the curves.
        curves: Probabilities by class.
        bars: The segments in order of time.
        span: First and last second.
        title: Of the picture.

    Returns:
        The bytes of a PNG file.
    """
    texts = (title, *curves, *(bar.label for bar in bars))
    with lettering(*texts) as draw:
        drawn = [Bar(bar.start_seconds, bar.stop_seconds, draw(bar.label), bar.probability) for bar in bars]
        figure = _draw(
            pictures, picture_seconds, center_seconds, {draw(n): v for n, v in curves.items()}, drawn, span, draw(title)
        )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.12, facecolor="white")
        return buffer.getvalue()


def _draw(
    pictures: Sequence[Tensor],
    picture_seconds: Sequence[float],
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    bars: Sequence[Bar],
    span: tuple[float, float],
    title: str,
) -> Any:
    """The figure; the texts are ready for matplotlib."""
    from matplotlib.figure import Figure

    numbered = [bar for bar in bars if not _fits(bar, span)]
    key_rows = -(-len(numbered) // _KEY_COLUMNS)
    heights = (
        *(_STRIP_INCHES, _LINKS_INCHES, _BAND_INCHES),
        *(_NUMBERS_INCHES if numbered else 0.05, _CURVES_INCHES),
        *(0.75, max(key_rows * _KEY_INCHES, 0.01)),
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
    colors = _colors([*curves, *(bar.label for bar in bars)])
    _draw_strip(strip, links, pictures, picture_seconds, bars, colors, span)
    _draw_band(band, bars, colors, span)
    _draw_numbers(numbers, key, numbered, colors, key_rows)
    lines = []
    for name, values in curves.items():
        lines += plot.plot(center_seconds, values, color=colors[name], lw=1.8)
        if len(values) < 40:
            plot.plot(center_seconds, values, "o", color=colors[name], ms=3.5)
    plot.set_ylim(0, 1.02)
    plot.set_ylabel("probability")
    plot.set_xticks(_ticks(span))
    plot.xaxis.set_major_formatter(lambda seconds, _: _clock(seconds))
    plot.grid(axis="y", color="#e4e7eb")
    plot.spines[["top", "right"]].set_visible(False)
    legend.legend(lines, list(curves), frameon=False, fontsize=9, loc="lower center", ncols=min(len(curves), 4))
    strip.set_title(title, loc="left", fontsize=11, color=_INK)
    return figure


def _draw_strip(
    strip: Any,
    links: Any,
    pictures: Sequence[Tensor],
    picture_seconds: Sequence[float],
    bars: Sequence[Bar],
    colors: Mapping[str, str],
    span: tuple[float, float],
) -> None:
    """The frames side by side, and below each a line to its time."""
    row = np.concatenate([p.permute(1, 2, 0).numpy() for p in pictures], axis=1)
    strip.imshow(row, extent=(*span, 0, 1), aspect="auto", interpolation="antialiased")
    links.set_ylim(0, 1)
    width = (span[1] - span[0]) / len(pictures)
    for number, seconds in enumerate(picture_seconds):
        label = next((b.label for b in bars if b.start_seconds <= seconds < b.stop_seconds), "")
        middle = span[0] + (number + 0.5) * width
        links.plot([middle, middle, seconds, seconds], [1, 0.8, 0.2, 0], color=colors.get(label, _INK), lw=1.2)


def _fits(bar: Bar, span: tuple[float, float]) -> bool:
    """Whether the label fits into the bar."""
    return len(bar.label) + 1 <= _LETTERS * (bar.stop_seconds - bar.start_seconds) / (span[1] - span[0])


def _draw_band(axis: Any, bars: Sequence[Bar], colors: Mapping[str, str], span: tuple[float, float]) -> None:
    """The segments as colored bars, with their label where it fits."""
    for bar in bars:
        sure = bar.probability >= _UNSURE
        length = bar.stop_seconds - bar.start_seconds
        axis.barh(
            *(0, length),
            left=bar.start_seconds,
            height=1,
            color=colors[bar.label],
            edgecolor="white",
            lw=0.8,
            alpha=1 if sure else 0.3,
        )
        if _fits(bar, span):
            ink = "white" if sure else _INK
            axis.text(bar.center_seconds, 0, bar.label, ha="center", va="center", fontsize=8, color=ink, clip_on=True)
    axis.set_ylim(-0.5, 0.5)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)


def _draw_numbers(axis: Any, key: Any, bars: Sequence[Bar], colors: Mapping[str, str], key_rows: int) -> None:
    """Numbers below the segments without a label, and what they stand for."""
    axis.set_ylim(_NUMBER_ROWS, 0)
    key.set_xlim(0, _KEY_COLUMNS)
    key.set_ylim(max(key_rows, 1), 0)
    for number, bar in enumerate(bars):
        color = colors[bar.label]
        row = number % _NUMBER_ROWS + 0.5
        axis.text(bar.center_seconds, row, str(number + 1), ha="center", va="center", fontsize=7, color=color)
        column, line = divmod(number, key_rows)
        text = f"{number + 1}  {_clock(round(bar.start_seconds, 1))}  {bar.label}  {bar.probability:.0%}"
        key.text(column, line + 0.5, text, va="center", fontsize=8, color=color)


def _colors(names: Sequence[str]) -> dict[str, str]:
    """A color for each class: the first ten from a palette, then hues as far apart as the golden ratio puts them."""
    colors: dict[str, str] = {}
    for name in dict.fromkeys(names):
        number = len(colors)
        if number < len(_PALETTE):
            colors[name] = _PALETTE[number]
        else:
            red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.7, 0.6)
            colors[name] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return colors


def _ticks(span: tuple[float, float]) -> list[float]:
    """Round times within the span.

    >>> _ticks((0.4, 7.3)), _ticks((0, 280))
    ([1, 2, 3, 4, 5, 6, 7], [0, 30, 60, 90, 120, 150, 180, 210, 240, 270])
    """
    length = span[1] - span[0]
    step = next((s for s in _TICK_SECONDS if length / s <= _MAX_TICKS), _TICK_SECONDS[-1])
    first, last = math.ceil(span[0] / step - 1e-9), math.floor(span[1] / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _clock(seconds: float) -> str:
    """Seconds as they are read.

    >>> _clock(7.5), _clock(75), _clock(3675)
    ('7.5 s', '1:15', '1:01:15')
    """
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def write_timeline(
    timeline: Timeline, folder: str | PathLike[str], *, k: int = 6, min_probability: float = 0.0
) -> list[Path]:
    """Write ``NAME.timeline.json``, ``.csv`` and ``.png``.

    Args:
        timeline: of a video that is still there, for the pictures.
        folder: where to write.
        k: classes with a curve.
        min_probability: see :meth:`Timeline.segments`.

    Returns:
        The three files.

    Raises:
        StorageError: they cannot be written.
    """
    if k < 1 or not 0 <= min_probability <= 1:
        raise InvalidInputError(f"k must be at least 1 and min_probability in [0, 1]; got {k} and {min_probability}")
    source = Path(timeline.prediction.source)
    stem = Path(folder) / f"{source.stem}.timeline"
    start, stop = timeline.cells()[0][0], timeline.cells()[-1][1]
    bars = [Bar(**asdict(segment)) for segment in timeline.segments(min_probability)]
    times, pictures = read_pictures(source, bars, (start, stop))
    picture = draw_timeline(
        pictures,
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
        "png": picture,
    }
    return [write_atomically(stem.with_name(f"{stem.name}.{end}"), content) for end, content in contents.items()]


def read_pictures(path: Path, bars: Sequence[Bar], span: tuple[float, float]) -> tuple[list[float], list[Tensor]]:
    """Read as many small frames as fit side by side, see :func:`picture_times`.

    Args:
        path: The video.
        bars: Its segments.
        span: First and last second.

    Returns:
        The times, and uint8 (3, h, w) for each.
    """
    shrink = partial(resize_frames, short_side_px=_PICTURE_PX)
    with VideoReader(path) as reader:
        times = picture_times(bars, span, count_pictures(reader.info.width / reader.info.height))
        return times, [shrink(reader.frame_at(seconds).pixels[None])[0] for seconds in times]
