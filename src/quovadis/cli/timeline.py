"""``quovadis timeline``: what happens when in long videos."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.prediction import Window
    from quovadis.inference.timeline import Timeline as VideoTimeline


@dataclass(frozen=True)
class Timeline:
    """Say what happens when in long videos: windows through a recognizer, joined to segments.

    Each video gives VIDEO.timeline.json, .csv (start_seconds, stop_seconds, label, probability) and .png, a picture
    with filmstrip, segments and the curves of the classes.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of them, or .txt files with one path a line."""
    out: Path
    """The folder to write to."""
    weights: tuple[str, ...] = ()
    """A published name, a weights file or the folder of a training run; several are streams whose logits are added. By
    default the official Kinetics-400 network, which is downloaded once."""
    window_seconds: float | None = None
    """Length of a window; by default that of a training clip (2.56 s for I3D)."""
    stride_seconds: float | None = None
    """From one window to the next; by default half a window."""
    smooth_seconds: float = 0.0
    """Average the probabilities over so long a time; 0 takes each window for itself."""
    top: int = 6
    """How many classes get a curve."""
    min_probability: float = 0.0
    """Windows whose best class is less probable belong to no segment."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated, where a model wants it; use what it was trained with."""
    flow_folder: Path | None = None
    """Where quovadis flow stored it; by default it is looked for beside each video."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    json: bool = False
    """Print JSON, one object a line."""


def main(args: list[str]) -> None:
    """Run the verb; a video that cannot be read is reported, the others go on, and the exit code is 1."""
    from quovadis.cli._arguments import arrange

    args = arrange(Timeline, args)
    options = tyro.cli(Timeline, args=args, prog="quovadis timeline", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli._inputs import VideoProgress, open_videos, require_distinct_names
    from quovadis.errors import VideoError

    videos, failed = open_videos(options.videos, "quovadis timeline VIDEO ... --out DIR")
    require_distinct_names(videos)
    if not videos:
        sys.exit(1)
    from quovadis.inference.recognizer import Recognizer
    from quovadis.inference.timeline import make_timeline, partial_timeline

    recognizer = Recognizer.load(
        *options.weights, device=options.device, flow_method=options.flow_method, flow_folder=options.flow_folder
    )
    progress = VideoProgress(videos)
    for video in videos:
        windows: list[Window] = []

        def keep(window: "Window", windows: "list[Window]" = windows) -> None:
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
                    on_window=keep,
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
    """Write the files of one video, and print its segments."""
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
