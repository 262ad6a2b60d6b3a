"""``quovadis predict``: recognize the action in videos."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from quovadis.cli._networks import NetworkOptions
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Predict(NetworkOptions):
    """Recognize the action in each video, and in its windows if it is long."""

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of videos, patterns such as "clips/*.mp4", or .txt files with one path per line."""
    top: int = 5
    """Number of classes to show."""
    window_seconds: float | None = None
    """Length of a window. Defaults to the model's test footprint (10 s for I3D)."""
    stride_seconds: float | None = None
    """Time from one window to the next. Defaults to the length of a window."""
    json: bool = False
    """Print JSON, one object per line."""


def main(args: list[str]) -> None:
    """Run the command. Exit with code 1 if a video cannot be read; it is reported and the others are processed."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Predict, args)
    options = tyro.cli(Predict, args=args, prog="quovadis predict", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli._inputs import VideoProgress, open_videos
    from quovadis.errors import InvalidInputError, VideoError

    if options.top < 1:
        raise InvalidInputError(f"--top must be at least 1; got {options.top}")
    videos, failed = open_videos(options.videos, "quovadis predict VIDEO ...")
    if not videos:
        sys.exit(1)
    from quovadis.report.terminal import prediction_table
    from quovadis.runtime.console import Console

    recognizer = options.load()
    console = Console(soft_wrap=True)
    progress = VideoProgress(videos)
    for index, video in enumerate(videos):
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
            if index:
                console.print()
            console.print(prediction_table(prediction, options.top))
    if failed:
        print(f"{failed} of {len(videos) + failed} videos could not be read", file=sys.stderr)
        sys.exit(1)
