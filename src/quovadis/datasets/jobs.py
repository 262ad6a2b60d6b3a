"""The same function on many items: here, or in processes of this machine; results come as they are done."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from quovadis.errors import JobError

Item = TypeVar("Item")
Result = TypeVar("Result")

_POLL_SECONDS = 0.5


def run_jobs(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    num_workers: int = 0,
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Apply a function to every item.

    Args:
        function: a function at the top of a module. It writes what it makes to files that appear whole, and returns
            what went wrong with an item as a value: an exception ends the whole job.
        items: what it is called with.
        num_workers: processes, each with one thread for arithmetic; 0 works here, with all threads.
        while_waiting: called about twice a second while processes work.

    Yields:
        ``(index of the item, result)``, in the order in which they are done.

    Raises:
        JobError: a process was killed, for example because memory ran out.

    >>> sorted(run_jobs(len, ["a", "bcd"]))
    [(0, 1), (1, 3)]
    """
    if num_workers < 1:
        for index, item in enumerate(items):
            yield index, function(item)
        return
    # spawn: a forked copy of a process that has used torch's threads can wait for them forever.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_workers, max(len(items), 1)), mp_context=context, initializer=_one_thread)
    try:
        index_of = {pool.submit(function, item): index for index, item in enumerate(items)}
        pending = set(index_of)
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                yield index_of[future], future.result()
            if while_waiting is not None:
                while_waiting()
    except BrokenProcessPool as error:
        raise JobError(
            "a worker process was killed, perhaps because memory ran out: start again with fewer workers; what is "
            "done is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
