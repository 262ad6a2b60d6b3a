"""MkDocs hook: insert a table of the networks, computed from the networks themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from quovadis.models.spec import StreamSpec
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model, list_models

_MARKER = "{{ model table }}"
_WITH_FLOW = ("i3d", "two_stream", "fused_two_stream")
_HEAD = (
    "| name | stream | parameters, M | multiply-adds of a training clip, G | training clip | test footprint | "
    "feature length |\n| --- | --- | ---: | ---: | --- | --- | ---: |"
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker on a page."""
    return markdown.replace(_MARKER, model_table()) if _MARKER in markdown else markdown


def model_table() -> str:
    """Make a Markdown table with a row for each network and choice of streams, without the tiny networks."""
    rows = [_HEAD]
    for name in list_models():
        if name.endswith("_tiny"):
            continue
        streams = ("rgb", "rgb+flow") if "two_stream" in name else ("rgb", "flow")
        rows += [_row(name, stream) for stream in streams if stream == "rgb" or name in _WITH_FLOW]
    return "\n".join(rows)


def _row(name: str, stream: str) -> str:
    with torch.device("meta"):
        model = build_model(name, stream=stream, num_classes=400).eval()
    spec = model.spec
    cells = (
        f"`{name}`",
        spec.stream,
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}",
        f"{_multiply_adds(model) / 1e9:.1f}",
        f"{' and '.join(map(_describe_clip, spec.streams))}, {spec.size_px} x {spec.size_px}",
        f"{spec.test_seconds:g} s",
        str(model.feature_dim),
    )
    return f"| {' | '.join(cells)} |"


def _describe_clip(stream: StreamSpec) -> str:
    kind = stream.kind.replace("rgb", "RGB")
    if stream.num_frames == 1:
        return f"one {kind} frame"
    every = f"every {stream.frame_stride}th of " if stream.frame_stride > 1 else ""
    return f"{every}{stream.num_frames * stream.frame_stride} {kind} frames"


def _multiply_adds(model: VideoModel) -> float:
    spec = model.spec
    inputs = [torch.zeros(1, s.channels, s.num_frames, spec.size_px, spec.size_px, device="meta") for s in spec.streams]
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(*inputs)
    return counter.get_total_flops() / 2
