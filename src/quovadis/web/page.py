"""Layout of the web demo in Gradio, and how it is served."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any

from quovadis.errors import InvalidInputError
from quovadis.runtime.extras import missing_extra
from quovadis.version import __version__
from quovadis.web import views
from quovadis.web.examples import Example
from quovadis.web.handlers import (
    KEEP_SECONDS,
    BatchOutputs,
    ComparisonOutputs,
    FeaturesOutputs,
    FlowOutputs,
    Handlers,
    JsonStream,
    RecognitionOutputs,
    error_message,
)
from quovadis.web.models import ModelRegistry

_ASSETS = Path(__file__).parent
_UPLOAD_FOLDER = "uploads"
_MAX_CONCURRENT_EVENTS = 8
"""Events that are admitted at once. One job runs at a time; the others show their position in the queue."""
_MAX_UPLOAD_FILES = 10
"""A single upload may be as large as this number of files of the maximum size, or many smaller files."""
_MAX_QUEUED_EVENTS = 32
"""Events that wait for admission. Further events fail with a message that the queue is full."""


def import_gradio() -> Any:
    """Import Gradio with its telemetry disabled.

    Raises:
        MissingExtraError: If Gradio is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("web pages", "web") from error
    return gradio


def build_page(handlers: Handlers, examples: Sequence[Example] = ()) -> Any:
    """Build the page as Gradio blocks; see :func:`serve_page`.

    Args:
        handlers: Event handlers of the page.
        examples: Example videos to choose from.

    Example:
        >>> blocks = build_page(handlers)  # doctest: +SKIP
    """
    gr = import_gradio()
    models = handlers.models
    descriptions = [models.describe(name) for name in models.names]
    if len(descriptions) > 1:
        descriptions = [f"{name}: {text}" for name, text in zip(models.names, descriptions, strict=True)]
    with gr.Blocks(title="quovadis", analytics_enabled=False, delete_cache=(600, KEEP_SECONDS)) as blocks:
        _add_endpoints(gr, handlers)  # first, because Gradio numbers later endpoints of the same name
        _html(gr, value=views.header(descriptions, handlers.limits.max_bytes / 2**20, handlers.limits.max_seconds))
        with gr.Tab("Recognize"):
            _recognize_tab(gr, handlers, examples)
        if len(models.names) > 1:
            with gr.Tab("Compare models"):
                _compare_tab(gr, handlers, examples)
        with gr.Tab("Compare clips"):
            _features_tab(gr, handlers, examples)
        with gr.Tab("Many videos"):
            _batch_tab(gr, handlers)
    return blocks.queue(max_size=_MAX_QUEUED_EVENTS, default_concurrency_limit=1)


@contextmanager
def serve_page(
    blocks: Any,
    handlers: Handlers,
    examples: Sequence[Example] = (),
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    allowed_hosts: Sequence[str] = (),
    root_path: str = "",
) -> Iterator[str]:
    """Serve the page in a thread, and ``/health`` for health checks.

    Args:
        blocks: Result of :func:`build_page`.
        handlers: Event handlers of the page.
        examples: Examples of the page; other files of their folders are not served.
        host: Address at which to listen; ``0.0.0.0`` listens on all networks of this machine.
        port: Port; by default the first free one from 7860 on.
        allowed_hosts: Additional host names by which browsers may access the server.
        root_path: Path of the page on a reverse proxy that removes this path from requests, such as ``/actions``.

    Yields:
        The URL of the page.

    Raises:
        InvalidInputError: If the port is in use, the address is not available, or a host name or ``root_path`` is
            invalid.

    Example:
        >>> with serve_page(build_page(handlers), handlers) as url:  # doctest: +SKIP
        ...     print(url)
    """
    gr = import_gradio()
    from fastapi import FastAPI

    from quovadis.web.guard import Guard
    from quovadis.web.server import Server

    system = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
    mono = ("ui-monospace", "Consolas", "monospace")
    if root_path and not root_path.startswith("/"):
        raise InvalidInputError(f"root_path must be a path such as /actions; got {root_path!r}")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/health")(lambda: {"status": "ok", "version": __version__, "models": handlers.models.names})
    app = gr.mount_gradio_app(
        app,
        blocks,
        "/",
        root_path=root_path.rstrip("/") or None,
        ssr_mode=False,
        show_error=False,
        run_history=False,
        max_file_size=handlers.limits.max_bytes,
        allowed_paths=[str(handlers.folder), *(str(e.path) for e in examples)],
        footer_links=["api"],
        theme=gr.themes.Base(primary_hue="cyan", neutral_hue="slate", font=system, font_mono=mono),
        css=(_ASSETS / "page.css").read_text(),
        head=f"<script>{(_ASSETS / 'page.js').read_text()}</script>",
    )
    guard = Guard(
        app,
        host=host,
        allowed_hosts=allowed_hosts,
        max_upload_bytes=_MAX_UPLOAD_FILES * handlers.limits.max_bytes,
        upload_folder=handlers.folder / _UPLOAD_FOLDER,
    )
    server = Server(guard, host=host, port=port)
    try:
        yield server.url
    finally:
        blocks.close(verbose=False)
        server.close()


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Create the folder for uploads and previews; call this before importing Gradio. It is deleted on exit."""
    folder = tempfile.TemporaryDirectory(prefix="quovadis-serve-")
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder.name) / _UPLOAD_FOLDER)
    return folder


def _recognize_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    models = handlers.models
    # page.css places the columns: on wide screens the player below the upload, on narrow ones below the classes.
    with gr.Row(elem_classes="qv-recognize"):
        with gr.Column(min_width=0, elem_classes="qv-in"):
            file = _file(gr, "Drop a video here", "recognize-file")
            _html(gr, value=views.camera("recognize-file"))
            gallery = _gallery(gr, examples)
        with gr.Column(min_width=0, elem_classes="qv-out"):
            model = _model_choice(gr, models)
            run, stop = _buttons(gr, "Recognize")
            status, result = _html(gr, "recognize-status"), _html(gr, "recognize-result")
            _html(gr, "recognize-invitation", value=views.invitation(models[models.names[0]].labels))
        with gr.Column(min_width=0, elem_classes="qv-view"):
            upload = _Upload(file, gallery, _html(gr), examples, gr.State(("", 0)))
    outputs = RecognitionOutputs(status, result, _html(gr, "recognize-timeline"))
    draw_flow = gr.Button("Show optical flow", elem_id="recognize-draw-flow", min_width=120)
    flow = FlowOutputs(_html(gr, "recognize-flow-status"), _html(gr, "recognize-flow"))
    inputs = [file, model]
    recognized = [run.click(handlers.recognize, inputs, outputs, **_JOB)]
    events = []
    for on_file in upload.file_events():
        shown = on_file(partial(handlers.show, player_id="recognize"), file, [upload.player, status], **_JOB)
        events.append(shown)
        recognized.append(shown.then(handlers.recognize, inputs, outputs, **_JOB))
    events += recognized
    events += [e.then(handlers.flow_if_used, [*inputs, outputs.timeline], flow, **_JOB) for e in recognized]
    events.append(draw_flow.click(handlers.flow, inputs, flow, **_JOB))
    upload.choose_examples(gr, [result, outputs.timeline, *flow], events)
    _clear_on(stop.click, [*outputs, *flow], events)
    _clear_on(file.clear, [upload.player, *outputs, *flow], events)


def _compare_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    names, pair = handlers.models.names, handlers.models.default_pair
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            upload = _upload(gr, "Drop a video here", "compare-file", examples)
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                first = gr.Dropdown(names, value=pair[0], label="First model")
                second = gr.Dropdown(names, value=pair[1], label="Second model")
            run, stop = _buttons(gr, "Compare")
            status, result = _html(gr, "compare-status"), _html(gr, "compare-result")
    outputs = ComparisonOutputs(status, result, _html(gr, "compare-timeline"))
    show = partial(handlers.show, player_id="compare")
    events = [on_file(show, upload.file, [upload.player, status], **_JOB) for on_file in upload.file_events()]
    events.append(run.click(handlers.compare, [upload.file, first, second], outputs, **_JOB))
    upload.choose_examples(gr, [result, outputs.timelines], events)
    _clear_on(stop.click, outputs, events)
    _clear_on(upload.file.clear, [upload.player, *outputs], events)


def _features_tab(gr: Any, handlers: Handlers, examples: Sequence[Example]) -> None:
    model = _model_choice(gr, handlers.models)
    names = ("first", "second")
    with gr.Row():
        files = [_file(gr, f"Drop the {which} clip here", f"features-{which}") for which in names]
    run, stop = _buttons(gr, "Compare features")
    outputs = FeaturesOutputs(_html(gr, "features-status"), _html(gr, "features-result", render=False))
    status, events = outputs.status, []
    with gr.Row():
        for which, file in zip(names, files, strict=True):
            with gr.Column(min_width=300):
                gallery = _gallery(gr, examples)
                upload = _Upload(file, gallery, _html(gr), examples, gr.State(("", 0)))
            show = partial(handlers.show, player_id=f"features-{which}")
            events += [on_file(show, file, [upload.player, status], **_JOB) for on_file in upload.file_events()]
            _clear_on(file.clear, [upload.player, *outputs], events)
            upload.choose_examples(gr, outputs, events)
    outputs.result.render()
    events.append(run.click(handlers.features, [*files, model], outputs, **_JOB))
    _clear_on(stop.click, outputs, events)


def _batch_tab(gr: Any, handlers: Handlers) -> None:
    model = _model_choice(gr, handlers.models)
    files = gr.File(label="Drop videos here", file_count="multiple", height=240, elem_id="batch-files")
    with gr.Row():
        run = gr.Button("Recognize all", variant="primary", min_width=120)
        folder = gr.UploadButton("Choose a folder", file_count="directory", min_width=120, elem_id="batch-folder")
        stop = gr.Button("Stop", min_width=80)
    outputs = BatchOutputs(_html(gr, "batch-status"), _html(gr, "batch-result"))
    folder.upload(_visible_files, folder, files, queue=False, api_visibility="private")
    events = [run.click(handlers.batch, [files, model], outputs, **_JOB)]
    _clear_on(stop.click, [outputs.status], events)
    _clear_on(files.clear, outputs, events)


def _visible_files(files: Sequence[str] | None) -> list[str]:
    """Leave out hidden files of a folder, such as ``.DS_Store``."""
    return sorted(file for file in files or () if not Path(file).name.startswith("."))


_LIMITED = {"concurrency_id": "work", "concurrency_limit": _MAX_CONCURRENT_EVENTS}
_JOB = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple", **_LIMITED}
"""Options of events that run jobs. They show their own progress and are hidden from the API. A new event does not wait
for the last one, which is canceled."""


@dataclass(frozen=True)
class _Upload:
    """Components for choosing and playing a video."""

    file: Any
    gallery: Any
    player: Any
    examples: Sequence[Example]
    chosen: Any
    """State: the path of the chosen example, and a number that makes each choice a change."""

    def file_events(self) -> list[Any]:
        """Events after which ``file`` has a new value: an upload, and the choice of an example."""
        options = {"queue": False, "api_visibility": "private"}
        copied = self.chosen.change(lambda chosen: chosen[0], self.chosen, self.file, **options)
        return [self.file.upload, copied.then]

    def choose_examples(self, gr: Any, outputs: Sequence[Any], canceled_events: Sequence[Any]) -> None:
        """Let clicks on the gallery clear ``outputs``, cancel events, and then choose an example.

        Gradio runs the listeners of a click in the order in which they were added, and cancels by function. Listeners
        that cancel must therefore come before the one that starts the same functions for the new example.
        """
        _clear_on(self.gallery.select, outputs, canceled_events)

        def choose(event: gr.SelectData, chosen: tuple[str, int]) -> tuple[str, int]:
            return str(self.examples[event.index].path), chosen[1] + 1

        choose.__annotations__["event"] = gr.SelectData  # Gradio cannot resolve the annotation from its text
        # Changes of a state are only reported for queued events.
        self.gallery.select(choose, self.chosen, self.chosen, concurrency_limit=None, api_visibility="private")


def _upload(gr: Any, label: str, elem_id: str, examples: Sequence[Example]) -> _Upload:
    # The gallery is above the player so that it does not move when the player appears.
    file, gallery = _file(gr, label, elem_id), _gallery(gr, examples)
    return _Upload(file, gallery, _html(gr), examples, gr.State(("", 0)))


def _file(gr: Any, label: str, elem_id: str) -> Any:
    return gr.File(label=label, height=240, elem_id=elem_id)


def _gallery(gr: Any, examples: Sequence[Example]) -> Any:
    """Clickable thumbnails of the examples."""
    if examples:
        _html(gr, value="<p class='qv qv-or'>Or choose an example:</p>")
    return gr.Gallery(
        [(e.thumbnail.permute(1, 2, 0).numpy(), e.caption) for e in examples],
        show_label=False,
        columns=4,
        allow_preview=False,
        visible=bool(examples),
        buttons=[],
        elem_classes="qv-examples",
    )


def _model_choice(gr: Any, models: ModelRegistry) -> Any:
    return gr.Radio(models.names, value=models.names[0], label="Model", visible=len(models.names) > 1)


def _buttons(gr: Any, label: str) -> tuple[Any, Any]:
    with gr.Row():
        return gr.Button(label, variant="primary", min_width=120), gr.Button("Stop", min_width=80)


def _html(gr: Any, elem_id: str | None = None, **options: Any) -> Any:
    """An HTML component without Gradio's styles and scripts."""
    return gr.HTML(elem_id=elem_id, apply_default_css=False, js_on_load=None, **options)


def _clear_on(event: Any, outputs: Sequence[Any], canceled_events: Sequence[Any]) -> None:
    """Cancel running jobs and clear components when an event occurs, in this order."""
    event(None, cancels=[*canceled_events], queue=False, api_visibility="private")
    event(lambda: [""] * len(outputs), None, [*outputs], queue=False, api_visibility="private")


def _add_endpoints(gr: Any, handlers: Handlers) -> None:
    """Add the endpoints of the HTTP API; their invisible components validate the inputs."""
    with gr.Row(visible=False):
        videos = [gr.File(label="video"), gr.File(label="second video")]
        choices = ["", *handlers.models.names]  # the empty string selects the default
        models = [gr.Dropdown(choices, value="", label=label) for label in ("model", "second model")]
        result, button = gr.JSON(label="result"), gr.Button()
    endpoints: dict[str, tuple[Callable[..., JsonStream], list[Any], str]] = {
        "recognize": (
            handlers.recognize_json,
            [videos[0], models[0]],
            "Recognize the actions in a video and when they happen.",
        ),
        "compare": (handlers.compare_json, [videos[0], *models], "Recognize a video with two models."),
        "features": (handlers.features_json, [*videos, models[0]], "Compare the features of two clips over time."),
    }
    for name, (function, inputs, description) in endpoints.items():
        description += " quovadis serve --schema prints the JSON Schema of the result."
        button.click(
            _raise_gradio_errors(gr, function), inputs, result, api_name=name, api_description=description, **_LIMITED
        )


def _raise_gradio_errors(gr: Any, function: Callable[..., JsonStream]) -> Callable[..., JsonStream]:
    """Convert errors so that API clients receive their messages."""

    @wraps(function)
    def call(*args: str | None) -> JsonStream:
        try:
            yield from function(*args)
        except Exception as error:
            raise gr.Error(error_message(error), print_exception=False) from error

    return call
