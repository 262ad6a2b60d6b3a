"""What happens when somebody presses something on the page, or a program calls; without the page."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from quovadis.errors import InvalidInputError, QuovadisError
from quovadis.web import analysis, views
from quovadis.web.job_queue import JobQueue
from quovadis.web.limits import Limits
from quovadis.web.models import ModelRegistry
from quovadis.web.schema import comparison_json, features_json, recognition_json

Result = TypeVar("Result")
Answer = Generator[dict[str, Any], None, None]
"""Of the HTTP API: progress, then the JSON of the result."""

KEEP_SECONDS = 3600
"""How long files that people sent are kept."""


class Handlers:
    """What is answered to whoever presses something, as HTML, or calls an endpoint, as JSON.

    Args:
        bench: the models to choose from.
        limits: what is taken.
        folder: for copies of videos that browsers do not play; they are removed after an hour.
    """

    def __init__(self, bench: ModelRegistry, limits: Limits, folder: str | Path):
        self.bench, self.limits, self.folder = bench, limits, Path(folder)
        self._desk = JobQueue()

    def show(self, file: str | None, which: str) -> Generator[tuple[str, str], None, None]:
        """The player of a file that arrived, and the status; what is wrong with it is said here first."""
        if file is None:
            yield "", ""
            return
        try:
            facts = self.limits.check(file)
            path = file
            if not analysis.plays_in_browsers(facts):
                self._sweep()
                target = self.folder / f"{uuid4().hex}.mp4"
                for told in self._told(partial(analysis.write_preview, file, target, facts)):
                    if isinstance(told, str):
                        yield "", told
                    else:
                        path = str(told)
            yield views.player(path, Path(file).name, facts, which), ""
        except Exception as error:
            yield "", views.error(told_words(error))

    def recognize(self, file: str | None, model: str) -> Generator[tuple[str, str, str, str], None, None]:
        """Status, classes, timeline, frames with flow; the classes as soon as they are known."""
        shown = ""

        def keep(answer: analysis.Answer) -> None:
            nonlocal shown
            shown = views.answer(answer)

        try:
            path = _wanted(file, "a video")
            work = partial(analysis.recognize, self.bench[model], path, limits=self.limits, on_answer=keep)
            for told in self._told(lambda report: work(on_progress=report)):
                if isinstance(told, str):
                    yield told, shown, "", ""
                else:
                    line = views.timeline(told, "recognize")
                    yield "", views.recognition(told), line, views.moments(told, "recognize")
        except Exception as error:
            yield views.error(told_words(error)), shown, "", ""

    def compare(self, file: str | None, first: str, second: str) -> Generator[tuple[str, str, str], None, None]:
        """Status, both models' classes, both time lines."""
        try:
            path = _wanted(file, "a video")
            pair = self.bench[first], self.bench[second]
            work = partial(analysis.compare, *pair, path, limits=self.limits)
            for told in self._told(lambda report: work(on_progress=report)):
                if isinstance(told, str):
                    yield told, "", ""
                else:
                    yield "", views.comparison(told), views.timelines(told, "compare")
        except Exception as error:
            yield views.error(told_words(error)), "", ""

    def features(self, first: str | None, second: str | None, model: str) -> Generator[tuple[str, str], None, None]:
        """Status, the matrix."""
        try:
            paths = _wanted(first, "the first clip"), _wanted(second, "the second clip")
            work = partial(analysis.compare_features, self.bench[model], *paths, limits=self.limits)
            for told in self._told(lambda report: work(on_progress=report)):
                yield (told, "") if isinstance(told, str) else ("", views.features(told))
        except Exception as error:
            yield views.error(told_words(error)), ""

    def recognize_json(self, video: str | None, model: str = "") -> Answer:
        """Name the actions in a video; see :class:`quovadis.web.schema.RecognitionJson`."""
        recognizer, path = self.bench[model or self.bench.names[0]], _wanted(video, "a video")
        work = partial(analysis.recognize, recognizer, path, limits=self.limits, pictures=False)
        return self._answer(lambda report: dict(recognition_json(work(on_progress=report))))

    def compare_json(self, video: str | None, first: str = "", second: str = "") -> Answer:
        """The same video through two models; see :class:`quovadis.web.schema.ComparisonJson`."""
        pair = self.bench[first or self.bench.pair[0]], self.bench[second or self.bench.pair[1]]
        work = partial(analysis.compare, *pair, _wanted(video, "a video"), limits=self.limits)
        return self._answer(lambda report: dict(comparison_json(work(on_progress=report))))

    def features_json(self, first: str | None, second: str | None, model: str = "") -> Answer:
        """How alike two clips are to a network; see :class:`quovadis.web.schema.FeaturesJson`."""
        recognizer = self.bench[model or self.bench.names[0]]
        paths = _wanted(first, "the first clip"), _wanted(second, "the second clip")
        work = partial(analysis.compare_features, recognizer, *paths, limits=self.limits)
        return self._answer(lambda report: dict(features_json(work(on_progress=report))))

    def _answer(self, work: Callable[[analysis.Report], dict[str, Any]]) -> Answer:
        """The progress of the work again and again, then its result. Closing the generator cancels the work."""
        with closing(self._desk.in_steps(work)) as steps:
            while True:
                try:
                    share, what = next(steps)
                except StopIteration as stop:
                    yield stop.value
                    return
                yield {"progress": share, "doing": what}

    def _told(self, work: Callable[[analysis.Report], Result]) -> Generator[str | Result, None, None]:
        """How far the work is, as HTML, again and again, and in the end its result."""
        with closing(self._desk.in_steps(work)) as steps:
            while True:
                try:
                    share, what = next(steps)
                except StopIteration as stop:
                    yield stop.value
                    return
                yield views.progress(share, what)

    def _sweep(self) -> None:
        """Remove old copies."""
        for file in self.folder.glob("*.mp4"):
            if time.time() - file.stat().st_mtime > KEEP_SECONDS:
                file.unlink(missing_ok=True)


def _wanted(file: str | None, what: str) -> str:
    if not file:
        raise InvalidInputError(f"{what} is missing: drop one on the page, or send one")
    return file


def told_words(error: Exception) -> str:
    """What a stranger is told; what is our own fault goes to the log whole."""
    if isinstance(error, QuovadisError):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"something went wrong here ({type(error).__name__}); the log of the server says more"
