"""Backoff shared by workers, with a fake sleep."""

import os
import signal
import threading

import pytest

from quovadis.errors import DownloadError
from quovadis.runtime.backoff import Backoff
from quovadis.runtime.thread_jobs import ProgressCounter, in_parallel


def test_waits_double_up_to_a_limit_before_giving_up() -> None:
    waits: list[float] = []
    backoff = Backoff(first_wait_seconds=10, longest_wait_seconds=60, max_waits=5, sleep=waits.append)
    for _ in range(5):
        backoff.refused(backoff.wait(), "429")
    with pytest.raises(DownloadError, match=r"given up after 5 waits in a row: 429.*Finished files are kept"):
        backoff.refused(backoff.wait(), "429")
    assert [round(w) for w in waits] == [10, 20, 40, 60, 60]


def test_default_waits_add_up_to_an_hour() -> None:
    waits: list[float] = []
    backoff = Backoff(sleep=waits.append)
    for _ in range(11):
        backoff.refused(backoff.wait(), "429")
    with pytest.raises(DownloadError):
        backoff.refused(backoff.wait(), "429")
    assert 45 * 60 < sum(waits) < 75 * 60


def test_response_resets_the_wait() -> None:
    waits: list[float] = []
    backoff = Backoff(first_wait_seconds=10, sleep=waits.append)
    for _ in range(3):
        backoff.refused(backoff.wait(), "429")
    backoff.answered(backoff.wait())
    backoff.refused(backoff.wait(), "429")
    backoff.wait()
    assert [round(w) for w in waits] == [10, 20, 40, 10]


def test_response_to_an_earlier_turn_does_not_reset_the_wait() -> None:
    waits: list[float] = []
    backoff = Backoff(first_wait_seconds=10, sleep=waits.append)
    early = backoff.wait()
    backoff.refused(backoff.wait(), "429")
    backoff.answered(early)
    backoff.refused(backoff.wait(), "429")
    backoff.wait()
    assert [round(w) for w in waits] == [10, 20]


def test_refusals_of_the_same_turn_count_once() -> None:
    waits: list[float] = []
    backoff = Backoff(first_wait_seconds=10, sleep=waits.append)
    turns = [backoff.wait() for _ in range(4)]
    for turn in turns:
        backoff.refused(turn, "429")
    for _ in range(4):
        backoff.wait()
    assert [round(w) for w in waits] == [10] * 4


def test_connection_failures_count_only_in_a_row() -> None:
    waits: list[float] = []
    backoff = Backoff(first_wait_seconds=10, failures_in_a_row=3, sleep=waits.append)
    for _ in range(5):
        backoff.failed(backoff.wait(), "timed out")
        backoff.failed(backoff.wait(), "timed out")
        backoff.answered(backoff.wait())
    assert waits == []
    for _ in range(4):
        backoff.failed(backoff.wait(), "timed out")
    assert [round(w) for w in waits] == [10]


def test_stopping_interrupts_a_wait() -> None:
    backoff = Backoff(first_wait_seconds=1000)
    backoff.refused(backoff.wait(), "429")
    thread = threading.Thread(target=backoff.wait)
    thread.start()
    backoff.stopped.set()
    thread.join(10)
    assert not thread.is_alive()


def test_first_error_stops_the_work() -> None:
    done: list[int] = []
    seen: list[tuple[int, int]] = []
    meter = ProgressCounter(1000, lambda *step: seen.append(step))

    def work(item: int) -> None:
        if item == 20:
            raise DownloadError("enough")
        done.append(item)
        meter.step()

    stop = threading.Event()
    with pytest.raises(DownloadError, match="enough"):
        in_parallel(work, range(1000), 3, stop)
    assert stop.is_set()
    assert set(range(20)) <= set(done)
    assert len(done) < 1000
    assert seen == [(n + 1, 1000) for n in range(len(done))]


def test_busy_worker_starts_no_further_item_after_an_error() -> None:
    failed = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        if item == 1:
            failed.set()
            raise DownloadError("enough")
        failed.wait(10)
        done.append(item)

    with pytest.raises(DownloadError, match="enough"):
        in_parallel(work, range(1000), 2, threading.Event())
    assert done == [0]


def test_interrupt_stops_the_work() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        if item == 3:
            os.kill(os.getpid(), signal.SIGINT)
        if item >= 2:
            assert stop.wait(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            in_parallel(work, range(1000), 2, stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(done) == [0, 1, 2, 3]


def test_every_item_is_processed_once() -> None:
    done: list[int] = []
    in_parallel(done.append, iter(range(500)), 7, threading.Event())
    assert sorted(done) == list(range(500))
