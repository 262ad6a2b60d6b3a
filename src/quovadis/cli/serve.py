"""``quovadis serve``: the web demo and its HTTP API."""

import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Serve:
    """Start the web demo: actions in a video over time, activation maps, batches, and comparison of models and clips.

    The server works offline and sends no data to other servers. Uploaded files are deleted after an hour and when the
    server stops. The HTTP API has the endpoints /recognize (video, model), /compare (video, first, second) and
    /features (first, second, model); call it with gradio_client or plain HTTP. --schema prints the JSON Schema of its
    results. /health answers health checks.
    """

    weights: tuple[str, ...] = ()
    """Published names, weights files or run folders. The logits of several networks are added; each network can also be
    selected alone. By default the official Kinetics-400 network, which is downloaded once."""
    compare: tuple[str, ...] = ()
    """Weights of a second recognizer for comparison."""
    examples: Path | None = None
    """A folder of example videos. By default, models of the classes of "motions" have generated examples; others have
    none."""
    host: str = "127.0.0.1"
    """Address at which to listen; the default allows access from this machine only, 0.0.0.0 from all networks."""
    port: int | None = None
    """Port; by default the first free one from 7860 on."""
    allowed_hosts: tuple[str, ...] = ()
    """Additional host names by which browsers may access the server, such as the name of a reverse proxy. Requests with
    other host names or from other web sites are rejected."""
    root_path: str = ""
    """Path of the page on a reverse proxy that removes this path from requests, such as /actions."""
    max_mib: int = 200
    """Maximum size of a file."""
    max_seconds: float = 600.0
    """Maximum duration of a video."""
    max_megapixels: float = 9.5
    """Maximum frame size, width times height in million pixels; 9.5 allows 4096 x 2304."""
    flow_method: FlowMethod = "tvl1"
    """Method for estimating optical flow; use the method that the networks were trained with."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if available."""
    schema: bool = False
    """Print the JSON Schema of the results of the HTTP API and exit."""


def main(args: list[str]) -> None:
    """Run the command until it is interrupted."""
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
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell may disable SIGINT for background jobs
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
        handlers.warm_up()
        blocks = build_page(handlers, examples)
        served = serve_page(
            blocks,
            handlers,
            examples,
            host=options.host,
            port=options.port,
            allowed_hosts=options.allowed_hosts,
            root_path=options.root_path,
        )
        try:
            with served as url:
                print(url, flush=True)
                print("Open this address in a browser. Press Ctrl-C to stop the server.", file=sys.stderr)
                threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
