"""Data loader with worker processes that are never forked and whose errors keep their type and message."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import BaseContext
from typing import Any

from torch.utils.data import DataLoader, Dataset, get_worker_info

from quovadis.errors import InvalidInputError, JobError, QuovadisError
from quovadis.runtime.interrupts import keyboard_signals_blocked
from quovadis.runtime.jobs import without_main_script

_PRELOADED = ["quovadis.datasets.clip_dataset", "quovadis.evaluation.evaluator"]
"""Modules that the fork server imports once, so that workers start without importing PyTorch again."""
_SECONDS_TO_END = 1.0
"""How long a worker may finish its item, and send it, after the loader was closed."""


class VideoDataLoader:
    """Data loader for video, a wrapper of ``torch.utils.data.DataLoader``.

    Workers come from a fork server on Linux and are spawned elsewhere. Forking the main process could deadlock, because
    it copies locks that threads of FFmpeg and PyTorch hold. Workers stay alive between iterations, exit with the main
    process even if it is killed, and do not import the main script. As a context manager, the loader stops them at the
    end of the block, also if it raises; without, they run as long as a traceback refers to the loader.

    Iterating raises the :class:`QuovadisError` that the dataset raised in a worker, and :class:`JobError` for any other
    error or a killed worker.

    Args:
        dataset: A dataset with picklable items.
        num_workers: Number of worker processes; 0 loads in the main process.
        collate_fn: Function that converts a list of items to a batch; None if the sampler yields single items.
        options: Further arguments of ``torch.utils.data.DataLoader``.

    Raises:
        InvalidInputError: If ``num_workers`` is negative.

    Example:
        >>> list(VideoDataLoader([1, 2, 3], batch_size=None))
        [1, 2, 3]
    """

    def __init__(
        self,
        dataset: Any,
        *,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        **options: Any,
    ):
        if num_workers < 0:
            raise InvalidInputError(f"num_workers must be at least 0; got {num_workers}")
        if collate_fn is not None:
            options["collate_fn"] = _Collate(collate_fn)
        if num_workers:
            others, own = Pipe(duplex=False)
            options |= {
                "multiprocessing_context": worker_context(),
                "persistent_workers": True,
                "worker_init_fn": partial(_initialize_worker, others),
            }
            self._close = weakref.finalize(self, own.close)
        self._num_workers = num_workers
        self._loader: DataLoader[Any] = DataLoader(_Items(dataset), num_workers=num_workers, **options)

    def __enter__(self) -> VideoDataLoader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell the workers to end within a second, and do not wait for them. The loader cannot be iterated again."""
        if self._num_workers:
            self._close()

    def __iter__(self) -> Iterator[Any]:
        guard = _as_job_error if self._num_workers else nullcontext
        with guard(), without_main_script():
            batches = iter(self._loader)  # not lazily, because it draws from the random generator
        return self._batches(batches, guard)

    def _batches(self, batches: Iterator[Any], guard: Callable[[], AbstractContextManager[None]]) -> Iterator[Any]:
        while True:
            with guard():
                batch = next(batches, _END)
            if batch is _END:
                return
            if isinstance(batch, _Failure):
                raise batch.error
            yield batch


def worker_context() -> BaseContext:
    """Return the multiprocessing context of the workers: a fork server on Linux, else spawn.

    Starts the fork server, which then imports PyTorch in the background.
    """
    if not sys.platform.startswith("linux"):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    from multiprocessing import forkserver, resource_tracker  # not available on Windows

    with keyboard_signals_blocked():
        resource_tracker.ensure_running()  # if the fork server started it, it would unblock the signals
    with keyboard_signals_blocked():
        forkserver.ensure_running()
    return context


@dataclass(frozen=True)
class _Failure:
    """An error that a worker sends instead of an item or batch."""

    error: QuovadisError


_END = object()


class _Items(Dataset[Any]):
    """Wrapper of a dataset that returns errors as items in a worker."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        return _caught(lambda: self._dataset[key])


class _Collate:
    """Wrapper of a collate function that returns the first failure among the items."""

    def __init__(self, collate: Callable[[Any], Any]):
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        failure = next((item for item in items if isinstance(item, _Failure)), None)
        return failure or _caught(lambda: self._collate(items))


def _caught(work: Callable[[], Any]) -> Any:
    """Call a function; in a worker, return errors as :class:`_Failure`."""
    if get_worker_info() is None:
        return work()
    try:
        return work()
    except QuovadisError as error:
        return _Failure(_with_traceback(error, error))
    except Exception as error:
        failed = JobError(f"a data-loading worker failed: {type(error).__name__}: {error}")
        return _Failure(_with_traceback(failed, error))


def _with_traceback(error: QuovadisError, cause: Exception) -> QuovadisError:
    """Attach the worker's traceback, which pickling drops, as a note for ``--debug``."""
    error.add_note("".join(traceback.format_exception(cause)).rstrip())
    return error


@contextmanager
def _as_job_error() -> Iterator[None]:
    """Convert errors of workers that cannot start, were killed, or cannot send their result."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, pickle.PicklingError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise JobError(
            f"a data-loading worker was lost ({why[0]}), possibly because memory ran out: use fewer workers or smaller "
            "batches"
        ) from error


def _initialize_worker(loader: Connection, _: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process handles interrupts
    threading.Thread(target=_exit_with, args=(loader,), daemon=True).start()


def _exit_with(loader: Connection) -> None:
    """Exit when the loader is closed or its process is gone.

    PyTorch would not notice that the main process is gone, as the parent of a worker is the fork server. It tells
    workers to end when the iterator is deleted, in vain if that is done by the garbage collector.
    """
    wait([loader])
    time.sleep(_SECONDS_TO_END)
    os._exit(0)
