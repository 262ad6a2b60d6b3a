"""The same work on many things at a time, where the first serious error ends it all."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with what is done and with all there is to do."""


class WorkStopped(Exception):
    """Work that was left because all work ends."""


class ProgressCounter:
    """Counts what several threads do, and tells one call at a time.

    Args:
        total: all there is to do.
        progress: who is told.
    """

    def __init__(self, total: int, progress: Progress | None):
        self._total, self._progress = total, progress
        self._done = 0
        self._lock = threading.Lock()

    def step(self) -> None:
        """One more is done."""
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)


def in_parallel(work: Callable[[T], None], items: Iterable[T], num_workers: int, stop: threading.Event) -> None:
    """Do ``work`` on every item in threads; when one raises, no further item is begun and the first error comes out.

    Args:
        work: called with one item, from several threads. What takes long may look at ``stop`` and raise
            :class:`WorkStopped`.
        items: taken one by one, as workers become free.
        num_workers: threads.
        stop: set when no further item shall begin: after an error, when the user interrupts, or from outside.

    >>> done = []
    >>> in_parallel(done.append, range(4), 2, threading.Event())
    >>> sorted(done)
    [0, 1, 2, 3]
    """
    todo = iter(items)
    taking = threading.Lock()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                with taking:
                    item = next(todo, todo)
                if item is todo:
                    return
                work(item)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)
            stop.set()

    with ThreadPoolExecutor(num_workers) as pool:
        try:
            wait([pool.submit(run) for _ in range(num_workers)])
        finally:
            stop.set()
    if errors:
        raise errors[0]
