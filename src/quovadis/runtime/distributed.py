"""The processes of one run: what ``torchrun`` or ``accelerate launch`` started together, on one machine or several.

Alone, every function here is free and does nothing. Together, all processes call the same functions in the same order.
Small things travel between the hosts (gloo); gradients and batch statistics travel between the devices (NCCL on GPUs).
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
"""How long a process waits for the others: longer than reading a dataset or fetching weights takes."""
_SECONDS_TO_SPEAK = 2.0
_FAILURES = "quovadis/failures"

_store: dist.Store | None = None
_was_first: bool | None = None


def initialize(timeout_minutes: float = TIMEOUT_MINUTES) -> None:
    """Find the other processes of this run, if it was started with several; each takes the GPU of its own number.

    Args:
        timeout_minutes: how long to wait for the others, here and in every later exchange.

    Raises:
        InvalidInputError: more processes than GPUs on this machine, or the launcher did not say where the others are.
    """
    global _store
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    local_rank, num_gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if num_gpus:
        if local_rank >= num_gpus:
            raise InvalidInputError(
                f"process {local_rank} of this machine has no GPU: there are {num_gpus}; start {num_gpus} processes"
            )
        torch.cuda.set_device(local_rank)
    limit = timedelta(minutes=timeout_minutes)
    try:
        _store, rank, count = next(dist.rendezvous("env://", timeout=limit))
    except ValueError as error:
        raise InvalidInputError(f"WORLD_SIZE asks for several processes, but {error}: start with torchrun") from error
    dist.init_process_group(
        backend="cpu:gloo,cuda:nccl" if num_gpus else "gloo",
        store=dist.PrefixStore("quovadis", _store),
        rank=rank,
        world_size=count,
        timeout=limit,
    )


def shutdown() -> None:
    """End the exchange, at the end of a command that went well."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """How many processes work on this.

    >>> world_size()
    1
    """
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def barrier() -> None:
    """Wait until all processes are here."""
    gather(None)


def gather(value: T) -> list[T]:
    """What every process gives, in the order of their numbers, to all of them.

    >>> gather("alone")
    ['alone']
    """
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def run_on_main(work: Callable[[], T]) -> T:
    """What ``work`` gives in the main process, to all; the others wait for it and do no work.

    >>> run_on_main(lambda: 7)
    7
    """
    box = [work() if is_main() else None]
    if world_size() > 1:
        dist.broadcast_object_list(box, src=0)
    return box[0]  # type: ignore[return-value]


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process do something before the others do, which then find it done.

    >>> with main_first():
    ...     pass
    """
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def sum_values(values: Sequence[float]) -> list[float]:
    """Sums over all processes, in float64 and in the order of their numbers: every process has the same bits.

    >>> sum_values([1.5, 2])
    [1.5, 2.0]
    """
    return torch.tensor(gather([float(v) for v in values]), dtype=torch.float64).sum(0).tolist()


def average_tensors(tensors: Sequence[torch.Tensor]) -> None:
    """Replace tensors by their means over all processes, in place; every process has the same bits after it."""
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
    """Work that ends everywhere when it fails anywhere, and of which one process says why.

    The first process that fails lets its error out. The others notice that the connection is gone, and raise
    :class:`~quovadis.errors.OtherProcessError`, which the command line keeps to itself.

    Raises:
        JobError: a process was lost that said nothing, because it was killed or its machine went down; or it did not
            answer for :data:`TIMEOUT_MINUTES`.
    """
    initialize()
    try:
        yield
    except OtherProcessError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        if not _first_to_fail():
            # A launcher ends all processes when one has ended, the one too that is about to speak.
            time.sleep(_SECONDS_TO_SPEAK)
            raise OtherProcessError("another process of this run failed first, and says why") from error
        _let_others_count()
        if _is_lost_connection(error):
            why = re.sub(r"^\[[^]]*\] *", "", str(error).strip().partition("\n")[0])  # without the line of the source
            raise JobError(
                f"process {rank()} of {world_size()} lost another process, which was killed or did not answer ({why}); "
                "saved results are kept: run the same command again"
            ) from error
        raise


def _first_to_fail() -> bool:
    """Whether this process failed before all others, as the store that they share counts; alone, it did."""
    global _was_first
    if _was_first is None:
        try:
            _was_first = _store is None or _store.add(_FAILURES, 1) == 1
        except RuntimeError:  # the store went down with its process
            _was_first = True
    return _was_first


def _let_others_count() -> None:
    """The count goes down with process 0, so it stays a moment: others that fail must see that they were not first."""
    deadline = time.monotonic() + _SECONDS_TO_SPEAK
    while (
        _store is not None and rank() == 0 and time.monotonic() < deadline and _store.add(_FAILURES, 0) < world_size()
    ):
        time.sleep(0.05)


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an exchange failed because of another process. Gloo raises plain RuntimeErrors that name its files."""
    if world_size() == 1:
        return False
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
