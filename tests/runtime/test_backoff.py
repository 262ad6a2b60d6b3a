"""How all workers slow down together. No test waits."""

import os
import signal
import threading

import pytest

from quovadis.errors import DownloadError
from quovadis.runtime.backoff import Backoff
from quovadis.runtime.thread_jobs import ProgressCounter, in_parallel


def test_waits_double_up_to_a_limit_and_then_it_is_given_up() -> None:
    waits: list[float] = []
    pace = Backoff(first_wait_seconds=10, longest_wait_seconds=60, max_waits=5, sleep=waits.append)
    for _ in range(5):
        pace.refused(pace.wait(), "429")
    with pytest.raises(DownloadError, match=r"given up after 5 waits in a row: 429.*What is done is kept"):
        pace.refused(pace.wait(), "429")
    assert [round(w) for w in waits] == [10, 20, 40, 60, 60]


def test_the_default_adds_up_to_an_hour() -> None:
    waits: list[float] = []
    pace = Backoff(sleep=waits.append)
    for _ in range(11):
        pace.refused(pace.wait(), "429")
    with pytest.raises(DownloadError):
        pace.refused(pace.wait(), "429")
    assert 45 * 60 < sum(waits) < 75 * 60


def test_an_answer_ends_the_waiting() -> None:
    waits: list[float] = []
    pace = Backoff(first_wait_seconds=10, sleep=waits.append)
    for _ in range(3):
        pace.refused(pace.wait(), "429")
    pace.answered(pace.wait())
    pace.refused(pace.wait(), "429")
    pace.wait()
    assert [round(w) for w in waits] == [10, 20, 40, 10]


def test_an_answer_to_an_old_question_does_not_end_it() -> None:
    waits: list[float] = []
    pace = Backoff(first_wait_seconds=10, sleep=waits.append)
    early = pace.wait()
    pace.refused(pace.wait(), "429")
    pace.answered(early)
    pace.refused(pace.wait(), "429")
    pace.wait()
    assert [round(w) for w in waits] == [10, 20]


def test_workers_that_asked_in_the_same_turn_count_once() -> None:
    waits: list[float] = []
    pace = Backoff(first_wait_seconds=10, sleep=waits.append)
    turns = [pace.wait() for _ in range(4)]
    for turn in turns:
        pace.refused(turn, "429")
    for _ in range(4):
        pace.wait()
    assert [round(w) for w in waits] == [10] * 4


def test_failures_of_the_connection_slow_down_only_in_a_row() -> None:
    waits: list[float] = []
    pace = Backoff(first_wait_seconds=10, failures_in_a_row=3, sleep=waits.append)
    for _ in range(5):
        pace.failed(pace.wait(), "timed out")
        pace.failed(pace.wait(), "timed out")
        pace.answered(pace.wait())
    assert waits == []
    for _ in range(4):
        pace.failed(pace.wait(), "timed out")
    assert [round(w) for w in waits] == [10]


def test_a_stop_ends_a_wait_at_once() -> None:
    pace = Backoff(first_wait_seconds=1000)
    pace.refused(pace.wait(), "429")
    thread = threading.Thread(target=pace.wait)
    thread.start()
    pace.stopped.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_first_error_ends_the_work() -> None:
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


def test_a_worker_that_is_busy_meanwhile_begins_nothing_more() -> None:
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


def test_an_interrupt_ends_the_work() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(item: int) -> None:
        done.append(item)
        if item == 3:
            os.kill(os.getpid(), signal.SIGINT)
        if item >= 2:
            assert stop.wait(10)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
    try:
        with pytest.raises(KeyboardInterrupt):
            in_parallel(work, range(1000), 2, stop)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(done) == [0, 1, 2, 3]


def test_everything_is_done_once() -> None:
    done: list[int] = []
    in_parallel(done.append, iter(range(500)), 7, threading.Event())
    assert sorted(done) == list(range(500))
