"""Write the results of evaluations as JSON and as an HTML page with examples."""

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
from quovadis.report.activation_maps import full_color_evidence, overlay_maps
from quovadis.report.explain import select_explainable
from quovadis.report.filters import draw_filters
from quovadis.report.page import Example, Page
from quovadis.runtime.atomic import write_atomically
from quovadis.video.clip import Clip
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames

_STRIP_SECONDS = 4.0
_STRIP_SIDE_PX = 128


def write_evaluation_page(
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
    explain: bool = True,
    sections: Sequence[str] = (),
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write an HTML page about one or more evaluations, with examples from the last one.

    Args:
        path: The file to write.
        results: At least one result.
        data: The evaluated dataset.
        recognizer: The evaluated network or networks; used to draw filters, flow and activation maps.
        title: Title of the page.
        summary: One or two sentences below the title.
        logs: Rows of ``log.jsonl`` for each trained stream.
        facts: How the results were made, by name.
        num_examples: Maximum number of videos to show.
        explain: Draw activation maps over the examples, which takes seconds for each.
        sections: HTML above the metrics; see :func:`quovadis.report.page.recognition_section`.
        on_example: Called after each example with the numbers of finished examples and of all examples.

    Returns:
        The path of the file.

    Raises:
        StorageError: If the file cannot be written.

    Example:
        >>> result = quovadis.evaluate(recognizer, data)  # doctest: +SKIP
        >>> write_evaluation_page("report.html", [result], data, recognizer, title="I3D", summary="")  # doctest: +SKIP
    """
    page = Page(
        title=title,
        summary=summary,
        results=results,
        sections=sections,
        examples=pick_examples(results[-1], data, recognizer, num_examples, on_example, explain=explain),
        logs=logs or {},
        facts=facts or {},
        filters={name: draw_filters(weight, name) for name, weight in recognizer.first_filters().items()},
    )
    return write_atomically(path, page.to_html().encode())


def write_results(path: str | PathLike[str], results: Sequence[EvaluationResult]) -> Path:
    """Write the metrics and the result of each video as JSON.

    Example:
        >>> write_results("evaluation.json", [quovadis.evaluate(recognizer, data)])  # doctest: +SKIP
    """
    content = json.dumps([r.to_dict() for r in results], indent=2, allow_nan=False) + "\n"
    return write_atomically(path, content)


def pick_examples(
    result: EvaluationResult,
    data: Manifest,
    recognizer: Recognizer,
    num_examples: int,
    on_example: Callable[[int, int], None] = lambda done, total: None,
    *,
    explain: bool = True,
) -> list[Example]:
    """Choose and draw examples: correct videos of different classes, and the most confident mistakes."""
    readable = [v for v in result.videos if v.top]
    wrong = sorted((v for v in readable if not v.correct), key=lambda v: -v.top[0][1])
    correct = list({v.label: v for v in readable if v.correct}.values())
    step = max(len(correct) // max(num_examples // 2, 1), 1)
    chosen = correct[::step][: num_examples // 2]
    chosen += wrong[: num_examples - len(chosen)]
    paths = {data.relative(record): record.path for record in data.records}
    part = select_explainable(recognizer) if explain else None
    if part is not None and part.needs_flow:
        part = None  # computing the flow of whole videos takes too long
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
    """Draw the class activation maps of a class over the frames of a clip."""
    explanation = recognizer.explain(path, labels=[label])
    max_evidence = full_color_evidence(explanation.map_of(label))
    crop_px = round(explanation.crop_px * min(clip.height, clip.width) / explanation.short_side_px)
    return overlay_maps(
        clip.frames, explanation.at(clip.pts_seconds, label), max_evidence=max_evidence, crop_px=crop_px
    )


def _flow_colors(path: Path, recognizer: Recognizer) -> Tensor | None:
    """Draw the flow that is the input of the model; None for a video of one frame."""
    spec = recognizer.spec
    clip = read_clip(path, fps=spec.fps, stop_seconds=_STRIP_SECONDS, transform=recognizer.read_transform())
    if len(clip) < 2:
        return None
    flow = recognizer.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_frame_index=0).flow
    assert flow is not None
    lengths = flow[:, :, ::4, ::4].norm(dim=1)
    return draw_flow(flow, longest_px=max(float(lengths.quantile(0.99)), 1.0))
