"""HTML fragments of the web demo, rendered from ``templates/``."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from quovadis.flow.draw import draw_legend
from quovadis.inference.activation_maps import ActivationMaps
from quovadis.report.activation_maps import color_maps, full_color_evidence
from quovadis.report.charts import frame_uri, png_uri
from quovadis.report.html import render
from quovadis.report.palette import MIN_CONFIDENCE
from quovadis.report.timeline import format_time
from quovadis.web.limits import UploadInfo
from quovadis.web.results import BatchRow, Comparison, FeatureComparison, FlowSample, Recognition, VideoPrediction
from quovadis.web.schema import comparison_json, features_json, recognition_json

_NUM_CURVES, _NUM_TOP = 6, 5
_COLORS = tuple(f"var(--qv-{i})" for i in range(1, 11))
_OTHER_COLOR = "var(--qv-other)"


def _sprite_columns(num_steps: int) -> int:
    """Return the number of maps in a row of the image that contains all maps of a class."""
    return math.ceil(math.sqrt(num_steps))


_render = partial(render, "quovadis.web", format_time=format_time, frame_uri=frame_uri, sprite_columns=_sprite_columns)


@dataclass(frozen=True)
class _Download:
    name: str
    label: str
    uri: str
    """``data:`` URL, so that no file has to be kept on the server."""


def header(models: Sequence[str], max_mib: float, max_seconds: float) -> str:
    """Render the header of the page: its purpose, limits and models."""
    return _render("header.html", models=models, max_mib=max_mib, max_seconds=max_seconds)


def invitation(labels: Sequence[str]) -> str:
    """Render what the page does, for the time before the first upload, and the classes of the model."""
    return _render("invitation.html", labels=labels)


def camera(file_id: str) -> str:
    """Render the button that records a video with the camera for the upload ``file_id``."""
    return _render("camera.html", file_id=file_id)


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


def prediction(overall: VideoPrediction, player_id: str = "") -> str:
    """Render the most probable classes of a whole video.

    Args:
        overall: The prediction.
        player_id: Player over which to offer the activation maps; empty for none.
    """
    maps = overall.maps if player_id else None
    return _render(
        "prediction.html",
        overall=overall,
        num_top=_NUM_TOP,
        player_id=player_id,
        maps=maps,
        seconds_json="" if maps is None else json.dumps([round(t, 3) for t in maps.center_seconds.tolist()]),
        sprites=[] if maps is None else [(label, _sprite_uri(maps, label)) for label in maps.labels],
    )


def timeline(result: Recognition, player_id: str) -> str:
    """Render segments, class probabilities over time and downloads; a click seeks in the player ``player_id``."""
    colors = dict(zip(result.timeline.top_labels(_NUM_CURVES), _COLORS, strict=False))
    downloads = _downloads(result.overall.video, recognition_json(result), result.timeline.to_csv())
    return _timeline(result, player_id, colors, downloads=downloads)


def timelines(result: Comparison, player_id: str) -> str:
    """Render the timelines of two models with the same color for a class in both."""
    both = (result.first, result.second)
    labels = dict.fromkeys(label for r in both for label in r.timeline.top_labels(_NUM_CURVES))
    colors = dict(zip(labels, _COLORS, strict=False))
    return "".join(_timeline(r, player_id, colors, r.overall.model) for r in both)


def flow_frames(sample: FlowSample, player_id: str) -> str:
    """Render frames and their optical flow."""
    return _render(
        "flow_frames.html",
        flow_frames=sample.frames,
        flow_method=sample.method,
        color_wheel=draw_legend(64)[0],
        player_id=player_id,
    )


def batch(rows: Sequence[BatchRow], num_videos: int) -> str:
    """Render the table of many videos, with a download as CSV.

    Args:
        rows: The finished videos.
        num_videos: Number of all videos.
    """
    stem = f"{len(rows)}-videos"
    return _render(
        "batch.html",
        rows=rows,
        num_videos=num_videos,
        downloads=[_download(f"{stem}.csv", "text/csv", batch_csv(rows))],
    )


def batch_csv(rows: Sequence[BatchRow]) -> str:
    """Format a batch as CSV: video, length, five classes with probabilities, notes and error."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    tops = [column for i in range(1, _NUM_TOP + 1) for column in (f"label_{i}", f"probability_{i}")]
    writer.writerow(("video", "seconds", *tops, "notes", "error"))
    for row in rows:
        found = row.prediction
        top = [] if found is None else found.prediction.top(_NUM_TOP)
        cells = [cell for label, probability in top for cell in (label, f"{probability:.4f}")]
        cells += [""] * (2 * _NUM_TOP - len(cells))
        seconds = "" if found is None else f"{found.info.seconds:.3f}"
        notes = "" if found is None else "; ".join(found.prediction.notes)
        writer.writerow((row.video, seconds, *cells, notes, row.error))
    return text.getvalue()


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
    similarity = result.similarity
    yardsticks = [
        (f"{which} clip with itself", own)
        for which, own in zip(("First", "Second"), result.self_similarity, strict=True)
        if own is not None
    ]
    rows_json, columns_json = (json.dumps([round(t, 3) for t in times]) for times in result.center_seconds)
    return _render(
        "features.html",
        result=result,
        lowest=float(similarity.min()),
        highest=float(similarity.max()),
        yardsticks=yardsticks,
        between=float(similarity.mean()),
        matrix_uri=_matrix_uri(result) if similarity.numel() > 1 else "",
        rows_json=rows_json,
        columns_json=columns_json,
        downloads=_downloads(result.videos[0], features_json(result)),
    )


def _timeline(
    result: Recognition,
    player_id: str,
    colors: Mapping[str, str],
    title: str = "",
    downloads: Sequence[_Download] = (),
) -> str:
    start, stop = result.span_seconds
    seconds = max(stop - start, 1e-9)
    line = result.timeline
    segments = [
        {
            "label": s.label,
            "description": f"{s.label}, {format_time(s.start_seconds)} to {format_time(s.stop_seconds)}, "
            f"{s.probability:.0%}",
            "start_seconds": s.start_seconds,
            "stop_seconds": s.stop_seconds,
            "probability": s.probability,
            "is_faint": s.probability < MIN_CONFIDENCE,
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
        downloads=downloads,
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
    return [_download(f"{stem}.{kind}.{suffix}", *content) for suffix, content in files.items()]


def _download(name: str, media_type: str, text: str) -> _Download:
    uri = f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}"
    return _Download(name, name.rpartition(".")[2].upper(), uri)


def _sprite_uri(maps: ActivationMaps, label: str) -> str:
    """Draw the maps of a class side by side in a roughly square image, in reading order."""
    from PIL import Image

    values = maps.map_of(label)
    num_steps, height, width = values.shape
    columns = _sprite_columns(num_steps)
    colored = color_maps(values, max_evidence=full_color_evidence(values)).numpy()
    sprite = np.zeros((math.ceil(num_steps / columns) * height, columns * width, 4), np.uint8)
    for step, image in enumerate(colored):
        row, column = divmod(step, columns)
        sprite[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    buffer = io.BytesIO()
    Image.fromarray(sprite).save(buffer, "PNG")
    return png_uri(buffer.getvalue())


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
