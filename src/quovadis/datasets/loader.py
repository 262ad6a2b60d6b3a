"""Load a dataset in worker processes that are never forked, and whose errors keep their type and message."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.context import BaseContext
from typing import Any

from torch.utils.data import DataLoader, Dataset, get_worker_info

from quovadis.errors import InvalidInputError, JobError, QuovadisError
from quovadis.runtime.interrupts import keyboard_signals_blocked
from quovadis.runtime.jobs import without_main_script

_PRELOADED = ["quovadis.datasets.clip_dataset", "quovadis.evaluation.evaluate"]
"""Imported once by the fork server, so that a worker does not spend seconds on importing PyTorch."""


class SafeDataLoader:
    """The batches of a dataset, in the order of its sampler; each iteration starts from the beginning.

    Workers are started by a fork server on Linux and spawned elsewhere. A fork of this process would copy the locks
    that the threads of FFmpeg and PyTorch hold at that moment, and could then wait for them forever. Workers stay
    alive between iterations, end with this process, however it ends, and do not import the main script.

    Args:
        dataset: its items and their batches must be picklable.
        num_workers: processes; 0 loads in this process.
        collate_fn: makes a batch of items; None where the sampler gives single items.
        options: further arguments of ``torch.utils.data.DataLoader``.

    Raises:
        InvalidInputError: ``num_workers`` is negative.

    While iterating, an error in a worker raises:
        QuovadisError: the error that the dataset raised, as in this process.
        JobError: any other error, or a worker that was killed.

    >>> list(SafeDataLoader([1, 2, 3], batch_size=None))
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
            raise InvalidInputError(f"the number of workers must be at least 0; got {num_workers}")
        if collate_fn is not None:
            options["collate_fn"] = _Collate(collate_fn)
        if num_workers:
            options |= {
                "multiprocessing_context": worker_context(),
                "persistent_workers": True,
                "worker_init_fn": _begin_worker,
            }
        self._num_workers = num_workers
        self._loader: DataLoader[Any] = DataLoader(_Items(dataset), num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Any]:
        guard = _as_job_error if self._num_workers else nullcontext
        with guard(), without_main_script():
            batches = iter(self._loader)  # here and not at the first item, because it draws from the random generator
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
    """How workers are started here: by a fork server that imports PyTorch once, or on other systems by spawning.

    Starts the fork server, which imports while this process does something else.
    """
    if not sys.platform.startswith("linux"):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    from multiprocessing import forkserver, resource_tracker  # Windows has neither

    with keyboard_signals_blocked():
        resource_tracker.ensure_running()  # started by the fork server it would unblock the signals
    with keyboard_signals_blocked():
        forkserver.ensure_running()
    return context


@dataclass(frozen=True)
class _Failure:
    """An error, sent in the place of an item or a batch."""

    error: QuovadisError


_END = object()


class _Items(Dataset[Any]):
    """The items of a dataset, with errors caught in a worker; here they are raised."""

    def __init__(self, dataset: Any):
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: Any) -> Any:
        return _caught(lambda: self._dataset[key])


class _Collate:
    """Make a batch of items, or pass on the first failure among them."""

    def __init__(self, collate: Callable[[Any], Any]):
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        failure = next((item for item in items if isinstance(item, _Failure)), None)
        return failure or _caught(lambda: self._collate(items))


def _caught(work: Callable[[], Any]) -> Any:
    """What ``work`` returns; in a worker also the error that it raises, as one that this process can read."""
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
    """Keep the traceback of the worker, which does not travel with an exception, as a note for ``--debug``."""
    error.add_note("".join(traceback.format_exception(cause)).rstrip())
    return error


@contextmanager
def _as_job_error() -> Iterator[None]:
    """Workers that cannot be started, were killed, or cannot send what they loaded."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, pickle.PicklingError) as error:
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise JobError(
            f"a data-loading worker was lost ({why[0]}), perhaps because memory ran out: use fewer workers or smaller "
            "batches"
        ) from error


def _begin_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are handled by the parent
    # A worker of a fork server is not a child of this process, so PyTorch's own check does not notice its end.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
