"""Event handlers: HTML for the page, JSON for the API."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from quovadis.errors import InvalidInputError, QuovadisError
from quovadis.inference.recognizer import Recognizer
from quovadis.web import analysis, views
from quovadis.web.job_queue import JobQueue, Progress, ProgressCallback
from quovadis.web.limits import Limits
from quovadis.web.models import ModelRegistry
from quovadis.web.preview import plays_in_browsers, write_preview
from quovadis.web.results import BatchRow, VideoPrediction
from quovadis.web.schema import comparison_json, features_json, recognition_json

Result = TypeVar("Result")
Output = TypeVar("Output")
JsonStream = Generator[dict[str, Any], None, None]
"""Progress objects, then the JSON of the result."""

KEEP_SECONDS = 3600
"""How long uploaded files are kept."""
MAX_BATCH_VIDEOS = 200
"""Maximum number of videos in a batch."""


class PlayerOutputs(NamedTuple):
    """HTML of the components that a new file updates."""

    player: Any = ""
    status: Any = ""


class RecognitionOutputs(NamedTuple):
    """HTML of the components that :meth:`Handlers.recognize` updates."""

    status: Any = ""
    result: Any = ""
    timeline: Any = ""


class FlowOutputs(NamedTuple):
    """HTML of the components that :meth:`Handlers.flow` updates."""

    status: Any = ""
    frames: Any = ""


class ComparisonOutputs(NamedTuple):
    """HTML of the components that :meth:`Handlers.compare` updates."""

    status: Any = ""
    result: Any = ""
    timelines: Any = ""


class FeaturesOutputs(NamedTuple):
    """HTML of the components that :meth:`Handlers.features` updates."""

    status: Any = ""
    result: Any = ""


class BatchOutputs(NamedTuple):
    """HTML of the components that :meth:`Handlers.batch` updates."""

    status: Any = ""
    result: Any = ""


class Handlers:
    """Event handlers of the page and endpoints of the API.

    Args:
        models: The models to choose from.
        limits: Limits on uploaded videos.
        folder: Folder for previews of videos that browsers cannot play; they are deleted after an hour.
    """

    def __init__(self, models: ModelRegistry, limits: Limits, folder: str | Path):
        self.models, self.limits, self.folder = models, limits, Path(folder)
        self._queue = JobQueue()

    def show(self, file: str | None, player_id: str) -> Generator[PlayerOutputs, None, None]:
        """Check an uploaded file and show it in a player, as a preview if browsers cannot play it."""
        if file is None:
            yield PlayerOutputs()
            return
        try:
            info = self.limits.check(file)
            if plays_in_browsers(info):
                yield PlayerOutputs(views.player(file, Path(file).name, info, player_id))
                return
            self._delete_old_previews()
            preview = self.folder / f"{uuid4().hex}.mp4"
            yield from self._stream(
                partial(write_preview, file, preview, info),
                lambda status: PlayerOutputs(status=status),
                lambda path: PlayerOutputs(views.player(str(path), Path(file).name, info, player_id)),
            )
        except Exception as error:
            yield PlayerOutputs(status=views.error(error_message(error)))

    def warm_up(self) -> None:
        """Run every network once as the first job, so that the first upload does not wait for kernels to compile."""
        self._queue.submit(lambda report: self.models.warm_up())

    def recognize(self, file: str | None, model: str) -> Generator[RecognitionOutputs, None, None]:
        """Recognize the actions in a video; the classes are shown before the timeline is computed."""
        classes = ""

        def show_classes(prediction: VideoPrediction) -> None:
            nonlocal classes
            classes = views.prediction(prediction, "recognize")

        try:
            recognizer, path = self.models[model], _require_file(file, "a video")
            job = partial(analysis.recognize, recognizer, path, limits=self.limits, on_prediction=show_classes)
            yield from self._stream(
                lambda report: job(on_progress=report),
                lambda status: RecognitionOutputs(status, classes),
                lambda found: RecognitionOutputs(
                    result=views.prediction(found.overall, "recognize"),
                    timeline=views.timeline(found, "recognize"),
                ),
            )
        except Exception as error:
            yield RecognitionOutputs(views.error(error_message(error)), classes)

    def flow(self, file: str | None, model: str) -> Generator[FlowOutputs, None, None]:
        """Draw frames of a video with their optical flow."""
        try:
            recognizer, path = self.models[model], _require_file(file, "a video")
            job = partial(analysis.sample_flow, recognizer, path, limits=self.limits)
            yield from self._stream(
                lambda report: job(on_progress=report),
                FlowOutputs,
                lambda found: FlowOutputs(frames=views.flow_frames(found, "recognize")),
            )
        except Exception as error:
            yield FlowOutputs(views.error(error_message(error)))

    def flow_if_used(self, file: str | None, model: str, timeline: str) -> Generator[FlowOutputs, None, None]:
        """Draw the flow after a recognition that has a timeline, if the model uses flow."""
        if timeline and model in self.models.recognizers and self.models[model].needs_flow:
            yield from self.flow(file, model)
        else:
            yield FlowOutputs()

    def batch(self, files: Sequence[str] | None, model: str) -> Generator[BatchOutputs, None, None]:
        """Recognize many videos one after another; the table grows with each of them."""
        rows: list[BatchRow] = []
        table = ""
        try:
            recognizer, paths = self.models[model], [Path(file) for file in files or ()]
            if not paths:
                raise InvalidInputError("videos are missing. Drop files on the page, or choose a folder.")
            if len(paths) > MAX_BATCH_VIDEOS:
                raise InvalidInputError(
                    f"{len(paths)} files were chosen; the limit is {MAX_BATCH_VIDEOS}. For more, run: quovadis predict "
                    "FOLDER --json"
                )
            for path in paths:
                title = f"{path.name}, {len(rows) + 1} of {len(paths)}"
                with closing(self._predict(recognizer, path)) as steps:
                    for step in steps:
                        if isinstance(step, Progress):
                            fraction = (len(rows) + step.fraction) / len(paths)
                            yield BatchOutputs(views.progress(fraction, f"{title}: {step.description}"), table)
                        else:
                            rows.append(step)
                table = views.batch(rows, len(paths))
            yield BatchOutputs(result=table)
        except Exception as error:
            yield BatchOutputs(views.error(error_message(error)), table)

    def compare(self, file: str | None, first: str, second: str) -> Generator[ComparisonOutputs, None, None]:
        """Recognize a video with two models."""
        try:
            pair, path = (self.models[first], self.models[second]), _require_file(file, "a video")
            job = partial(analysis.compare, *pair, path, limits=self.limits)
            yield from self._stream(
                lambda report: job(on_progress=report),
                ComparisonOutputs,
                lambda found: ComparisonOutputs("", views.comparison(found), views.timelines(found, "compare")),
            )
        except Exception as error:
            yield ComparisonOutputs(views.error(error_message(error)))

    def features(self, first: str | None, second: str | None, model: str) -> Generator[FeaturesOutputs, None, None]:
        """Compare the features of two clips."""
        try:
            paths = _require_file(first, "the first clip"), _require_file(second, "the second clip")
            job = partial(analysis.compare_features, self.models[model], *paths, limits=self.limits)
            yield from self._stream(
                lambda report: job(on_progress=report),
                FeaturesOutputs,
                lambda found: FeaturesOutputs("", views.features(found)),
            )
        except Exception as error:
            yield FeaturesOutputs(views.error(error_message(error)))

    def recognize_json(self, video: str | None, model: str = "") -> JsonStream:
        """Recognize the actions in a video; see :class:`quovadis.web.schema.RecognitionJson`."""
        recognizer, path = self.models[model or self.models.names[0]], _require_file(video, "a video")
        job = partial(analysis.recognize, recognizer, path, limits=self.limits, draw_maps=False)
        return self._stream_json(lambda report: dict(recognition_json(job(on_progress=report))))

    def compare_json(self, video: str | None, first: str = "", second: str = "") -> JsonStream:
        """Recognize a video with two models; see :class:`quovadis.web.schema.ComparisonJson`."""
        default_first, default_second = self.models.default_pair
        pair = self.models[first or default_first], self.models[second or default_second]
        job = partial(analysis.compare, *pair, _require_file(video, "a video"), limits=self.limits)
        return self._stream_json(lambda report: dict(comparison_json(job(on_progress=report))))

    def features_json(self, first: str | None, second: str | None, model: str = "") -> JsonStream:
        """Compare the features of two clips; see :class:`quovadis.web.schema.FeaturesJson`."""
        recognizer = self.models[model or self.models.names[0]]
        paths = _require_file(first, "the first clip"), _require_file(second, "the second clip")
        job = partial(analysis.compare_features, recognizer, *paths, limits=self.limits)
        return self._stream_json(lambda report: dict(features_json(job(on_progress=report))))

    def _predict(self, recognizer: Recognizer, path: Path) -> Generator[Progress | BatchRow, None, None]:
        """Predict one video of a batch; yield the progress, then the row of the table."""
        job = partial(analysis.predict, recognizer, path, limits=self.limits)
        try:
            with closing(self._queue.run(lambda report: job(on_progress=report))) as steps:
                for step in steps:
                    yield step if isinstance(step, Progress) else BatchRow(path.name, step)
        except Exception as error:
            yield BatchRow(path.name, error=error_message(error))

    def _stream_json(self, job: Callable[[ProgressCallback], dict[str, Any]]) -> JsonStream:
        with closing(self._queue.run(job)) as steps:
            for step in steps:
                yield {"progress": step.fraction, "doing": step.description} if isinstance(step, Progress) else step

    def _stream(
        self,
        job: Callable[[ProgressCallback], Result],
        show_status: Callable[[str], Output],
        show_result: Callable[[Result], Output],
    ) -> Generator[Output, None, None]:
        """Run a job; yield outputs for its progress and for its result. Closing the generator cancels the job."""
        with closing(self._queue.run(job)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    yield show_status(views.progress(step.fraction, step.description))
                else:
                    yield show_result(step)

    def _delete_old_previews(self) -> None:
        for file in self.folder.glob("*.mp4"):
            if time.time() - file.stat().st_mtime > KEEP_SECONDS:
                file.unlink(missing_ok=True)


def _require_file(file: str | None, what: str) -> str:
    if not file:
        raise InvalidInputError(f"{what} is missing. Drop a file on the page, or upload one through the API.")
    return file


def error_message(error: Exception) -> str:
    """Return the message to show for an error; unexpected errors are logged and hide their details."""
    if isinstance(error, QuovadisError):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"internal error ({type(error).__name__}); see the log of the server"
