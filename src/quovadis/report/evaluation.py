"""Gather what the page about an evaluation shows, and write it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from quovadis.datasets.manifest import Manifest
from quovadis.evaluation.results import EvaluationResult
from quovadis.flow.draw import draw_flow
from quovadis.inference.recognizer import Recognizer
from quovadis.report.activation_maps import overlay_maps
from quovadis.report.explain import explaining_part
from quovadis.report.filters import draw_filters
from quovadis.report.page import Example, Page
from quovadis.runtime.atomic import write_atomically
from quovadis.video.clip import Clip
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames

_STRIP_SECONDS = 4.0
_STRIP_SIDE_PX = 128


def write_page(
    path: str | PathLike[str],
    results: Sequence[EvaluationResult],
    data: Manifest,
    recognizer: Recognizer,
    *,
    title: str,
    summary: str,
    logs: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    facts: Mapping[str, str] | None = None,
    num_examples: int = 8,
    sections: Sequence[str] = (),
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write one HTML page about the results; the examples are of the last of them.

    Args:
        path: The file.
        results: At least one.
        data: What was evaluated.
        recognizer: The network or networks, for filters and flow.
        title: Of the page.
        summary: A sentence or two under the title.
        logs: Rows of ``log.jsonl`` by the name of the stream.
        facts: How it was made.
        num_examples: Videos of the test split to show.
        sections: HTML before the metrics, see :func:`quovadis.report.page.recognition_section`.
        on_example: Called with the number of examples that are drawn, and how many there will be.

    Raises:
        StorageError: it cannot be written.
    """
    page = Page(
        title=title,
        summary=summary,
        results=results,
        sections=sections,
        examples=pick_examples(results[-1], data, recognizer, num_examples, on_example),
        logs=logs or {},
        facts=facts or {},
        filters={name: draw_filters(weight, name) for name, weight in recognizer.first_filters().items()},
    )
    return write_atomically(path, page.to_html().encode())


def write_results(path: str | PathLike[str], results: Sequence[EvaluationResult]) -> Path:
    """Write the figures and every video's outcome as JSON."""
    content = json.dumps([r.to_dict() for r in results], indent=2, allow_nan=False) + "\n"
    return write_atomically(path, content)


def pick_examples(
    result: EvaluationResult,
    data: Manifest,
    recognizer: Recognizer,
    num_examples: int,
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> list[Example]:
    """Videos for the page: right answers of different classes, and the mistakes that the model was surest of."""
    readable = [v for v in result.videos if v.top]
    wrong = sorted((v for v in readable if not v.correct), key=lambda v: -v.top[0][1])
    right = list({v.label: v for v in readable if v.correct}.values())
    step = max(len(right) // max(num_examples // 2, 1), 1)
    chosen = right[::step][: num_examples // 2]
    chosen += wrong[: num_examples - len(chosen)]
    paths = {data.relative(record): record.path for record in data.records}
    part = explaining_part(recognizer)
    if part is not None and part.needs_flow:
        part = None  # the flow of whole videos takes too long for a picture
    examples = []
    for video in chosen:
        clip = read_clip(
            paths[video.path],
            stop_seconds=_STRIP_SECONDS,
            transform=partial(resize_frames, short_side_px=_STRIP_SIDE_PX),
        )
        flow = _flow_colors(paths[video.path], recognizer) if recognizer.needs_flow else None
        evidence = None if part is None else _evidence(part, paths[video.path], video.top[0][0], clip)
        examples.append(Example(clip.frames, video.path, video.label, video.top, flow, evidence))
        on_example(len(examples), len(chosen))
    return examples


def _evidence(recognizer: Recognizer, path: Path, label: str, clip: Clip) -> Tensor:
    """The frames of a small clip with the class activation maps of a class."""
    found = recognizer.explain(path, labels=[label])
    most = max(float(found.map_of(label).max()), 1e-6)
    crop_px = round(found.crop_px * min(clip.height, clip.width) / found.short_side_px)
    return overlay_maps(clip.frames, found.at(clip.pts_seconds, label), max_evidence=most, crop_px=crop_px)


def _flow_colors(path: Path, recognizer: Recognizer) -> Tensor | None:
    """The flow that the model saw, in colors; None for a video of one frame."""
    spec = recognizer.spec
    clip = read_clip(path, fps=spec.fps, stop_seconds=_STRIP_SECONDS, transform=recognizer.read_transform())
    if len(clip) < 2:
        return None
    flow = recognizer.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_tick=0).flow
    assert flow is not None
    lengths = flow[:, :, ::4, ::4].norm(dim=1)
    return draw_flow(flow, longest_px=max(float(lengths.quantile(0.99)), 1.0))
