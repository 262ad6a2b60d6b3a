import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quovadis.datasets.parallel import map_unordered, num_cores


def double_or_die(number: int) -> int:
    if number in (7, 13):
        os._exit(3)
    return 2 * number


def refuse(number: int) -> int:
    raise ValueError(f"{number} is not liked")


def minus(number: int) -> int:
    return -number


def test_in_this_process() -> None:
    assert list(map_unordered(lambda x: x + 1, [3, 1, 2], num_workers=0, on_crash=minus)) == [(3, 4), (1, 2), (2, 3)]


def test_an_item_that_kills_its_process_costs_only_itself() -> None:
    results = dict(map_unordered(double_or_die, range(20), num_workers=1, on_crash=minus))
    assert results == {i: -i if i in (7, 13) else 2 * i for i in range(20)}


def test_an_exception_ends_everything() -> None:
    with pytest.raises(ValueError, match="is not liked"):
        list(map_unordered(refuse, range(5), num_workers=2, on_crash=minus))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc, to see which processes there are")
def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from tests.datasets.parallel_child import tell_and_sleep;"
        "from quovadis.datasets.parallel import map_unordered;"
        "list(map_unordered(tell_and_sleep, [sys.argv[1]], num_workers=1, on_crash=print))"
    )
    told = tmp_path / "pid"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code, told], env=environment)
    wait_until(told.exists)
    worker = int(told.read_text())
    assert (Path("/proc") / str(worker)).exists()
    parent.kill()
    parent.wait()
    wait_until(lambda: not (Path("/proc") / str(worker)).exists())


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


def test_there_is_at_least_one_core() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)
