import threading
import time
from collections.abc import Iterable

import pytest

from quovadis.web.job_queue import JobQueue, Progress, ProgressCallback


def result_of(steps: Iterable[object]) -> object:
    *_, result = steps
    return result


def test_an_exception_of_the_job_is_raised_to_the_caller() -> None:
    def job(report: ProgressCallback) -> None:
        raise KeyError("here")

    queue = JobQueue()
    with pytest.raises(KeyError, match="here"):
        list(queue.run(job))
    assert result_of(queue.run(lambda report: "next")) == "next"


def test_closing_the_generator_cancels_the_job() -> None:
    stopped = threading.Event()

    def job(report: ProgressCallback) -> None:
        try:
            for i in range(10_000):
                report(i / 10_000, f"step {i}")
                time.sleep(0.002)
        except BaseException:
            stopped.set()
            raise

    queue = JobQueue()
    steps = queue.run(job)
    progress = next(steps)
    assert isinstance(progress, Progress)
    assert 0 <= progress.fraction <= 1
    assert progress.description.startswith(("step", "starting"))
    steps.close()
    assert stopped.wait(10)
    assert result_of(queue.run(lambda report: "next")) == "next"


def test_one_job_runs_at_a_time() -> None:
    queue, running, most = JobQueue(), [0], [0]

    def job(report: ProgressCallback) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.02)
        running[0] -= 1

    threads = [threading.Thread(target=lambda: list(queue.run(job))) for _ in range(5)]
    for thread in threads:
        thread.start()
    list(queue.run(job))
    for thread in threads:
        thread.join()
    assert most == [1]


def test_queued_jobs_report_their_position_and_run_in_order() -> None:
    queue, begun, release = JobQueue(), threading.Event(), threading.Event()
    order: list[str] = []

    def first(report: ProgressCallback) -> None:
        begun.set()
        release.wait(30)
        order.append("first")

    thread = threading.Thread(target=lambda: list(queue.run(first)))
    thread.start()
    begun.wait(30)
    second = queue.run(lambda report: order.append("second"))
    assert next(second) == Progress(0.0, "queued, 1 ahead")
    canceled = queue.run(lambda report: order.append("canceled"))
    assert next(canceled) == Progress(0.0, "queued, 2 ahead")
    third = queue.run(lambda report: order.append("third"))
    assert next(third) == Progress(0.0, "queued, 3 ahead")
    canceled.close()
    assert next(third) == Progress(0.0, "queued, 2 ahead")
    release.set()
    list(third)
    list(second)
    thread.join()
    assert order == ["first", "second", "third"]
