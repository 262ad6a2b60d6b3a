"""Data loader workers: start, errors and exit."""

import gc
import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import psutil
import pytest
import torch

from quovadis.datasets.loader import VideoDataLoader, worker_context
from quovadis.errors import DatasetError, InvalidInputError, JobError, VideoDamagedError


class Failing(torch.utils.data.Dataset[int]):
    """Items of which some fail, each with another error."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 3:
            raise DatasetError("item 3 is damaged: repair it")
        if index == 4:
            raise VideoDamagedError("item 4 ends early")
        if index == 5:
            raise KeyError("five")
        if index == 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


def add(items: list[int]) -> int:
    if sum(items) == 1:
        raise ValueError("no sum of 1")
    return sum(items)


@pytest.fixture(scope="module")
def of_one() -> list[object]:
    """Result or error of items of :class:`Failing`, loaded by one worker."""
    found: list[object] = []
    for index in (0, 3, 4, 5, 6):
        try:
            found += list(VideoDataLoader(Failing(), batch_size=None, sampler=[index], num_workers=1))
        except Exception as error:
            found.append(error)
    return found


def test_errors_in_workers_keep_their_type_and_message(of_one: list[object]) -> None:
    item, ours, other_of_ours, foreign, killed = of_one
    assert item == 0
    assert (type(ours), str(ours)) == (DatasetError, "item 3 is damaged: repair it")
    assert (type(other_of_ours), str(other_of_ours)) == (VideoDamagedError, "item 4 ends early")
    assert "__getitem__" in "".join(ours.__notes__), "the traceback of the worker"  # type: ignore[union-attr]
    assert (type(foreign), str(foreign)) == (JobError, "a data-loading worker failed: KeyError: 'five'")
    assert type(killed) is JobError
    assert "a data-loading worker was lost (DataLoader worker" in str(killed)


def test_errors_without_workers_are_not_changed() -> None:
    with pytest.raises(KeyError, match="five"):
        list(VideoDataLoader(Failing(), batch_size=None, sampler=[5]))
    with pytest.raises(ValueError, match="no sum of 1"):
        list(VideoDataLoader(Failing(), batch_size=2, collate_fn=add))
    with pytest.raises(InvalidInputError, match="num_workers must be at least 0; got -1"):
        VideoDataLoader([1], batch_size=None, num_workers=-1)


def test_errors_of_collate_are_raised_and_workers_survive() -> None:
    loading = VideoDataLoader(Failing(), batch_sampler=[[0, 2], [1, 2], [0, 1]], collate_fn=add, num_workers=1)
    batches = iter(loading)
    assert list(islice(batches, 2)) == [2, 3]
    with pytest.raises(JobError, match="a data-loading worker failed: ValueError: no sum of 1"):
        next(batches)
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    assert list(islice(loading, 2)) == [2, 3]
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before
    with pytest.raises(DatasetError, match="item 3 is damaged"):
        list(VideoDataLoader(Failing(), batch_sampler=[[0, 3]], collate_fn=add, num_workers=1))


class Endless(torch.utils.data.Dataset[int]):
    """Items of which all but the first take for ever."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index:
            time.sleep(600)
        return os.getpid()


def raise_in_loop(error: type[BaseException], workers: list[psutil.Process]) -> None:
    with VideoDataLoader(Endless(), batch_size=None, num_workers=1) as loading:
        for pid in loading:
            workers.append(psutil.Process(pid))
            raise error


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_workers_stop_with_the_block(error: type[BaseException]) -> None:
    """Also in the middle of an item, and while the traceback of the error refers to the loader."""
    workers: list[psutil.Process] = []
    with pytest.raises(error) as raised:
        raise_in_loop(error, workers)
    assert raised.value.__traceback__ is not None
    workers[0].wait(60)


def test_workers_stop_with_garbage() -> None:
    loading = VideoDataLoader(Endless(), batch_size=None, num_workers=1)
    batches = iter(loading)
    worker = psutil.Process(next(batches))
    cycle: list[object] = [loading, batches]
    cycle.append(cycle)
    del loading, batches, cycle
    started = time.monotonic()
    gc.collect()
    worker.wait(60)
    assert time.monotonic() - started < 4  # PyTorch waits for five seconds for each worker


def test_workers_are_not_forked_from_the_main_process() -> None:
    assert worker_context().get_start_method() == ("forkserver" if sys.platform.startswith("linux") else "spawn")


_SCRIPT = """
import multiprocessing
import os
multiprocessing.set_start_method("spawn", force=True)
from quovadis.datasets.loader import VideoDataLoader
with open("runs.txt", "a") as file:
    file.write("started ")
batches = iter(VideoDataLoader(range(1000), batch_size=None, num_workers=2))
print(next(batches), flush=True)
import time
time.sleep(600)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_runs_once_and_its_workers_exit_with_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    script = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    with script.stdout:
        assert script.stdout.readline() == "0\n"
        assert (tmp_path / "runs.txt").read_text() == "started "
        children = psutil.Process(script.pid).children(recursive=True)
        assert len(children) >= 2
        script.kill()
        script.wait()
        deadline = time.monotonic() + 60
        while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
            assert time.monotonic() < deadline
            time.sleep(0.05)
