"""HTML fragments of the web demo, rendered from ``templates/``."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from quovadis.flow.draw import draw_legend
from quovadis.report.charts import frame_uri, png_uri
from quovadis.report.html import render
from quovadis.report.timeline import format_time
from quovadis.web.limits import UploadInfo
from quovadis.web.results import Comparison, FeatureComparison, Recognition, VideoPrediction
from quovadis.web.schema import comparison_json, features_json, recognition_json

_NUM_CURVES, _NUM_TOP = 6, 5
_COLORS = tuple(f"var(--qv-{i})" for i in range(1, 11))
_OTHER_COLOR = "var(--qv-other)"

_render = partial(render, "quovadis.web", format_time=format_time, frame_uri=frame_uri)


@dataclass(frozen=True)
class _Download:
    name: str
    label: str
    uri: str
    """``data:`` URL, so that no file has to be kept on the server."""


def header(models: Sequence[str], max_mib: float, max_seconds: float) -> str:
    """Render the header of the page: its purpose, limits and models."""
    return _render("header.html", models=models, max_mib=max_mib, max_seconds=max_seconds)


def player(path: str, name: str, info: UploadInfo, player_id: str) -> str:
    """Render a video player.

    Args:
        path: File to play; Gradio must be allowed to serve it.
        name: Display name of the file.
        info: Measurements of the video.
        player_id: Name by which timelines and buttons refer to the player.
    """
    return _render("player.html", url_path=quote(path), name=name, info=info, player_id=player_id)


def progress(fraction: float, description: str) -> str:
    """Render a progress bar."""
    return _render("progress.html", fraction=fraction, description=description)


def error(message: str) -> str:
    """Render an error message."""
    return _render("error.html", message=message)


def prediction(overall: VideoPrediction) -> str:
    """Render the most probable classes of a whole video."""
    return _render("prediction.html", overall=overall, num_top=_NUM_TOP)


def recognition(result: Recognition) -> str:
    """Render the most probable classes, the evidence for the first one, and download links."""
    video = result.overall.video
    return _render(
        "recognition.html",
        prediction=prediction(result.overall),
        evidence=result.evidence,
        downloads=_downloads(video, recognition_json(result), result.timeline.to_csv()),
    )


def timeline(result: Recognition, player_id: str) -> str:
    """Render the segments and class probabilities over time; a click seeks in the player ``player_id``."""
    return _timeline(result, player_id, dict(zip(result.timeline.top_labels(_NUM_CURVES), _COLORS, strict=False)))


def timelines(result: Comparison, player_id: str) -> str:
    """Render the timelines of two models with the same color for a class in both."""
    both = (result.first, result.second)
    labels = dict.fromkeys(label for r in both for label in r.timeline.top_labels(_NUM_CURVES))
    colors = dict(zip(labels, _COLORS, strict=False))
    return "".join(_timeline(r, player_id, colors, r.overall.model) for r in both)


def flow_frames(result: Recognition, player_id: str) -> str:
    """Render frames and their optical flow."""
    return _render(
        "flow_frames.html",
        flow_frames=result.flow_frames,
        flow_method=result.overall.flow_method,
        color_wheel=draw_legend(64)[0],
        player_id=player_id,
    )


def comparison(result: Comparison) -> str:
    """Render the predictions of two models side by side."""
    return _render(
        "comparison.html",
        agreement=result.agreement,
        predictions=[prediction(r.overall) for r in (result.first, result.second)],
        downloads=_downloads(result.first.overall.video, comparison_json(result)),
    )


def features(result: FeatureComparison) -> str:
    """Render the similarity matrix of two clips."""
    rows_json, columns_json = (json.dumps([round(t, 3) for t in times]) for times in result.center_seconds)
    return _render(
        "features.html",
        result=result,
        lowest=float(result.similarity.min()),
        highest=float(result.similarity.max()),
        matrix_uri=_matrix_uri(result),
        rows_json=rows_json,
        columns_json=columns_json,
        downloads=_downloads(result.videos[0], features_json(result)),
    )


def _timeline(result: Recognition, player_id: str, colors: Mapping[str, str], title: str = "") -> str:
    start, stop = result.span_seconds
    seconds = max(stop - start, 1e-9)
    line = result.timeline
    segments = [
        {
            "label": s.label,
            "description": f"{s.label}, {format_time(s.start_seconds)} to {format_time(s.stop_seconds)}, "
            f"{s.probability:.0%}",
            "start_seconds": s.start_seconds,
            "left": 100 * (s.start_seconds - start) / seconds,
            "width": 100 * (s.stop_seconds - s.start_seconds) / seconds,
            "color": colors.get(s.label, _OTHER_COLOR),
        }
        for s in line.segments()
    ]
    cells = [(1000 * (a - start) / seconds, 1000 * (b - start) / seconds) for a, b in line.cells()]
    curves = [
        {"label": label, "color": colors.get(label, _OTHER_COLOR), "points": _steps(cells, values)}
        for label, values in line.curves(line.top_labels(_NUM_CURVES)).items()
    ]
    return _render(
        "timeline.html",
        title=title,
        player_id=player_id,
        start=start,
        stop=stop,
        segments=segments,
        curves=curves,
        windows=line.prediction.describe_windows(),
    )


def _steps(cells: Sequence[tuple[float, float]], values: Sequence[float]) -> str:
    """SVG points of a step function that is constant over each cell."""
    points = [(x, 100 - 100 * p) for cell, p in zip(cells, values, strict=True) for x in cell]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _downloads(video: str, document: Mapping[str, Any], table: str | None = None) -> list[_Download]:
    """Embed a JSON document, and a CSV table if given."""
    stem = video.rpartition(".")[0] or video
    kind = str(document["schema"]).split(".")[1].split("/")[0]
    files = {"json": ("application/json", json.dumps(document, indent=1))}
    if table is not None:
        files["csv"] = ("text/csv", table)
    return [
        _Download(
            name=f"{stem}.{kind}.{suffix}",
            label=suffix.upper(),
            uri=f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}",
        )
        for suffix, (media_type, text) in files.items()
    ]


def _matrix_uri(result: FeatureComparison) -> str:
    """Draw the similarity matrix with one pixel per pair of windows, scaled to its own range."""
    from matplotlib import colormaps
    from PIL import Image

    values = result.similarity.numpy()
    low, high = values.min(), values.max()
    colors = colormaps["viridis"]((values - low) / max(float(high - low), 1e-9), bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colors)).save(buffer, "PNG")
    return png_uri(buffer.getvalue())
