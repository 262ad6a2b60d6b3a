"""``quovadis predict``: name the action in videos."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Predict:
    """Name the action in videos, for each video as a whole and over time where it is long."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of them, or .txt files with one path a line."""
    weights: tuple[str, ...] = ()
    """A published name, a weights file or the folder of a training run; several are streams whose logits are added. By
    default the official Kinetics-400 network, which is downloaded once."""
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
    from quovadis.cli._arguments import arrange

    args = arrange(Predict, args)
    options = tyro.cli(Predict, args=args, prog="quovadis predict", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli._inputs import VideoProgress, open_videos
    from quovadis.errors import InvalidInputError, VideoError

    if options.top < 1:
        raise InvalidInputError(f"--top must be at least 1; got {options.top}")
    videos, failed = open_videos(options.videos, "quovadis predict VIDEO ...")
    if not videos:
        sys.exit(1)
    from quovadis.inference.recognizer import Recognizer
    from quovadis.report.terminal import prediction_table
    from quovadis.runtime.console import Console

    recognizer = Recognizer.load(
        *options.weights,
        device=options.device,
        flow_method=options.flow_method,
        flow_folder=options.flow_folder,
    )
    console = Console(soft_wrap=True)
    progress = VideoProgress(videos)
    for number, video in enumerate(videos):
        try:
            with progress.video(video):
                prediction = recognizer.predict(
                    video,
                    window_seconds=options.window_seconds,
                    stride_seconds=options.stride_seconds,
                    on_window=progress.window,
                )
        except VideoError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        if options.json:
            row = {**prediction.to_dict(options.top), "networks": list(recognizer.networks)}
            print(json.dumps(row, allow_nan=False), flush=True)
        else:
            if number:
                console.print()
            console.print(prediction_table(prediction, options.top))
    if failed:
        print(f"{failed} of {len(videos) + failed} videos could not be read", file=sys.stderr)
        sys.exit(1)
