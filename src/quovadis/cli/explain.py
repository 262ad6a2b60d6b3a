"""``quovadis explain``: show where and when a network finds evidence for an action."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from quovadis.cli._networks import NetworkOptions
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.activation_maps import ActivationMaps


@dataclass(frozen=True)
class Explain(NetworkOptions):
    """Show where and when a network finds evidence for an action (class activation maps).

    Writes VIDEO.explain.mp4 (frames with an overlay of the evidence), VIDEO.explain.png (filmstrip) and
    VIDEO.explain.npz with the arrays maps (labels, T, h, w), labels and center_seconds.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of videos, patterns such as "clips/*.mp4", or .txt files with one path per line."""
    out: Path
    """Output folder."""
    labels: tuple[str, ...] = ()
    """Classes to map. Defaults to the most probable one."""
    num_labels: int = 1
    """Without --labels: number of most probable classes to map. Video and filmstrip show the first."""
    window_seconds: float | None = None
    """Length of a window. Defaults to the model's test footprint (10 s for I3D)."""
    json: bool = False
    """Print JSON, one object per line."""


def main(args: list[str]) -> None:
    """Run the command. Exit with code 1 if a video cannot be read; it is reported and the others are processed."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Explain, args)
    options = tyro.cli(Explain, args=args, prog="quovadis explain", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.cli._inputs import VideoProgress, open_videos, require_distinct_names
    from quovadis.errors import VideoError

    videos, failed = open_videos(options.videos, "quovadis explain VIDEO ... --out DIR")
    require_distinct_names(videos)
    if not videos:
        sys.exit(1)
    from quovadis.report.explain import write_explanation

    recognizer = options.load()
    progress = VideoProgress(videos)
    for video in videos:
        try:
            with progress.video(video):
                maps = recognizer.explain(
                    video,
                    labels=options.labels,
                    num_labels=options.num_labels,
                    window_seconds=options.window_seconds,
                    on_window=progress.window,
                )
                files = write_explanation(maps, options.out)
        except VideoError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
            continue
        rows = _rows(maps)
        if options.json:
            print(json.dumps({"video": str(video), "maps": rows, "files": [str(f) for f in files]}), flush=True)
        else:
            print(video)
            for row in rows:
                print(f"  {row['probability']:6.1%}  {row['label']}: most evidence at {row['peak_seconds']:.2f} s")
            for note in maps.prediction.notes:
                print(f"  {note}")
        print(f"wrote {', '.join(map(str, files))}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(videos) + failed} videos could not be read", file=sys.stderr)
        sys.exit(1)


def _rows(maps: "ActivationMaps") -> list[dict[str, Any]]:
    """For each class its probability and the time of the strongest evidence."""
    rows = []
    for label in maps.labels:
        strongest = int(maps.map_of(label).amax((1, 2)).argmax())
        probability = float(maps.prediction.probabilities[maps.prediction.labels.index(label)])
        peak = float(maps.center_seconds[strongest])
        rows.append({"label": label, "probability": probability, "peak_seconds": round(peak, 3)})
    return rows
