"""Results as HTML: every name and message goes through ``escape``, pictures lie in the text."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from quovadis.flow.draw import draw_legend
from quovadis.report.pictures import picture_uri
from quovadis.runtime.plain_text import escape
from quovadis.web.analysis import Answer, Comparison, Evidence, FeatureComparison, Moment, Recognition
from quovadis.web.limits import VideoFacts, clock
from quovadis.web.schema import comparison_json, features_json, recognition_json

_CURVES, _TOP = 6, 5
_COLORS = tuple(f"var(--qv-{i})" for i in range(1, 11))
_OTHER = "var(--qv-other)"


def header(models: Sequence[str], max_mib: float, max_seconds: float) -> str:
    """The head of the page."""
    lines = "".join(f"<p class='qv-soft'>{escape(model)}</p>" for model in models)
    return (
        "<header class='qv qv-head'><h1>quovadis</h1><p>What happens in a video, and when. "
        f"Videos up to {clock(max_seconds)} and {max_mib:.0f} MiB; they stay on this machine, for an hour.</p>"
        f"{lines}</header>"
    )


def player(path: str, name: str, facts: VideoFacts, which: str) -> str:
    """The video; ``which`` is the name that the time line under it calls it by."""
    words = f"{facts.width} x {facts.height}, {clock(facts.seconds)}, {facts.codec}"
    return (
        f"<figure class='qv qv-player'><video controls playsinline muted preload='auto' data-video='{escape(which)}' "
        f"src='gradio_api/file={escape(quote(path))}'></video>"
        f"<figcaption><b>{escape(name)}</b> <span>{escape(words)}</span></figcaption></figure>"
    )


def progress(share: float, what: str) -> str:
    """How far the work is."""
    return (
        f"<div class='qv qv-progress' role='progressbar' aria-valuenow='{100 * share:.0f}' aria-valuemin='0' "
        f"aria-valuemax='100'><i style='width:{100 * share:.1f}%'></i><span>{escape(what)}</span>"
        f"<b>{share:.0%}</b></div>"
    )


def error(message: str) -> str:
    """What went wrong, and what to do."""
    return f"<div class='qv qv-error' role='alert'>{escape(message)}</div>"


def answer(found: Answer) -> str:
    """The classes of the whole video, and what was done."""
    return (
        f"<section class='qv'><h3>{escape(found.model)}</h3>{_bars(found.prediction.top(_TOP))}"
        f"<p class='qv-soft'>Whole video in {found.prediction.describe_windows()}, {found.work_seconds:.1f} s of work. "
        f"{_notes(found)}</p></section>"
    )


def recognition(found: Recognition) -> str:
    """The classes, the evidence for the first one, and the files to take away."""
    files = _downloads(found.answer.video, recognition_json(found), found.timeline.to_csv())
    return f"{answer(found.answer)}<section class='qv'>{_evidence(found.evidence)}{files}</section>"


def _evidence(found: Evidence | None) -> str:
    if found is None:
        return ""
    frames = "".join(
        f"<button type='button' data-seek='{seconds:.3f}' title='show {clock(seconds)}'>"
        f"<img src='{picture_uri(frame)}' alt='evidence at {clock(seconds)}'><span>{clock(seconds)}</span></button>"
        for seconds, frame in zip(found.seconds, found.frames, strict=True)
    )
    return (
        f"<h4>Evidence for {escape(found.label)}</h4><div class='qv-moments qv-evidence' data-player='recognize'>"
        f"{frames}</div><p class='qv-soft'>Bright is where {escape(found.model)} finds evidence (class activation "
        "map); the darkened margin is not part of its input.</p>"
    )


def timeline(found: Recognition, which: str) -> str:
    """The segments as a colored band and the curves of the classes; a click seeks in the player ``which``."""
    return _timeline(found, which, dict(zip(found.timeline.top_labels(_CURVES), _COLORS, strict=False)))


def timelines(found: Comparison, which: str) -> str:
    """Those of two models under each other; a class has one color in both."""
    both = (found.first, found.second)
    labels = dict.fromkeys(label for r in both for label in r.timeline.top_labels(_CURVES))
    colors = dict(zip(labels, _COLORS, strict=False))
    return "".join(_timeline(r, which, colors, r.answer.model) for r in both)


def _timeline(found: Recognition, which: str, colors: Mapping[str, str], title: str = "") -> str:
    start, stop = found.span_seconds
    length = max(stop - start, 1e-9)
    line = found.timeline
    labels = line.top_labels(_CURVES)
    pieces = []
    for s in line.segments():
        left, width = 100 * (s.start_seconds - start) / length, 100 * (s.stop_seconds - s.start_seconds) / length
        words = f"{s.label}, {clock(s.start_seconds)} to {clock(s.stop_seconds)}, {s.probability:.0%}"
        pieces.append(
            f"<button type='button' data-seek='{s.start_seconds:.3f}' title='{escape(words)}' "
            f"aria-label='{escape(words)}' style='left:{left:.3f}%;width:{width:.3f}%;"
            f"--c:{colors.get(s.label, _OTHER)}'>{escape(s.label)}</button>"
        )
    cells = [(1000 * (a - start) / length, 1000 * (b - start) / length) for a, b in line.cells()]
    curves = "".join(
        f"<polyline style='stroke:{colors.get(name, _OTHER)}' points='{_steps(cells, values)}'/>"
        for name, values in line.curves(labels).items()
    )
    chips = "".join(f"<li style='--c:{colors.get(name, _OTHER)}'>{escape(name)}</li>" for name in labels)
    heading = f"<h4>{escape(title)}</h4>" if title else ""
    return (
        f"<section class='qv'>{heading}<div class='qv-timeline' data-player='{escape(which)}' data-start='{start:.3f}' "
        f"data-stop='{stop:.3f}'><div class='qv-band'>{''.join(pieces)}</div>"
        "<svg viewBox='0 0 1000 100' preserveAspectRatio='none' aria-hidden='true'>"
        f"<line x1='0' x2='1000' y1='50' y2='50'/>{curves}</svg><i class='qv-now'></i>"
        f"<div class='qv-ticks'><span>{clock(start)}</span><span>{clock((start + stop) / 2)}</span>"
        f"<span>{clock(stop)}</span></div></div><ul class='qv-chips'>{chips}</ul>"
        f"<p class='qv-soft'>Timeline in {line.prediction.describe_windows()}.</p></section>"
    )


def moments(found: Recognition, which: str) -> str:
    """Frames with their flow in colors."""
    wheel = picture_uri(draw_legend(64)[0])
    return (
        f"<section class='qv'><h3>Frames and their optical flow</h3><div class='qv-moments' "
        f"data-player='{escape(which)}'>{''.join(_moment(m) for m in found.moments)}</div>"
        f"<p class='qv-soft qv-wheel'><img src='{wheel}' alt=''> The color is the direction that a point moves "
        f"in, its strength the speed; white stands still. {escape(found.answer.flow_method)}.</p></section>"
    )


def comparison(found: Comparison) -> str:
    """Two models beside each other."""
    columns = "".join(f"<div>{answer(r.answer)}</div>" for r in (found.first, found.second))
    return (
        f"<section class='qv'><p class='qv-number'><b>{found.agreement:.0%}</b> of the time both name the same "
        f"class</p><div class='qv-pair'>{columns}</div>"
        f"{_downloads(found.first.answer.video, comparison_json(found))}</section>"
    )


def features(found: FeatureComparison) -> str:
    """The cosines of all moments of two clips as a picture, and one number."""
    low, high = float(found.similarity.min()), float(found.similarity.max())
    first, second = found.center_seconds
    words = f"cosines of the features: {found.videos[0]} downwards, {found.videos[1]} to the right"
    return (
        f"<section class='qv'><p class='qv-number'><b>{found.mean_similarity:.3f}</b> is the cosine of their mean "
        f"features ({escape(' + '.join(found.streams))}); 1 is the same direction</p>"
        f"<div class='qv-matrix'><span class='qv-down'>{escape(found.videos[0])}, {clock(first[0])} to "
        f"{clock(first[-1])}</span><img src='{_matrix_uri(found)}' alt='{escape(words)}' tabindex='0' "
        f"data-rows='{escape(json.dumps([round(t, 3) for t in first]))}' "
        f"data-columns='{escape(json.dumps([round(t, 3) for t in second]))}'>"
        f"<span class='qv-right'>{escape(found.videos[1])}, {clock(second[0])} to {clock(second[-1])}</span></div>"
        f"<p class='qv-soft qv-scale'><span>{low:.2f}</span><i></i><span>{high:.2f}</span></p>"
        f"<p class='qv-soft'>{len(first)} x {len(second)} windows of {found.window_seconds:.3g} s; a click shows both "
        f"moments in the players. {found.work_seconds:.1f} s of work.</p>"
        f"{_downloads(found.videos[0], features_json(found))}</section>"
    )


def _bars(top: Sequence[tuple[str, float]]) -> str:
    rows = "".join(
        f"<li><i style='width:{100 * p:.2f}%'></i><span>{escape(name)}</span><b>{p:.1%}</b></li>" for name, p in top
    )
    return f"<ol class='qv-bars'>{rows}</ol>"


def _moment(moment: Moment) -> str:
    return (
        f"<button type='button' data-seek='{moment.seconds:.3f}' title='show {clock(moment.seconds)}'>"
        f"<img src='{picture_uri(moment.frame)}' alt='frame at {clock(moment.seconds)}'>"
        f"<img src='{picture_uri(moment.flow)}' alt='its optical flow'><span>{clock(moment.seconds)}</span></button>"
    )


def _notes(found: Answer) -> str:
    return " ".join(f"{escape(note)}." for note in found.prediction.notes)


def _steps(cells: Sequence[tuple[float, float]], values: Sequence[float]) -> str:
    """A curve that is level over each cell: a window speaks for all of its stretch."""
    points = [(x, 100 - 100 * p) for cell, p in zip(cells, values, strict=True) for x in cell]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _downloads(video: str, document: Mapping[str, Any], table: str | None = None) -> str:
    """Links to files that lie in the page itself, so that no file is left behind on the server."""
    stem = video.rpartition(".")[0] or video
    kind = str(document["schema"]).split(".")[1].split("/")[0]
    files = {"json": ("application/json", json.dumps(document, indent=1))}
    if table is not None:
        files["csv"] = ("text/csv", table)
    links = "".join(
        f"<a download='{escape(f'{stem}.{kind}.{end}')}' "
        f"href='data:{media};base64,{base64.b64encode(text.encode()).decode()}'>{end.upper()}</a>"
        for end, (media, text) in files.items()
    )
    return f"<p class='qv-files'>{links}</p>"


def _matrix_uri(found: FeatureComparison) -> str:
    """One pixel a pair of moments, as the ``data:`` address of a PNG; the colors are scaled from least to most."""
    from matplotlib import colormaps
    from PIL import Image

    values = found.similarity.numpy()
    low, high = values.min(), values.max()
    colors = colormaps["viridis"]((values - low) / max(float(high - low), 1e-9), bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colors)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
