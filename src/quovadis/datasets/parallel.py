"""One function over many files in several processes, where a file that kills its process costs only itself."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 4


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_unordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    num_workers: int,
    on_crash: Callable[[Item], Result],
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, as they come; the order is not that of the items.

    A decoder that meets a broken file, or the system when memory runs out, can kill a process. Then every item that
    was under way is done again in a process of its own, so that the guilty one is known, and the rest goes on.

    Args:
        function: a function of a module, so that another process finds it; an exception in it ends everything.
        items: what it is called with.
        num_workers: processes; 0 calls it here, where nothing protects from a crash.
        on_crash: gives the result of an item that killed its process.
    """
    if num_workers == 0:
        for item in items:
            yield item, function(item)
        return
    todo = deque(items)
    while todo:
        suspects = yield from _until_crash(function, todo, min(num_workers, len(todo)))
        for item in suspects:
            yield item, _alone(function, item, on_crash)


def _until_crash(
    function: Callable[[Item], Result], todo: deque[Item], num_workers: int
) -> Generator[tuple[Item, Result], None, list[Item]]:
    """Work through ``todo`` until it is empty or a process dies; returns what was under way then."""
    pending: dict[Future[Result], Item] = {}
    pool = _pool(num_workers)
    try:
        while todo or pending:
            while todo and len(pending) < _IN_FLIGHT_PER_WORKER * num_workers:
                pending[pool.submit(function, todo[0])] = todo[0]
                todo.popleft()
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield pending.pop(future), result
    except BrokenProcessPool:
        return list(pending.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _alone(function: Callable[[Item], Result], item: Item, on_crash: Callable[[Item], Result]) -> Result:
    with _pool(1) as pool:
        try:
            return pool.submit(function, item).result()
        except BrokenProcessPool:
            return on_crash(item)


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # Not forked: a fork of a process that has threads (torch, FFmpeg) may wait for ever.
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_prepare_worker)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, and says what happens
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent ends nobody: without this, workers would wait for its next item for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
