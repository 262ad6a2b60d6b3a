"""Apply a function to many items: in this process, in worker processes, or on a Ray cluster.

The function must be defined at the top level of a module. It writes its output atomically and returns problems with an
item as values; an exception stops the whole job. It skips finished items itself, so that a job can be restarted and a
cluster can repeat items.
"""

from __future__ import annotations

import multiprocessing.connection
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from types import FrameType, ModuleType
from typing import TypeVar

from quovadis.errors import InvalidInputError, JobError
from quovadis.runtime.extras import missing_extra
from quovadis.runtime.interrupts import interrupt, keyboard_signals_blocked

Item = TypeVar("Item")
Result = TypeVar("Result")

_IN_FLIGHT_PER_WORKER = 4
_POLL_SECONDS = 0.5
_SECONDS_TO_STOP = 1.0

_busy = False  # in a worker: whether it processes an item


def run_jobs(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_workers: int = 0,
    ray_address: str | None = None,
    on_crash: Callable[[Item], Result] | None = None,
    while_waiting: Callable[[], None] | None = None,
) -> Generator[tuple[int, Result], None, None]:
    """Apply a function to every item.

    A broken file can crash the decoder, and the system kills processes when memory runs out. All items in progress are
    then repeated one by one in another process to find the one that caused the crash, and the job continues.

    Args:
        function: The function, see the module docstring.
        items: The items.
        num_workers: Number of worker processes with one arithmetic thread each. 0 runs in this process with all
            threads and no protection from crashes.
        ray_address: Address of a Ray cluster with a shared file system, or ``"local"`` for one on this machine (extra
            ``cluster``).
        on_crash: Returns the result of an item that crashed its process. Without it the job stops with a JobError.
        while_waiting: Called about twice a second while worker processes run.

    Yields:
        Pairs of the index of an item and its result, in order of completion. Closing the generator stops the workers.

    Raises:
        InvalidInputError: If ``num_workers`` is negative.
        JobError: If an item crashed its process and ``on_crash`` is not given, or the cluster failed.
        MissingExtraError: If Ray is not installed.

    >>> sorted(run_jobs(len, ["a", "bcd"]))
    [(0, 1), (1, 3)]
    """
    if num_workers < 0:
        raise InvalidInputError(f"num_workers must be at least 0; got {num_workers}")
    if ray_address is not None:
        yield from _on_ray(function, items, ray_address)
        return
    if num_workers == 0:
        for index, item in enumerate(items):
            yield index, function(item)
        return
    todo = deque(range(len(items)))
    while todo:
        workers = min(num_workers, len(todo))
        suspects = yield from _until_crash(function, items, todo, workers, while_waiting or _nothing)
        yield from _one_by_one(function, items, deque(suspects), on_crash)


def _until_crash(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    todo: deque[int],
    num_workers: int,
    while_waiting: Callable[[], None],
) -> Generator[tuple[int, Result], None, list[int]]:
    """Process ``todo`` until it is empty or a process dies. Returns the indices of unfinished items."""
    pending: dict[Future[Result], int] = {}
    try:
        with _pool(num_workers) as pool:
            while todo or pending:
                while todo and len(pending) < _IN_FLIGHT_PER_WORKER * num_workers:
                    pending[_submit(pool, function, items[todo[0]])] = todo[0]
                    todo.popleft()
                for future in wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield pending.pop(future), result
                while_waiting()
    except BrokenProcessPool:
        return list(pending.values())
    return []


def _one_by_one(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    todo: deque[int],
    on_crash: Callable[[Item], Result] | None,
) -> Generator[tuple[int, Result], None, None]:
    """Process ``todo`` in one process at a time. An item caused a crash if it was the first one of its process."""
    while todo:
        num_done = 0
        try:
            with _pool(1) as pool:
                while todo:
                    yield todo[0], _submit(pool, function, items[todo[0]]).result()
                    todo.popleft()
                    num_done += 1
        except BrokenProcessPool as error:
            if num_done > 0:
                continue
            item = items[todo[0]]
            if on_crash is None:
                raise JobError(
                    f"the process that worked on {item} was killed, possibly because it ran out of memory: run the "
                    "command again with fewer workers; finished items are kept"
                ) from error
            yield todo.popleft(), on_crash(item)


@contextmanager
def without_main_script() -> Iterator[None]:
    """Start processes that do not import the main script.

    Scripts then do not need ``if __name__ == "__main__":``, and workers start faster. Objects sent to the processes
    must not be defined in the script.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Create worker processes. They are stopped if the block raises, otherwise they finish."""
    with keyboard_signals_blocked():
        resource_tracker.ensure_running()  # started now: otherwise the pool would start it and unblock the signals
    # Not forked: a fork of a process with threads (torch, FFmpeg) may deadlock.
    pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        yield pool
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _submit(pool: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item) -> Future[Result]:
    with keyboard_signals_blocked(), without_main_script():  # submitting starts a process
        return pool.submit(_work, function, item)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Interrupt the workers, so that they remove their partial files. Kill those that do not react."""
    running = {process.sentinel: process for process in list((pool._processes or {}).values())}
    for process in running.values():
        process.terminate()
    deadline = time.monotonic() + _SECONDS_TO_STOP
    while running and (left := deadline - time.monotonic()) > 0:
        for sentinel in multiprocessing.connection.wait(list(running), left):
            del running[sentinel]  # type: ignore[arg-type]
    for process in running.values():
        process.kill()
    pool.shutdown(cancel_futures=True)


def _work(function: Callable[[Item], Result], item: Item) -> Result:
    """Call the function in a worker. Exit on an interrupt, as the pool would submit the next item."""
    global _busy
    _busy = True
    try:
        return function(item)
    except KeyboardInterrupt:
        os._exit(1)
    finally:
        _busy = False


def _begin_worker() -> None:
    import torch

    signal.signal(signal.SIGTERM, _interrupt_worker)
    torch.set_num_threads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _interrupt_worker(number: int, frame: FrameType | None) -> None:
    if not _busy:
        os._exit(1)
    interrupt(number, frame)


def _exit_with_parent() -> None:
    """Exit when the parent process dies. Otherwise workers would wait for items forever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_STOP)
        os._exit(1)


def _nothing() -> None:
    pass


def _on_ray(function: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[tuple[int, Result]]:
    """Run a Ray Data job with one task per item. Ray repeats the items of lost machines on other ones."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise missing_extra("jobs on a cluster", "cluster") from error
    if not items:
        return
    started = not ray.is_initialized()
    if started:
        ray.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def one(row: dict[str, object]) -> dict[str, object]:
        _begin_cluster_worker()
        index, item = pickle.loads(row["job"])  # type: ignore[arg-type]
        return {"result": pickle.dumps((index, function(item)))}

    try:
        jobs = [{"job": pickle.dumps(pair)} for pair in enumerate(items)]
        done = ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(one, num_cpus=1, max_retries=-1)
        for row in done.iter_rows():
            yield pickle.loads(row["result"])
    except ray.exceptions.RayError as error:
        raise JobError(f"the Ray cluster failed: {error}. Finished items are kept") from error
    finally:
        if started:
            ray.shutdown()


def _begin_cluster_worker() -> None:
    import torch

    torch.set_num_threads(1)
