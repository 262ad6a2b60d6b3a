"""Run a function on many items in threads; the first error stops all of them."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the number of finished items and the total."""


class WorkStopped(Exception):
    """Raised in a worker that leaves its item unfinished because all work is stopping."""


class ProgressCounter:
    """Thread-safe progress counter.

    Args:
        total: Number of items.
        progress: Called after each item, by one thread at a time.
    """

    def __init__(self, total: int, progress: Progress | None):
        self._total, self._progress = total, progress
        self._done = 0
        self._lock = threading.Lock()

    def step(self) -> None:
        """Count one more finished item."""
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)


def in_parallel(work: Callable[[T], None], items: Iterable[T], num_workers: int, stop: threading.Event) -> None:
    """Call ``work`` with every item in threads. After an exception no further item is started, and it is raised here.

    Args:
        work: Called with one item, from several threads. A long call may check ``stop`` and raise
            :class:`WorkStopped`.
        items: Consumed one by one, as workers become free.
        num_workers: Number of threads.
        stop: Set when no further item may start: after an exception or an interrupt, or by the caller.

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
