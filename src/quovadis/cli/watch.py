"""``quovadis watch``: name the actions in a stream while it goes on."""

import json
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Watch:
    """Name the actions in a camera, a stream or a file as it goes on: a row for each window.

    What comes faster than the networks work is dropped, and the row says so: the latency does not grow, nor the memory.
    A file, also one behind an HTTP address, is not dropped from: it is taken as fast as the networks work, unless
    --realtime plays it at its own pace. Ctrl-C ends it.
    """

    source: tyro.conf.Positional[str]
    """A file; an address such as rtsp://... or http://...; camera:0, /dev/video0, or on Windows camera:NAME."""
    weights: tuple[str, ...] = ()
    """A published name, a weights file or the folder of a training run; several are streams whose logits are added. By
    default the official Kinetics-400 network, which is downloaded once."""
    every: float | None = None
    """Seconds from one window to the next; by default half a window."""
    window_seconds: float | None = None
    """Length of a window; by default that of a training clip (2.56 s for I3D)."""
    realtime: bool = False
    """Play a file at its own pace, as if it were a camera."""
    top: int = 3
    """How many classes to show."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1-fast"
    """How optical flow is estimated, where a model wants it."""
    timeout_seconds: float = 10.0
    """How long an address may be silent."""
    reconnect: int = 5
    """How often in a row a stream that broke off is asked for again."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    json: bool = False
    """Print JSON, one object a line."""


def main(args: list[str]) -> None:
    """Run the verb until the stream ends or Ctrl-C."""
    from quovadis.cli._arguments import arrange

    args = arrange(Watch, args)
    options = tyro.cli(Watch, args=args, prog="quovadis watch", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.inference.live import Watcher, watch
    from quovadis.inference.recognizer import Recognizer
    from quovadis.video.live import LiveStream

    recognizer = Recognizer.load(*options.weights, device=options.device, flow_method=options.flow_method)
    watcher = Watcher(recognizer, window_seconds=options.window_seconds, every_seconds=options.every, top=options.top)
    watcher.warm_up()
    stream = LiveStream(
        options.source,
        timeout_seconds=options.timeout_seconds,
        reconnect=options.reconnect,
        on_note=lambda note: print(note, file=sys.stderr),
    )
    print(f"{recognizer.describe()} watches {stream.name}; Ctrl-C ends it", file=sys.stderr)
    count, dropped = 0, 0
    with closing(watch(watcher, stream, fps=recognizer.spec.fps, realtime=options.realtime)) as rows:
        try:
            for row in rows:
                count, dropped = count + 1, dropped + row.dropped_frames
                if options.json:
                    print(json.dumps(row.to_dict(), allow_nan=False), flush=True)
                    continue
                classes = "  ".join(f"{label} {p:.1%}" for label, p in row.top)
                said = [f"{row.dropped_frames} frames dropped"] if row.dropped_frames else []
                said += [f"{row.late_windows} windows left out"] if row.late_windows else []
                print(
                    f"{row.start_seconds:8.2f} s to {row.stop_seconds:8.2f} s  {1000 * row.latency_seconds:5.0f} ms  "
                    f"{classes}{'  (' + ', '.join(said) + ')' if said else ''}",
                    flush=True,
                )
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    print(f"{count} windows, {dropped} frames dropped", file=sys.stderr)
