import threading
from collections.abc import Iterator

import pytest

from quovadis.runtime.prefetch import prefetch


def test_items_are_in_order_and_computed_in_another_thread() -> None:
    threads = set()

    def items() -> Iterator[int | None]:
        for i in (1, None, 3):
            threads.add(threading.get_ident())
            yield i

    assert list(prefetch(items())) == [1, None, 3]
    assert threads.isdisjoint({threading.get_ident()})


def test_prefetching_is_limited_by_depth() -> None:
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for i in range(20):
            made += 1
            yield i

    most = 0
    for taken, _ in enumerate(prefetch(items(), depth=3), start=1):
        most = max(most, made - taken)
    assert made == 20
    assert most <= 4  # three are finished, one is being computed


def test_exception_is_raised_where_its_item_is_requested() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("in the thread")

    fetched = prefetch(items())
    assert next(fetched) == 1
    with pytest.raises(ValueError, match="in the thread"):
        next(fetched)


def test_closing_stops_the_thread_and_closes_the_iterable() -> None:
    ended = []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.append(True)

    before = threading.active_count()
    chain = prefetch(prefetch(items(), 1), 1)
    assert next(chain) == 0
    chain.close()
    assert ended == [True]
    assert threading.active_count() == before
