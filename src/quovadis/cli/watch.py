"""``quovadis watch``: recognize the actions in a live stream."""

import json
import sys
from contextlib import closing
from dataclasses import dataclass

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Watch:
    """Recognize the actions in a camera, a stream or a file while it runs, and print a row for each window.

    If a live stream is faster than the networks, frames are dropped and counted, so latency and memory stay bounded. No
    frames of a file, or a URL of a file, are dropped, unless --realtime is set. Press Ctrl-C to stop.
    """

    source: tyro.conf.Positional[str]
    """A file; a URL such as rtsp://... or http://...; camera:0, /dev/video0, or camera:NAME on Windows."""
    weights: tuple[str, ...] = ()
    """Published names, weights files or folders of training runs. The logits of several networks are added. Defaults to
    the official Kinetics-400 network, which is downloaded once."""
    window_seconds: float | None = None
    """Length of a window. Defaults to that of a training clip (2.56 s for I3D)."""
    stride_seconds: float | None = None
    """Time from one window to the next. Defaults to half a window."""
    realtime: bool = False
    """Read a file at its own frame rate, as if it were a camera."""
    top: int = 3
    """Number of classes to show."""
    flow_method: FlowMethod = "tvl1-fast"
    """Optical flow method, for networks that need flow."""
    timeout_seconds: float = 10.0
    """Longest time to wait for data from a URL."""
    reconnect: int = 5
    """Number of consecutive attempts to reconnect to a stream."""
    device: str | None = None
    """cpu, cuda, cuda:1 and so on. Defaults to a GPU if there is one."""
    json: bool = False
    """Print JSON, one object per line."""


def main(args: list[str]) -> None:
    """Run the command until the stream ends or Ctrl-C is pressed."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Watch, args)
    options = tyro.cli(Watch, args=args, prog="quovadis watch", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.inference.live import Watcher, watch
    from quovadis.inference.recognizer import Recognizer
    from quovadis.video.live import LiveStream

    recognizer = Recognizer.load(*options.weights, device=options.device, flow_method=options.flow_method)
    watcher = Watcher(
        recognizer,
        window_seconds=options.window_seconds,
        stride_seconds=options.stride_seconds,
        top=options.top,
    )
    watcher.warm_up()
    stream = LiveStream(
        options.source,
        timeout_seconds=options.timeout_seconds,
        reconnect=options.reconnect,
        on_note=lambda note: print(note, file=sys.stderr),
    )
    print(f"watching {stream.name} with {recognizer.describe()}; press Ctrl-C to stop", file=sys.stderr)
    num_windows, num_dropped = 0, 0
    with closing(watch(watcher, stream, fps=recognizer.spec.fps, realtime=options.realtime)) as rows:
        try:
            for row in rows:
                num_windows, num_dropped = num_windows + 1, num_dropped + row.dropped_frames
                if options.json:
                    print(json.dumps(row.to_dict(), allow_nan=False), flush=True)
                    continue
                classes = "  ".join(f"{label} {p:.1%}" for label, p in row.top)
                notes = [f"{row.dropped_frames} frames dropped"] if row.dropped_frames else []
                notes += [f"{row.late_windows} windows skipped"] if row.late_windows else []
                print(
                    f"{row.start_seconds:8.2f} s to {row.stop_seconds:8.2f} s  {1000 * row.latency_seconds:5.0f} ms  "
                    f"{classes}{'  (' + ', '.join(notes) + ')' if notes else ''}",
                    flush=True,
                )
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    print(f"{num_windows} windows, {num_dropped} frames dropped", file=sys.stderr)
