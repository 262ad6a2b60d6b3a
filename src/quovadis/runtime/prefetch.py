"""Prefetch items in a background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterable[Item], depth: int = 2) -> Generator[Item, None, None]:
    """Iterate over items that a background thread computes in advance.

    Decoding, optical flow and networks release the GIL, so a chain of these runs at the speed of its slowest part. An
    exception of the iterable is raised where its item is requested. Closing this generator waits for the current item
    and closes the iterable.

    Args:
        items: An iterable. A generator is closed in the background thread.
        depth: Maximum number of finished items that wait; limits memory use.

    >>> list(prefetch(range(3)))
    [0, 1, 2]
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        # One more than depth: while that many finished items wait, the thread computes the next one.
        pending: deque[Any] = deque(thread.submit(next, iterator, end) for _ in range(depth + 1))
        try:
            while (item := pending.popleft().result()) is not end:
                pending.append(thread.submit(next, iterator, end))
                yield item
        finally:
            for future in pending:
                future.cancel()
            if isinstance(items, Generator):
                with suppress(RuntimeError):  # the interpreter is shutting down
                    thread.submit(items.close)
