"""Computations that are split between two threads."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from quovadis.runtime.parallel import run_in_halves, run_in_one_thread


@pytest.fixture(params=[2, 3], autouse=True)
def num_cores(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def parts(size: int) -> dict[tuple[int, int], str]:
    """The ranges that were run, and the names of their threads."""
    found = {}

    def work(start: int, stop: int) -> None:
        found[start, stop] = threading.current_thread().name

    run_in_halves(work, size)
    return dict(sorted(found.items()))


@pytest.mark.parametrize("size", [2, 3, 7, 100])
def test_two_threads_share_all_parts(size: int) -> None:
    (start, middle), (begin, stop) = parts(size)
    assert (start, middle, stop) == (0, begin, size)
    assert start < middle < stop
    assert len(set(parts(size).values())) == 2


def test_one_part_does_not_use_the_calling_thread() -> None:
    assert parts(1) == {(0, 1): parts(2)[0, 1]}
    names = []
    run_in_one_thread(lambda: names.extend([threading.current_thread().name, *parts(8).values()]))
    assert names == [parts(2)[0, 1]] * 2


def test_the_cores_are_divided(num_cores: int) -> None:
    counts = {}

    def work(start: int, stop: int) -> None:
        (torch.rand(500, 500) @ torch.rand(500, 500)).sum()
        counts[start] = torch.get_num_threads()

    run_in_halves(work, 9)
    assert sorted(counts.values()) == ([1, 1] if num_cores == 2 else [1, 2])
    assert torch.get_num_threads() == num_cores
    with ThreadPoolExecutor(1) as other:  # a thread that starts later
        assert other.submit(torch.get_num_threads).result() == num_cores


def test_one_core_runs_all_parts_in_the_calling_thread() -> None:
    torch.set_num_threads(1)
    assert parts(8) == {(0, 8): threading.current_thread().name}


def test_a_part_is_not_divided_again() -> None:
    found = []
    run_in_halves(lambda start, stop: found.append(list(parts(4))), 2)
    assert found == [[(0, 4)], [(0, 4)]]


@pytest.mark.parametrize("inference", [False, True])
def test_results_have_no_gradient(inference: bool) -> None:
    weight = torch.ones(3, requires_grad=True)
    results = {}
    with torch.inference_mode(inference):
        run_in_halves(lambda start, stop: results.update({start: weight * 2}), 2)
    assert [(r.requires_grad, r.is_inference()) for r in results.values()] == [(False, inference)] * 2


def test_error_of_a_part_is_raised_and_later_calls_work() -> None:
    def work(start: int, stop: int) -> None:
        if start:
            raise ValueError("in the second half")

    with pytest.raises(ValueError, match="in the second half"):
        run_in_halves(work, 2)
    assert len(parts(2)) == 2


def test_several_threads_may_call_at_the_same_time() -> None:
    with ThreadPoolExecutor(8) as callers:
        sums = list(callers.map(_sum_in_halves, range(2, 200)))
    assert sums == [sum(range(size)) for size in range(2, 200)]


def test_forked_process_starts_threads_of_its_own() -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system cannot fork")
    assert len(parts(2)) == 2
    process = multiprocessing.get_context("fork").Process(target=_sum_in_halves, args=(10,))
    process.start()
    process.join(60)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 0


def _sum_in_halves(size: int) -> int:
    sums = []
    run_in_halves(lambda start, stop: sums.append(sum(range(start, stop))), size)
    return sum(sums)
