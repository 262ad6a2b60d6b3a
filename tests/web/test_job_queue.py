import threading
import time

import pytest

from quovadis.web.analysis import Report
from quovadis.web.job_queue import JobQueue


def test_an_error_arises_where_the_result_was_waited_for() -> None:
    def work(report: Report) -> None:
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        list(JobQueue().in_steps(work))


def test_work_ends_when_the_one_who_asked_leaves() -> None:
    ended = threading.Event()

    def work(report: Report) -> None:
        try:
            for i in range(10_000):
                report(i / 10_000, f"step {i}")
                time.sleep(0.002)
        except BaseException:
            ended.set()
            raise

    desk = JobQueue()
    steps = desk.in_steps(work)
    share, what = next(steps)
    assert 0 <= share <= 1
    assert what.startswith(("step", "beginning", "waiting"))
    steps.close()
    assert ended.wait(10)
    assert desk.do(lambda report: "the next one") == "the next one"


def test_one_at_a_time() -> None:
    desk, at_work, most = JobQueue(), [0], [0]

    def work(report: Report) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        time.sleep(0.02)
        at_work[0] -= 1

    threads = [threading.Thread(target=desk.do, args=(work,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    list(desk.in_steps(work))
    for thread in threads:
        thread.join()
    assert most == [1]


def test_who_waits_is_told_so_and_comes_in_order() -> None:
    desk, begun, over = JobQueue(), threading.Event(), threading.Event()
    order: list[str] = []

    def first(report: Report) -> None:
        begun.set()
        over.wait(30)
        order.append("first")

    thread = threading.Thread(target=desk.do, args=(first,))
    thread.start()
    begun.wait(30)
    second = desk.in_steps(lambda report: order.append("second"))
    assert next(second) == (0.0, "waiting for its turn, 1 before it")
    third = desk.in_steps(lambda report: order.append("third"))
    assert next(third) == (0.0, "waiting for its turn, 2 before it")
    gone = desk.in_steps(lambda report: order.append("gone"))
    assert next(gone) == (0.0, "waiting for its turn, 3 before it")
    gone.close()  # while it waits
    over.set()
    assert list(third) is not None
    assert list(second) is not None
    thread.join()
    assert order == ["first", "second", "third"]
    assert desk.do(lambda report: "free") == "free"
