"""Computations split between two threads that run operations of PyTorch of their own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class _Workers:
    """Two threads, and the cores that each of them uses."""

    threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor]
    num_cores: tuple[int, int]
    process: int


_workers: _Workers | None = None
_lock = threading.Lock()
_in_worker = threading.local()


def run_in_halves(work: Callable[[int, int], None], size: int) -> None:
    """Call ``work(start, stop)`` for two ranges that make up ``range(size)``, at the same time in two threads.

    PyTorch splits every operation between the cores, so each core reads what others have written, and waits for them
    after each operation. Two threads that each work on one half of the frames keep their halves in their own caches.
    With one core, or if it is called inside of ``work``, this function calls ``work(0, size)``. Otherwise no part runs
    in the calling thread, whose operations use all cores and would round differently.

    Args:
        work: Computes one part of the result, without gradients. It is called in another thread.
        size: Number of parts, for example frames.
    """
    num_cores = torch.get_num_threads()
    if size < 2 or not _is_splitting():
        run_in_one_thread(lambda: work(0, size))
        return
    middle = min(max(round(size * _get_workers(num_cores).num_cores[0] / num_cores), 1), size - 1)
    _run(lambda: work(0, middle), lambda: work(middle, size))


def run_in_one_thread(work: Callable[[], None]) -> None:
    """Call ``work()`` where :func:`run_in_halves` does not split it: in one of its threads, with the same results.

    For small inputs, whose parts take less time than to give them to two threads.

    Args:
        work: Computes something without gradients. It is called in another thread, unless there is only one core.
    """
    if _is_splitting():
        _run(work)
    else:
        work()


def _is_splitting() -> bool:
    """Whether work is given to other threads: not with one core, and not in these threads themselves."""
    return torch.get_num_threads() > 1 and not getattr(_in_worker, "value", False)


def _run(*parts: Callable[[], None]) -> None:
    """Call each part in a thread of its own."""
    inference = torch.is_inference_mode_enabled()

    def run(part: Callable[[], None]) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # both are settings of a thread
            part()

    workers = _get_workers(torch.get_num_threads())
    futures = [thread.submit(run, part) for thread, part in zip(workers.threads, parts, strict=False)]
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise errors[0]


def _get_workers(num_cores: int) -> _Workers:
    """Return the threads of this process that together use ``num_cores``."""
    global _workers
    with _lock:
        if _workers is None or sum(_workers.num_cores) != num_cores or _workers.process != os.getpid():
            halves = (num_cores + 1) // 2, num_cores // 2
            threads = tuple(ThreadPoolExecutor(1, f"quovadis-half-{i}") for i in range(2))
            for thread, count in zip(threads, halves, strict=True):
                thread.submit(_begin, count).result()
            torch.set_num_threads(num_cores)  # for threads that start later
            _workers = _Workers((threads[0], threads[1]), halves, os.getpid())
        return _workers


def _begin(num_cores: int) -> None:
    _in_worker.value = True
    torch.get_num_threads()  # the first call in a thread sets the default, which would replace the setting below
    torch.set_num_threads(num_cores)
