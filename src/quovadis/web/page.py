"""The page itself: Gradio's blocks, and how they are served."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import Any

from quovadis.runtime.extras import missing_extra
from quovadis.web import views
from quovadis.web.examples import Example
from quovadis.web.handlers import KEEP_SECONDS, Handlers, told_words

_HERE = Path(__file__).parent
_UPLOADS = "uploads"
_AT_ONCE, _LINE = 8, 32
"""How many are let in, of whom one is worked for and the others see that they wait; and how many wait outside. Whoever
comes later is told that it is full."""


def import_gradio() -> Any:
    """Gradio, without its telemetry.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("web pages", "web") from error
    return gradio


def build_page(handlers: Handlers, examples: Sequence[Example] = ()) -> Any:
    """The blocks, ready to be launched; see :func:`serve_page`.

    Args:
        handlers: what they do.
        examples: to choose from.
    """
    gr = import_gradio()
    bench = handlers.bench
    alone = len(bench.names) == 1
    models = [bench.describe(name) if alone else f"{name}: {bench.describe(name)}" for name in bench.names]
    with gr.Blocks(title="quovadis", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as blocks:
        _endpoints(gr, handlers)  # first: what comes later under the same name is numbered
        _html(gr, value=views.header(models, handlers.limits.max_bytes / 2**20, handlers.limits.max_seconds))
        with gr.Tab("Recognize"):
            _recognize_tab(gr, handlers, examples)
        with gr.Tab("Compare models"):
            _compare_tab(gr, handlers, examples)
        with gr.Tab("Compare clips"):
            _features_tab(gr, handlers, examples)
    return blocks.queue(max_size=_LINE, default_concurrency_limit=1)


@contextmanager
def serve_page(
    blocks: Any,
    handlers: Handlers,
    examples: Sequence[Example] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
) -> Iterator[str]:
    """Serve the blocks in a thread.

    Args:
        blocks: of :func:`build_page`.
        handlers: what they do.
        examples: those that the blocks show; no other file of their folders is given out.
        host: the address to bind to; ``0.0.0.0`` is every network that this machine is in.
        port: None takes the first free one from 7860 on.
        allowed_hosts: names besides its own by which browsers may call the server.

    Yields:
        The address of the page.

    Raises:
        InvalidInputError: the port is taken, or there is no such address here, or a name is not one.
    """
    gr = import_gradio()
    from fastapi import FastAPI

    from quovadis.web.guard import Guard
    from quovadis.web.server import Server

    system = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        "/",
        ssr_mode=False,
        show_error=False,
        run_history=False,
        max_file_size=handlers.limits.max_bytes,
        allowed_paths=[str(handlers.folder), *(str(e.path) for e in examples)],
        footer_links=["api"],
        theme=gr.themes.Base(primary_hue="cyan", neutral_hue="slate", font=system, font_mono=mono),
        css=(_HERE / "page.css").read_text(),
        head=f"<script>{(_HERE / 'page.js').read_text()}</script>",
    )
    guard = Guard(
        app,
        host=host,
        allowed_hosts=allowed_hosts,
        max_upload_bytes=2 * handlers.limits.max_bytes + 2**20,  # two clips in one request
        upload_folder=handlers.folder / _UPLOADS,
    )
    server = Server(guard, host=host, port=port)
    try:
        yield server.url
    finally:
        blocks.close(verbose=False)
        server.close()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for everything that is uploaded, removed with all it holds when the page ends; to be made first."""
    folder = tempfile.TemporaryDirectory(prefix="quovadis-serve-")
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder.name) / _UPLOADS)
    return folder


def _recognize_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    names = handlers.bench.names
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            file = gr.File(label="Drop a video here", height=150, elem_id="recognize-file")
            gallery = _gallery(gr, examples)  # above what changes, so that it does not move
            player = _html(gr)
        with gr.Column(scale=2, min_width=300):
            model = gr.Radio(names, value=names[0], label="Networks", visible=len(names) > 1)
            with gr.Row():
                run, stop = gr.Button("Recognize", variant="primary", min_width=120), gr.Button("Stop", min_width=80)
            status, result = _html(gr, "recognize-status"), _html(gr, "recognize-result")
    line, frames = _html(gr, "recognize-timeline"), _html(gr)
    outputs = [status, result, line, frames]
    show = partial(handlers.show, which="recognize")
    went: list[Any] = []
    for arrived in _arrivals(gr, file, gallery, examples):
        shown = arrived(show, file, [player, status], **_QUIET)
        went += [shown, shown.then(handlers.recognize, [file, model], outputs, **_QUIET)]
    went.append(run.click(handlers.recognize, [file, model], outputs, **_QUIET))
    # What was found in the last video goes at once.
    gallery.select(_nothing(3), None, outputs[1:], cancels=went, queue=False, api_visibility="private")
    stop.click(_nothing(4), None, outputs, cancels=went, queue=False, api_visibility="private")
    file.clear(_nothing(5), None, [player, *outputs], cancels=went, queue=False, api_visibility="private")


def _compare_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    names, pair = handlers.bench.names, handlers.bench.pair
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            file = gr.File(label="Drop a video here", height=150, elem_id="compare-file")
            gallery = _gallery(gr, examples)  # above what changes, so that it does not move
            player = _html(gr)
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                first = gr.Dropdown(names, value=pair[0], label="First")
                second = gr.Dropdown(names, value=pair[1], label="Second")
            if len(names) == 1:
                gr.Markdown("There is one network only: start with `--compare` and the weights of another one.")
            with gr.Row():
                run, stop = gr.Button("Compare", variant="primary", min_width=120), gr.Button("Stop", min_width=80)
            status, result = _html(gr, "compare-status"), _html(gr, "compare-result")
    line = _html(gr, "compare-timeline")
    outputs = [status, result, line]
    show = partial(handlers.show, which="compare")
    went = [arrived(show, file, [player, status], **_QUIET) for arrived in _arrivals(gr, file, gallery, examples)]
    went.append(run.click(handlers.compare, [file, first, second], outputs, **_QUIET))
    # What was found in the last video goes at once.
    gallery.select(_nothing(2), None, outputs[1:], cancels=went, queue=False, api_visibility="private")
    stop.click(_nothing(3), None, outputs, cancels=went, queue=False, api_visibility="private")
    file.clear(_nothing(4), None, [player, *outputs], cancels=went, queue=False, api_visibility="private")


def _features_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    names = handlers.bench.names
    went: list[Any] = []
    with gr.Row():
        model = gr.Radio(names, value=names[0], label="Networks", visible=len(names) > 1)
    files = []
    status = _html(gr, "features-status", render=False)
    with gr.Row():
        for which in ("first", "second"):
            with gr.Column(min_width=300):
                file = gr.File(label=f"Drop the {which} clip here", height=150, elem_id=f"features-{which}")
                player = _html(gr)
                gallery = _gallery(gr, examples)
            files.append(file)
            show = partial(handlers.show, which=f"features-{which}")
            went += [a(show, file, [player, status], **_QUIET) for a in _arrivals(gr, file, gallery, examples)]
            file.clear(_nothing(2), None, [player, status], cancels=went, queue=False, api_visibility="private")
    with gr.Row():
        run, stop = (
            gr.Button("Compare their features", variant="primary", min_width=120),
            gr.Button("Stop", min_width=80),
        )
    status.render()
    result = _html(gr, "features-result")
    went.append(run.click(handlers.features, [*files, model], [status, result], **_QUIET))
    stop.click(_nothing(2), None, [status, result], cancels=went, queue=False, api_visibility="private")


_WORK = {"concurrency_id": "work", "concurrency_limit": _AT_ONCE}
_QUIET = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple", **_WORK}
"""Of what the page itself calls: it shows its own progress, programs have endpoints of their own, and a new file is not
ignored because the last one is still at work: that is canceled."""


def _html(gr: Any, elem_id: str | None = None, **options: Any) -> Any:
    """A place for HTML of our own, without Gradio's looks."""
    return gr.HTML(elem_id=elem_id, apply_default_css=False, js_on_load=None, **options)


def _gallery(gr: Any, examples: Sequence[Example]) -> Any:
    """Pictures of the examples, to be clicked."""
    pictures = [(e.thumbnail.permute(1, 2, 0).numpy(), e.caption) for e in examples]
    if examples:
        _html(gr, value="<p class='qv qv-or'>Or try one of these:</p>")
    return gr.Gallery(
        pictures,
        show_label=False,
        columns=4,
        allow_preview=False,
        visible=bool(examples),
        buttons=[],
        elem_classes="qv-examples",
    )


def _arrivals(gr: Any, file: Any, gallery: Any, examples: Sequence[Example]) -> list[Any]:
    """Events after which a new file lies in ``file``: an upload, and a click on an example."""

    def choose(event: gr.SelectData) -> str:
        return str(examples[event.index].path)

    choose.__annotations__["event"] = gr.SelectData  # a name that Gradio cannot look up from the text alone
    return [file.upload, gallery.select(choose, None, file, queue=False, api_visibility="private").then]


def _nothing(count: int) -> Callable[[], list[str]]:
    """Empties so many outputs."""
    return lambda: [""] * count


def _endpoints(gr: Any, handlers: Handlers) -> None:
    """The HTTP API: components that nobody sees, for their checks of what arrives."""
    with gr.Row(visible=False):
        videos = [gr.File(label="video"), gr.File(label="second video")]
        choices = ["", *handlers.bench.names]  # an empty one is the page's own choice
        texts = [gr.Dropdown(choices, value="", label=label) for label in ("networks", "second networks")]
        answer, button = gr.JSON(label="answer"), gr.Button()
    for function, inputs, name, words in (
        (
            handlers.recognize_json,
            [videos[0], texts[0]],
            "recognize",
            "Name the actions in a video, and when they happen.",
        ),
        (handlers.compare_json, [videos[0], *texts], "compare", "The same video through two models."),
        (handlers.features_json, [*videos, texts[0]], "features", "How alike two clips are to a network, over time."),
    ):
        words += " quovadis serve --schema prints the JSON Schema of the answer."
        button.click(_in_words(gr, function), inputs, answer, api_name=name, api_description=words, **_WORK)


def _in_words(gr: Any, function: Callable[..., Generator[dict[str, Any], None, None]]) -> Callable[..., Any]:
    """The same, with errors as the clients of the API are told them."""

    @wraps(function)
    def call(*args: str | None) -> Generator[dict[str, Any], None, None]:
        try:
            yield from function(*args)
        except Exception as error:
            raise gr.Error(told_words(error), print_exception=False) from error

    return call
