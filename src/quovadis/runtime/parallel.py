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
    With one core, or if it is called inside of ``work``, this function calls ``work(0, size)``.

    Args:
        work: Computes one part of the result, without gradients. It is called in another thread.
        size: Number of parts, for example frames.
    """
    num_cores = torch.get_num_threads()
    if size < 2 or num_cores < 2 or getattr(_in_worker, "value", False):
        work(0, size)
        return
    workers = _get_workers(num_cores)
    middle = min(max(round(size * workers.num_cores[0] / num_cores), 1), size - 1)
    inference = torch.is_inference_mode_enabled()

    def run(start: int, stop: int) -> None:
        with torch.inference_mode(inference), torch.no_grad():  # both are settings of a thread
            work(start, stop)

    futures = [
        thread.submit(run, *part) for thread, part in zip(workers.threads, ((0, middle), (middle, size)), strict=True)
    ]
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
