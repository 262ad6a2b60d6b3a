"""Work that tells how far it is, as a generator: so that whoever asked can be told, and can leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Generic, TypeVar

from quovadis.web.analysis import Report

Result = TypeVar("Result")

_TELL_SECONDS = 0.25


class Desk:
    """One piece of work at a time; the others wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def do(self, work: Callable[[Report], Result]) -> Result:
        """Do it here and now, once nobody else is at work."""
        with self._lock:
            return work(lambda share, what: None)

    def in_steps(self, work: Callable[[Report], Result]) -> Generator[tuple[float, str], None, Result]:
        """Do it in a thread, and yield how far it is, a few times a second; the result is the generator's value.

        When the generator is closed, the work ends the next time that it tells how far it is.

        >>> steps = Desk().in_steps(lambda report: report(0.5, "half") or 42)
        >>> try:
        ...     while True:
        ...         told = next(steps)
        ... except StopIteration as stop:
        ...     print(stop.value)
        42
        """
        job = _Job(work, self._lock)
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

    def __init__(self, work: Callable[[Report], Result], lock: threading.Lock):
        self.latest = 0.0, "waiting for its turn"
        self.ended, self.left = threading.Event(), threading.Event()
        self.results: list[Result] = []
        self.error: BaseException | None = None
        self._work, self._lock = work, lock

    def run(self) -> None:
        try:
            with self._lock:
                self._report(0.0, "beginning")
                self.results.append(self._work(self._report))
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
