"""Communication between the processes of a run started by ``torchrun``, on one or several machines.

All processes call the same functions in the same order. With one process the functions do nothing. Python objects are
exchanged with gloo, gradients and batch statistics between GPUs with NCCL.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from quovadis.errors import InvalidInputError, JobError, OtherProcessError

T = TypeVar("T")

TIMEOUT_MINUTES = 30.0
"""How long a process waits for the others. Must exceed the time to read a dataset or download weights."""
_SECONDS_TO_REPORT = 2.0
_FAILURES = "quovadis/failures"
_JOINED = "quovadis/joined"

_store: dist.Store | None = None
_was_first: bool | None = None


def initialize(timeout_minutes: float = TIMEOUT_MINUTES) -> None:
    """Join the process group if the run has several processes, and select the GPU with the local rank.

    Args:
        timeout_minutes: How long to wait for other processes, here and in later calls.

    Raises:
        InvalidInputError: If there are more processes than GPUs, or the environment variables of the launcher are
            missing.
    """
    global _store
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    local_rank, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if num_gpus:
        if local_rank >= num_gpus:
            raise InvalidInputError(
                f"process {local_rank} has no GPU: this machine has {num_gpus}; start {num_gpus} processes"
            )
        torch.cuda.set_device(local_rank)
    limit = timedelta(minutes=timeout_minutes)
    try:
        _store, rank, count = next(dist.rendezvous("env://", timeout=limit))
    except ValueError as error:
        raise InvalidInputError(f"WORLD_SIZE is greater than 1, but {error}: start with torchrun") from error
    dist.init_process_group(
        backend="cpu:gloo,cuda:nccl" if num_gpus else "gloo",
        store=dist.PrefixStore("quovadis", _store),
        rank=rank,
        world_size=count,
        timeout=limit,
    )
    _wait_for_all_to_join(limit)


def _wait_for_all_to_join(limit: timedelta) -> None:
    """Wait until every process has all its connections.

    Gloo returns in one process while others still connect; if that one then failed, the others would wait for each
    other until the timeout.
    """
    assert _store is not None
    _store.set(f"{_JOINED}/{rank()}", "")
    _store.wait([f"{_JOINED}/{other}" for other in range(world_size())], limit)


def shutdown() -> None:
    """Leave the process group at the end of a successful command."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Return the number of processes.

    >>> world_size()
    1
    """
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process has rank 0, which writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait for all processes."""
    gather(None)


def gather(value: T) -> list[T]:
    """Collect a value from every process, in rank order.

    >>> gather("alone")
    ['alone']
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def run_on_main(work: Callable[[], T]) -> T:
    """Call ``work`` on rank 0 and return its result on all ranks.

    >>> run_on_main(lambda: 7)
    7
    """
    box = [work() if is_main() else None]
    if world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


@contextmanager
def main_first() -> Iterator[None]:
    """Run the block on rank 0 first, then on the other ranks.

    >>> with main_first():
    ...     pass
    """
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def sum_values(values: Sequence[float]) -> list[float]:
    """Sum values over all processes in float64 and rank order, so that all ranks get identical results.

    >>> sum_values([1.5, 2])
    [1.5, 2.0]
    """
    return torch.tensor(gather([float(v) for v in values]), dtype=torch.float64).sum(0).tolist()


def average_tensors(tensors: Sequence[torch.Tensor]) -> None:
    """Average tensors over all processes, in place and with identical results on all ranks."""
    if world_size() == 1 or not tensors:
        return
    own = torch.cat([t.detach().flatten().cpu().double() for t in tensors])
    rows = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(rows, own)
    mean = torch.stack(rows).mean(0)
    for tensor, part in zip(tensors, mean.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def process_group() -> Iterator[None]:
    """Run the block in the process group; when one process fails, all stop and one reports the error.

    The first process that fails raises its exception. The others lose the connection and raise
    :class:`~quovadis.errors.OtherProcessError`, which the command line does not print.

    Raises:
        JobError: If a process was killed, or did not respond for :data:`TIMEOUT_MINUTES`.
    """
    initialize()
    try:
        yield
    except OtherProcessError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not _first_to_fail():
            # The launcher kills all processes when one exits; give the first one time to report.
            time.sleep(_SECONDS_TO_REPORT)
            raise OtherProcessError("another process of this run failed first and reports the reason") from error
        _wait_for_other_failures()
        if _is_lost_connection(error):
            # The first sentence, without the source location.
            why = re.sub(r"^\[[^]]*\] *", "", str(error).strip().partition("\n")[0]).partition(". ")[0]
            raise JobError(
                f"process {rank()} of {world_size()} lost another process, which was killed or did not respond "
                f"({why}); saved results are kept: run the same command again"
            ) from error
        raise


def _first_to_fail() -> bool:
    """Return whether this process failed before all others, by a counter in the shared store."""
    global _was_first
    if _was_first is None:
        try:
            _was_first = _store is None or _store.add(_FAILURES, 1) == 1
        except RuntimeError:  # the process that hosts the store has exited
            _was_first = True
    return _was_first


def _wait_for_other_failures() -> None:
    """Keep the store of rank 0 alive until the other processes have read the counter."""
    deadline = time.monotonic() + _SECONDS_TO_REPORT
    while (
        _store is not None and rank() == 0 and time.monotonic() < deadline and _store.add(_FAILURES, 0) < world_size()
    ):
        time.sleep(0.05)


def _is_lost_connection(error: BaseException) -> bool:
    """Return whether communication with another process failed. Gloo raises plain RuntimeErrors."""
    if world_size() == 1:
        return False
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
