"""Notes on the duration of a training run, and on how to make it faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from quovadis.datasets.prepared_folder import is_prepared
from quovadis.runtime.durations import describe_duration

_LONG_SECONDS = 30 * 60
_NOTICEABLE_SECONDS = 60


def speed_notes(
    row: Mapping[str, Any], max_steps: int, *, device: torch.device, videos: Path, short_side_px: int
) -> Iterator[str]:
    """Describe how long a run takes, from one of its steps.

    Args:
        row: Metrics of a step after the first one, which is slower: its ``step``, ``seconds`` and the part of them
            that the loop waited for its batches, ``seconds_waiting``.
        max_steps: Number of steps of the run.
        device: Device of the run.
        videos: Folder of the videos.
        short_side_px: Short side of the frames that the network reads.

    Yields:
        The time per step, the number of steps left and the expected time; for long runs on a CPU, and runs that mostly
        wait for their batches, how to make them faster.

    Example:
        >>> row = {"step": 2, "seconds": 37.0, "seconds_waiting": 1.0}
        >>> notes = speed_notes(row, 5_002, device=torch.device("cpu"), videos=Path("clips"), short_side_px=256)
        >>> next(notes)
        '37 s a step, 5,000 steps: about 51 hours on this machine, without validations'
        >>> next(notes).startswith('faster: "quovadis train frozen --data ..."')
        True
    """
    seconds, steps = row["seconds"], max_steps - row["step"]
    if steps < 1:
        return
    expected = seconds * steps
    yield (
        f"{describe_duration(seconds)} a step, {steps:,} steps: about {describe_duration(expected)} on this machine, "
        "without validations"
    )
    if device.type == "cpu" and expected > _LONG_SECONDS:
        yield (
            'faster: "quovadis train frozen --data ..." runs the pretrained network once on each video and trains only '
            "a classifier"
        )
    if row["seconds_waiting"] > seconds / 2 and expected > _NOTICEABLE_SECONDS:
        fraction = row["seconds_waiting"] / seconds
        advice = "more decoding processes, --data.num-workers"
        if not is_prepared(videos):
            advice = (
                f'"quovadis prepare DATA --short-side-px {short_side_px} --out DIR" writes small videos once, then use '
                f"--data DIR/manifest.parquet; or {advice}"
            )
        yield f"{fraction:.0%} of a step is waiting for videos to be decoded; faster: {advice}"
