"""Run jobs one at a time in a background thread, with progress and cancellation."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")

ProgressCallback = Callable[[float, str], None]
"""Called with the finished fraction of the job in [0, 1] and a description. If it raises, the job stops."""

_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Progress:
    """Progress of a job."""

    fraction: float
    """In [0, 1]."""
    description: str


class JobQueue:
    """Runs one job at a time, in the order of submission."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pending: list[Future] = []
        # A daemon thread does not delay the exit of the process, unlike the threads of ThreadPoolExecutor.
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, job: Callable[[ProgressCallback], object]) -> None:
        """Run a job without waiting for it. If it fails, the error is logged."""

        def work() -> None:
            try:
                for _ in self.run(job):
                    pass
            except Exception as error:
                traceback.print_exception(error, file=sys.stderr)

        threading.Thread(target=work, daemon=True).start()

    def run(self, job: Callable[[ProgressCallback], Result]) -> Generator[Progress | Result, None, None]:
        """Run a job; yield its progress up to four times per second, and its result last.

        Closing the generator cancels the job: before it starts, or the next time it reports progress.

        Args:
            job: Function that is called with a :data:`ProgressCallback`.

        Raises:
            Exception: Any exception of the job.

        Example:
            >>> *_, result = JobQueue().run(lambda report: 6 * 7)
            >>> result
            42
        """
        future: Future[Result] = Future()
        canceled = threading.Event()
        latest = Progress(0.0, "starting")

        def report(fraction: float, description: str) -> None:
            nonlocal latest
            if canceled.is_set():
                raise _JobCanceled
            latest = Progress(fraction, description)

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(job(report))
                except BaseException as error:
                    future.set_exception(error)

        self._pending.append(future)
        future.add_done_callback(self._pending.remove)
        self._jobs.put(work)
        try:
            shown = None
            while not wait([future], _POLL_SECONDS).done:
                pending = [*self._pending]
                num_ahead = pending.index(future) if future in pending else 0
                progress = Progress(0.0, f"queued, {num_ahead} ahead") if num_ahead else latest
                if progress != shown:
                    shown = progress
                    yield progress
            yield future.result()
        finally:
            canceled.set()
            future.cancel()

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class _JobCanceled(Exception):
    pass
