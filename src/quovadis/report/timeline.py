"""A picture of what happens when in a video: filmstrip, segments, curves of the classes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from quovadis.report.lettering import lettering

_WIDTH_INCHES, _STRIP_INCHES, _BAND_INCHES, _CURVES_INCHES = 13.0, 1.0, 0.34, 2.9
_PLOT_SHARE = 0.95
"""Of the width, without the margins."""
_OTHER = "#b8c0c8"
_INK = "#1f2933"
# Dark enough for white letters, and no grey: that is for classes without a curve.
_PALETTE = (
    *("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c"),
    *("#8a6d00", "#1971c2", "#7f4f24", "#9c36b5", "#2f4858"),
)


def count_pictures(aspect: float) -> int:
    """How many frames of this width by height fit side by side in the filmstrip.

    >>> count_pictures(16 / 9), count_pictures(9 / 16)
    (7, 22)
    """
    return max(round(_WIDTH_INCHES * _PLOT_SHARE / (_STRIP_INCHES * aspect)), 1)


def draw_timeline(
    pictures: Sequence[Tensor],
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    segments: Sequence[tuple[float, float, str]],
    *,
    span: tuple[float, float],
    title: str,
) -> bytes:
    """Draw it.

    Args:
        pictures: uint8 (3, h, w) of one size, evenly over the span.
        center_seconds: the time of each point of the curves.
        curves: probabilities by class.
        segments: start, stop and class.
        span: first and last second.
        title: of the picture.

    Returns:
        The bytes of a PNG file.
    """
    texts = (title, *curves, *(name for *_, name in segments))
    with lettering(*texts) as draw:
        drawn = [(start, stop, draw(name)) for start, stop, name in segments]
        figure = _draw(pictures, center_seconds, {draw(n): v for n, v in curves.items()}, drawn, span, draw(title))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.12, facecolor="white")
        return buffer.getvalue()


def _draw(
    pictures: Sequence[Tensor],
    center_seconds: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    segments: Sequence[tuple[float, float, str]],
    span: tuple[float, float],
    title: str,
) -> Any:
    """The figure; the texts are ready for matplotlib."""
    from matplotlib.figure import Figure

    heights = (_STRIP_INCHES, _BAND_INCHES, _CURVES_INCHES)
    figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 1.1), dpi=110)
    strip, band, plot = figure.subplots(
        3, 1, sharex=True, height_ratios=heights, gridspec_kw={"hspace": 0.06, "left": 0.04, "right": 0.99}
    )
    figure.subplots_adjust(top=1 - 0.42 / figure.get_figheight(), bottom=0.85 / figure.get_figheight())
    colours = _colours(list(curves))
    _draw_strip(strip, pictures, span)
    _draw_band(band, segments, colours, span)
    lines = []
    for name, values in curves.items():
        lines += plot.plot(center_seconds, values, color=colours[name], lw=1.8)
        if len(values) < 40:
            plot.plot(center_seconds, values, "o", color=colours[name], ms=3.5)
    plot.set_ylim(0, 1.02)
    plot.set_ylabel("probability")
    plot.set_xlim(*span)
    plot.xaxis.set_major_formatter(lambda seconds, _: _clock(seconds))
    plot.grid(axis="y", color="#e4e7eb")
    for axis in (band, plot):
        axis.spines[["top", "right"]].set_visible(False)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.1), "ncols": min(len(curves), 4)}
    plot.legend(lines, list(curves), frameon=False, fontsize=9, **place)
    strip.set_title(title, loc="left", fontsize=11, color=_INK)
    return figure


def _draw_strip(axis: Any, pictures: Sequence[Tensor], span: tuple[float, float]) -> None:
    row = np.concatenate([p.permute(1, 2, 0).numpy() for p in pictures], axis=1)
    axis.imshow(row, extent=(*span, 0, 1), aspect="auto", interpolation="antialiased")
    axis.set_axis_off()


def _draw_band(
    axis: Any, segments: Sequence[tuple[float, float, str]], colours: Mapping[str, str], span: tuple[float, float]
) -> None:
    """The segments as coloured bars, named where the name fits."""
    letters = 15.5 * _WIDTH_INCHES * _PLOT_SHARE  # that fit into the whole width at this size
    for start, stop, name in segments:
        axis.barh(0, stop - start, left=start, height=1, color=colours.get(name, _OTHER), edgecolor="white", lw=0.8)
        if len(name) + 1 <= letters * (stop - start) / (span[1] - span[0]):
            axis.text((start + stop) / 2, 0, name, ha="center", va="center", fontsize=8, color="white", clip_on=True)
    axis.set_ylim(-0.5, 0.5)
    axis.set_yticks([])
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(bottom=False)


def _colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class that has a curve; from the eleventh on they repeat."""
    return {name: _PALETTE[i % len(_PALETTE)] for i, name in enumerate(names)}


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
