"""``quovadis timeline``: find the actions in long videos and when they happen."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from quovadis.cli._networks import NetworkOptions
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.prediction import Window
    from quovadis.inference.timeline import Timeline as VideoTimeline


@dataclass(frozen=True)
class Timeline(NetworkOptions):
    """Find the actions in long videos and when they happen.

    A window slides over each video, and neighboring windows of the same class are merged into segments. Writes
    VIDEO.timeline.json, .csv (start_seconds, stop_seconds, label, probability) and .png (filmstrip, segments and class
    probabilities over time).
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of videos, patterns such as "clips/*.mp4", or .txt files with one path per line."""
    out: Path
    """Output folder."""
    window_seconds: float | None = None
    """Length of a window. Defaults to that of a training clip (2.56 s for I3D)."""
    stride_seconds: float | None = None
    """Time from one window to the next. Defaults to half a window."""
    smooth_seconds: float = 0.0
    """Average the probabilities over this time; 0 for no smoothing."""
    top: int = 6
    """Number of classes with a curve."""
    min_probability: float = 0.0
    """Leave a gap where the best class is less probable than this."""
    json: bool = False
    """Print JSON, one object per line."""


def main(args: list[str]) -> None:
    """Run the command. Exit with code 1 if a video cannot be read; it is reported and the others are processed."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Timeline, args)
    options = tyro.cli(Timeline, args=args, prog="quovadis timeline", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli._inputs import VideoProgress, open_videos, require_distinct_names
    from quovadis.errors import VideoError

    videos, failed = open_videos(options.videos, "quovadis timeline VIDEO ... --out DIR")
    require_distinct_names(videos)
    if not videos:
        sys.exit(1)
    from quovadis.inference.timeline import make_timeline, partial_timeline

    recognizer = options.load()
    progress = VideoProgress(videos)
    for video in videos:
        windows: list[Window] = []

        def on_window(window: "Window", windows: "list[Window]" = windows) -> None:
            windows.append(window)
            progress.window(window)

        try:
            with progress.video(video):
                timeline = make_timeline(
                    recognizer,
                    video,
                    window_seconds=options.window_seconds,
                    stride_seconds=options.stride_seconds,
                    smooth_seconds=options.smooth_seconds,
                    on_window=on_window,
                )
        except VideoError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        except KeyboardInterrupt:
            if windows:
                _write(partial_timeline(recognizer.labels, video, windows, options.smooth_seconds), options)
            raise
        _write(timeline, options)
    if failed:
        print(f"{failed} of {len(videos) + failed} videos could not be read", file=sys.stderr)
        sys.exit(1)


def _write(timeline: "VideoTimeline", options: Timeline) -> None:
    """Write the files of one video and print its segments."""
    from quovadis.report.timeline import write_timeline

    files = write_timeline(timeline, options.out, k=options.top, min_probability=options.min_probability)
    if options.json:
        print(json.dumps(timeline.to_dict(options.top, options.min_probability), allow_nan=False), flush=True)
    else:
        print(timeline.prediction.source)
        for s in timeline.segments(options.min_probability):
            print(f"  {s.start_seconds:8.2f} s to {s.stop_seconds:8.2f} s  {s.probability:6.1%}  {s.label}")
        if windows := timeline.prediction.describe_windows():
            print(f"  timeline in {windows}")
        for note in timeline.prediction.notes:
            print(f"  {note}")
    print(f"wrote {', '.join(map(str, files))}", file=sys.stderr)
