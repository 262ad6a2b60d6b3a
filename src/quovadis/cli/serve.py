"""``quovadis serve``: a page and an HTTP API on this machine."""

import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Serve:
    """Open a page: drop a video, see the actions, when they happen, and the optical flow; compare models and clips.

    Works offline and sends nothing anywhere. Files that people send are removed after an hour, and all of them at the
    end. The same as an HTTP API for programs: /recognize (video, networks), /compare (video, networks, networks) and
    /features (video, video, networks), through gradio_client or plain HTTP; --schema prints what they answer with.
    """

    weights: tuple[str, ...] = ()
    """A published name, a weights file or the folder of a training run; several are streams whose logits are added, and
    each can also be chosen alone. By default the official Kinetics-400 network, which is downloaded once."""
    compare: tuple[str, ...] = ()
    """The same of a second recognizer to compare with."""
    examples: Path | None = None
    """A folder of videos to offer; by default drawn ones where the model knows the classes of "motions", else none."""
    host: str = "127.0.0.1"
    """Where to listen: by default this machine only; 0.0.0.0 is every network that it is in."""
    port: int | None = None
    """By default the first free one from 7860 on."""
    allowed_hosts: tuple[str, ...] = ()
    """More names by which browsers may call the server, such as that of a reverse proxy; by default those of this
    machine, as far as --host reaches. Requests of other web sites are refused."""
    max_mib: int = 200
    """The largest file that is taken."""
    max_seconds: float = 600.0
    """The longest video that is taken."""
    max_megapixels: float = 9.5
    """The largest picture that is taken, width times height; 9.5 million hold 4096 x 2304."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated; use what the networks were trained with."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    schema: bool = False
    """Print the JSON Schema of the answers of the HTTP API, and end."""


def main(args: list[str]) -> None:
    """Run the verb until it is interrupted."""
    options = tyro.cli(Serve, args=args, prog="quovadis serve", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.web.examples import fitting_examples, folder_examples
    from quovadis.web.handlers import Handlers
    from quovadis.web.limits import Limits
    from quovadis.web.models import ModelRegistry
    from quovadis.web.page import build_page, import_gradio, serve_page, temporary_folder

    limits = Limits(
        max_bytes=options.max_mib * 2**20,
        max_seconds=options.max_seconds,
        max_frame_pixels=round(options.max_megapixels * 1e6),
    )
    if options.schema:
        import_gradio()
        from quovadis.web.schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return
    for number in (signal.SIGTERM, signal.SIGINT):  # both remove the files; a shell may have switched off SIGINT
        signal.signal(number, _interrupt)
    with temporary_folder() as folder:
        import_gradio()
        models = ModelRegistry.load(
            options.weights, options.compare, device=options.device, flow_method=options.flow_method
        )
        labels = models[models.names[0]].labels
        examples = (
            folder_examples(options.examples, limits)
            if options.examples
            else fitting_examples(labels, Path(folder) / "examples")
        )
        handlers = Handlers(models, limits, Path(folder))
        blocks = build_page(handlers, examples)
        served = serve_page(
            blocks, handlers, examples, host=options.host, port=options.port, allowed_hosts=options.allowed_hosts
        )
        try:
            with served as url:
                print(url, flush=True)
                print("open this address in a browser; Ctrl-C ends it", file=sys.stderr)
                threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
