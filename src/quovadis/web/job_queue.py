"""Work that tells how far it is, as a generator: so that whoever asked can be told, and can leave."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from quovadis.web.analysis import Report

Result = TypeVar("Result")

_TELL_SECONDS = 0.25


class JobQueue:
    """One piece of work at a time; the others wait in line, first come first served."""

    def __init__(self) -> None:
        self._line: deque[object] = deque()
        self._moved = threading.Condition()

    def do(self, work: Callable[[Report], Result], report: Report = lambda share, what: None) -> Result:
        """Do it here, once it is its turn.

        Args:
            work: is given ``report``.
            report: told how many are before it, and then how far it is; what it raises ends the waiting or the work.

        >>> JobQueue().do(lambda report: 6 * 7)
        42
        """
        me = object()
        with self._moved:
            self._line.append(me)
        try:
            with self._moved:
                while self._line[0] is not me:
                    report(0.0, f"waiting for its turn, {self._line.index(me)} before it")
                    self._moved.wait(_TELL_SECONDS)
            report(0.0, "beginning")
            return work(report)
        finally:
            with self._moved:
                self._line.remove(me)
                self._moved.notify_all()

    def in_steps(self, work: Callable[[Report], Result]) -> Generator[tuple[float, str], None, Result]:
        """Do it in a thread, and yield how far it is, a few times a second; the result is the generator's value.

        When the generator is closed, the work ends the next time that it tells how far it is.

        >>> steps = JobQueue().in_steps(lambda report: report(0.5, "half") or 42)
        >>> try:
        ...     while True:
        ...         told = next(steps)
        ... except StopIteration as stop:
        ...     print(stop.value)
        42
        """
        job = _Job(self, work)
        thread = threading.Thread(target=job.run, daemon=True)
        thread.start()
        told: tuple[float, str] | None = None
        try:
            while not job.ended.wait(_TELL_SECONDS):
                if job.latest != told:
                    told = job.latest
                    yield told
            if job.error is not None:
                raise job.error
            return job.results[0]
        finally:
            job.left.set()


class _Job(Generic[Result]):
    """What the thread does, and what it leaves behind."""

    def __init__(self, desk: JobQueue, work: Callable[[Report], Result]):
        self.latest = 0.0, "beginning"
        self.ended, self.left = threading.Event(), threading.Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None
        self._desk, self._work = desk, work

    def run(self) -> None:
        try:
            self.results.append(self._desk.do(self._work, self._report))
        except BaseException as error:
            self.error = error
        finally:
            self.ended.set()

    def _report(self, share: float, what: str) -> None:
        if self.left.is_set():
            raise _Left
        self.latest = share, what


class _Left(Exception):
    """Whoever asked is gone."""
