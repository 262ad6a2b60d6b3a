"""``quovadis predict``: name the action in videos."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.report.plain import print


@dataclass(frozen=True)
class Predict:
    """Name the action in videos, for each video as a whole and over time where it is long."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, any format that FFmpeg reads."""
    weights: tuple[Path, ...]
    """A weights file or the folder of a training run; several are streams whose logits are added."""
    top: int = 5
    """How many classes to show."""
    window_seconds: float | None = None
    """Length of a window over time; by default the model's test footprint (10 s for I3D)."""
    stride_seconds: float | None = None
    """From one window to the next; by default they touch."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated, where a model wants it; use what it was trained with."""
    flow_folder: Path | None = None
    """Where ``quovadis flow`` stored it; by default it is looked for beside each video."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    json: bool = False
    """Print JSON, one object a line."""


def main(args: list[str]) -> None:
    """Run the verb; a video that cannot be read is reported, the others go on, and the exit code is 1."""
    options = tyro.cli(Predict, args=args, prog="quovadis predict", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.errors import InvalidInputError, VideoError
    from quovadis.recognizer import Recognizer
    from quovadis.report.console import Console
    from quovadis.report.terminal import prediction_table

    if not options.videos:
        raise InvalidInputError("name at least one video: quovadis predict VIDEO ... --weights RUN")
    if options.top < 1:
        raise InvalidInputError(f"--top must be at least 1; got {options.top}")
    recognizer = Recognizer.load(
        *options.weights,
        device=options.device,
        flow_method=options.flow_method,
        flow_folder=options.flow_folder,
    )
    console = Console(soft_wrap=True)
    failed = 0
    for number, video in enumerate(options.videos):
        try:
            prediction = recognizer.predict(
                video, window_seconds=options.window_seconds, stride_seconds=options.stride_seconds
            )
        except VideoError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        if options.json:
            print(json.dumps(prediction.to_dict(options.top), allow_nan=False), flush=True)
        else:
            if number:
                console.print()
            console.print(prediction_table(prediction, options.top))
    if failed:
        print(f"{failed} of {len(options.videos)} videos could not be read", file=sys.stderr)
        sys.exit(1)
