"""One self-contained HTML page about a run: figures, curves, confusion, examples."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.prediction import Prediction
from quovadis.report.pictures import confusion_svg, curves_svg, filmstrip_uri
from quovadis.runtime.plain_text import escape


@dataclass(frozen=True)
class Example:
    """A video of the test split with what the model said about it."""

    frames: Tensor
    """uint8 (T, 3, H, W)."""
    caption: str
    label: str
    top: tuple[tuple[str, float], ...]
    """Most probable classes first, with probabilities."""
    flow: Tensor | None = None
    """Its optical flow in colors, uint8 (T, 3, H, W), where a model looked at it."""
    evidence: Tensor | None = None
    """The frames with the class activation maps of the most probable class, uint8 (T, 3, H, W)."""


@dataclass(frozen=True)
class Page:
    """What stands on the page."""

    title: str
    summary: str
    """A sentence or two under the title."""
    results: Sequence[EvaluationResult]
    sections: Sequence[str] = ()
    """HTML of sections before the metrics, see :func:`recognition_section`."""
    examples: Sequence[Example] = ()
    logs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """For each stream that was trained the rows of the run's ``log.jsonl``."""
    filters: Mapping[str, bytes] = field(default_factory=dict)
    """For each model its first convolution as a PNG (figure 4 of the paper)."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """How it was made: recipe, data, hardware ..."""

    def to_html(self) -> str:
        """The page as one string; it needs no other file and no network."""
        sections = [
            *self.sections,
            _figures(self.results),
            *(_curves(stream, log) for stream, log in self.logs.items()),
            _examples(self.examples),
            *(_confusion(r) for r in self.results),
            *(_filters(name, png) for name, png in self.filters.items()),
            _unreadable(self.results),
            _facts(self.facts),
        ]
        return frame_html(self.title, self.summary, sections)


def recognition_section(title: str, prediction: Prediction, pictures: Mapping[str, bytes], k: int = 5) -> str:
    """A section about one video: the most probable classes, and pictures.

    Args:
        title: The heading, plain text.
        prediction: The answer for the video.
        pictures: PNG files by their description.
        k: How many classes to show.

    Returns:
        HTML.
    """
    bars = _bars(prediction.top(k))
    images = "".join(
        f"<p class='note'>{escape(what)}</p><img class='wide' alt='{escape(what)}' src='{_png_uri(png)}'>"
        for what, png in pictures.items()
    )
    windows = prediction.describe_windows()
    lines = ([f"Whole video in {windows}."] if windows else []) + list(prediction.notes)
    notes = "".join(f"<p class='note'>{escape(line)}</p>" for line in lines)
    return f"<section><h2>{escape(title)}</h2>{bars}{notes}<div class='scroll'>{images}</div></section>"


def frame_html(title: str, summary: str, sections: Sequence[str]) -> str:
    """A whole page of sections of HTML; empty ones are left out."""
    return _FRAME.format(title=escape(title), summary=escape(summary), body="\n".join(s for s in sections if s))


def _figures(results: Sequence[EvaluationResult]) -> str:
    rows = []
    for r in results:
        present = int((r.confusion.sum(1) > 0).sum()) or 1
        cells = [
            f"<td>{escape(r.model)}</td>",
            *(f'<td class="number">{value:.1%}</td>' for value in (r.top1, r.top5, r.mean_class, 1 / present)),
            f'<td class="number">{r.num_videos}</td><td class="number">{len(r.unreadable)}</td>',
            f"<td>{escape(r.dataset)} <code>{escape(r.data_fingerprint)}</code>, {escape(r.split)}</td>",
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    protocols = "".join(
        f"<p class='note'>Protocol {escape(p)}.</p>" for p in dict.fromkeys(r.protocol for r in results)
    )
    return (
        "<section><h2>Accuracy</h2><div class='scroll'><table><tr><th>model</th><th>top-1</th><th>top-5</th>"
        "<th>mean per class</th><th>chance</th><th>videos</th><th>unreadable</th><th>data</th></tr>"
        f"{''.join(rows)}</table></div>{protocols}</section>"
    )


def _curves(stream: str, log: Sequence[Mapping[str, Any]]) -> str:
    if not any("loss" in row for row in log):
        return ""
    return f"<section><h2>Training, {escape(stream)}</h2><div class='scroll'>{curves_svg(log)}</div></section>"


def _examples(examples: Sequence[Example]) -> str:
    if not examples:
        return ""
    note = ""
    if any(e.evidence is not None for e in examples):
        note = (
            "<p class='note'>The strip with bright colors shows the evidence for the most probable class (class "
            "activation map); the darkened margin is not part of the network's input.</p>"
        )
    return f"<section><h2>Examples</h2>{note}{''.join(_example(e) for e in examples)}</section>"


def _example(example: Example) -> str:
    right = bool(example.top) and example.top[0][0] == example.label
    bars = _bars(example.top[:3])
    verdict = "right" if right else "wrong"
    caption = escape(example.caption)
    strips = f"<img alt='frames of {caption}' src='{filmstrip_uri(example.frames)}'>"
    if example.evidence is not None:
        what = f"evidence for {escape(example.top[0][0])} in {caption}"
        strips += f"<img alt='{what}' src='{filmstrip_uri(example.evidence)}'>"
    if example.flow is not None:
        strips += f"<img alt='optical flow of {caption}' src='{filmstrip_uri(example.flow)}'>"
    return (
        f"<figure class='{verdict}'>{strips}<figcaption><div><strong>{escape(example.label)}</strong> "
        f"<em>{verdict}</em><br><small>{escape(example.caption)}</small></div><div>{bars}</div></figcaption></figure>"
    )


def _bars(top: Sequence[tuple[str, float]]) -> str:
    return "".join(
        f"<div class='bar'><i style='width:{100 * p:.1f}%'></i><span>{escape(name)}</span><b>{p:.1%}</b></div>"
        for name, p in top
    )


def _png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _confusion(result: EvaluationResult) -> str:
    return (
        f"<section><h2>Confusion, {escape(result.model)}</h2>"
        f"<div class='scroll'>{confusion_svg(result.confusion, result.labels)}</div></section>"
    )


def _filters(model: str, png: bytes) -> str:
    return (
        f"<section><h2>Filters of the first convolution over time, {escape(model)}</h2><div class='scroll'>"
        f"<img class='wide' alt='filters of {escape(model)}' src='{_png_uri(png)}'></div></section>"
    )


def _unreadable(results: Sequence[EvaluationResult]) -> str:
    listed = {v.path: v.error for r in results for v in r.unreadable}
    if not listed:
        return ""
    items = "".join(f"<li><code>{escape(path)}</code>: {escape(error)}</li>" for path, error in listed.items())
    return f"<section><h2>Unreadable videos, counted as wrong</h2><ul>{items}</ul></section>"


def _facts(facts: Mapping[str, str]) -> str:
    if not facts:
        return ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f"<section><h2>How this was made</h2><table class='facts'>{rows}</table></section>"


_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ --ink: #1f2933; --soft: #616e7c; --line: #e4e7eb; --accent: #0b7285; --wrong: #c92a2a; }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff;
  margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 62rem; }}
h1 {{ margin: 0; font-size: 1.9rem; }} h2 {{ margin: 2.5rem 0 .6rem; font-size: 1.2rem; }}
.summary, .note, small {{ color: var(--soft); }} .note {{ margin: .4rem 0 0; font-size: .9rem; }}
.scroll {{ overflow-x: auto; }} svg {{ max-width: 100%; height: auto; }}
table {{ border-collapse: collapse; }}
th {{ text-align: left; font-weight: 600; color: var(--soft); font-size: .85rem; }}
th, td {{ padding: .35rem 1.1rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }}
.number {{ font-variant-numeric: tabular-nums; font-size: 1.15rem; }} td.number {{ white-space: nowrap; }}
figure {{ margin: 0 0 1.2rem; border-left: 4px solid var(--accent); padding-left: .8rem; }}
figure.wrong {{ border-color: var(--wrong); }} figure em {{ color: var(--accent); font-style: normal; }}
figure.wrong em {{ color: var(--wrong); }} figure img, .wide {{ display: block; max-width: 100%; height: auto; }}
figcaption {{ display: grid; grid-template-columns: minmax(10rem, 1fr) 2fr; gap: .4rem 1.5rem; margin-top: .4rem; }}
.bar {{ position: relative; display: flex; justify-content: space-between; padding: 0 .5rem; margin-bottom: 2px;
  background: #f5f7fa; font-size: .85rem; }}
.bar i {{ position: absolute; inset: 0 auto 0 0; background: #c5e8ef; }} .bar span, .bar b {{ position: relative; }}
code {{ font-size: .85em; }} .facts td {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
@media (max-width: 40rem) {{ figcaption {{ grid-template-columns: 1fr; }} }}
</style></head><body>
<h1>{title}</h1><p class="summary">{summary}</p>
{body}
</body></html>
"""
