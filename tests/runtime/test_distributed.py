"""Process groups, and errors in one of their processes."""

import os
import signal

import pytest

from quovadis.errors import InvalidInputError, OtherProcessError
from quovadis.runtime import distributed
from tests.launch import launch

pytestmark = pytest.mark.slow

_HEAD = """
import os, signal, sys, time
import torch
from quovadis import cli
from quovadis.runtime import distributed
from quovadis.errors import DatasetError
rank = int(os.environ["RANK"])
"""
_AS_A_VERB = """
import types
sys.modules["quovadis.cli.work"] = types.SimpleNamespace(main=main)
cli.COMMANDS["work"] = "a test"
cli.main(["work"])
"""


def test_values_are_gathered_in_rank_order() -> None:
    script = (
        _HEAD
        + """
def main():
    with distributed.process_group():
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (rank, 3, rank == 0)
        assert distributed.gather({"of": rank}) == [{"of": 0}, {"of": 1}, {"of": 2}]
        assert distributed.sum_values([0.1 * (rank + 1), rank]) == [0.1 + 0.2 + 0.1 * 3, 3]
        assert distributed.run_on_main(lambda: f"by {rank}") == "by 0"
        a, b = torch.tensor([1.0, 4.0]) * rank, torch.full((1, 2), float(rank), dtype=torch.float64)
        distributed.average_tensors([a, b])
        assert a.tolist() == [1.0, 4.0] and b.tolist() == [[1.0, 1.0]], (a, b)
        order = []
        with distributed.main_first():
            order.append(time.monotonic())
            time.sleep(0.2 * (rank == 0))
        begun = distributed.gather(order[0])
        assert min(begun[1:]) >= begun[0] + 0.2
    distributed.shutdown()
    assert distributed.world_size() == 1
main()
"""
    )
    for ended in launch(script, 3):
        assert (ended.code, ended.stderr) == (0, "")


def test_no_process_begins_before_all_have_joined() -> None:
    script = (
        _HEAD
        + """
join = distributed.dist.init_process_group
def join_late(**options):
    join(**options)
    time.sleep(1.0 if rank == 2 else 0.0)
    print(time.monotonic())
distributed.dist.init_process_group = join_late
distributed.initialize()
print(time.monotonic())
distributed.barrier()
distributed.shutdown()
"""
    )
    times = [[float(t) for t in ended.stdout.split()] for ended in launch(script, 3)]
    assert max(joined for joined, _ in times) <= min(began for _, began in times), times


def test_error_in_one_process_stops_all_and_is_printed_once() -> None:
    script = (
        _HEAD
        + """
def main(_):
    with distributed.process_group():
        if rank == 1:
            raise DatasetError("b.mp4 is broken")
        distributed.barrier()
"""
        + _AS_A_VERB
    )
    found = launch(script, 3)
    assert [ended.code for ended in found] == [1, 1, 1]
    assert [ended.stderr for ended in found] == ["", "error: b.mp4 is broken\n", ""]


def test_error_in_all_processes_is_printed_once() -> None:
    script = (
        _HEAD
        + """
def main(_):
    with distributed.process_group():
        distributed.barrier()
        raise DatasetError("nothing there")
"""
        + _AS_A_VERB
    )
    found = launch(script, 2)
    assert [ended.code for ended in found] == [1, 1]
    assert sorted(ended.stderr for ended in found) == ["", "error: nothing there\n"]


def test_killed_process_stops_the_others() -> None:
    script = (
        _HEAD
        + """
def main(_):
    with distributed.process_group():
        distributed.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        distributed.barrier()
"""
        + _AS_A_VERB
    )
    first, killed = launch(script, 2)
    assert (first.code, killed.code) == (1, -signal.SIGKILL)
    assert first.stderr.startswith("error: process 0 of 2 lost another process, which was killed or did not respond (")
    assert first.stderr.endswith("); saved results are kept: run the same command again\n")
    assert first.stderr.count("\n") == 1
    assert "GLHF" not in first.stderr


def test_unresponsive_process_times_out() -> None:
    script = (
        _HEAD
        + """
def main(_):
    distributed.initialize(timeout_minutes=2 / 60)
    with distributed.process_group():
        distributed.barrier()
        if rank == 1:
            time.sleep(6)
            os._exit(0)
        distributed.barrier()
"""
        + _AS_A_VERB
    )
    first = launch(script, 2)[0]
    assert first.code == 1
    assert first.stderr.startswith(
        "error: process 0 of 2 lost another process, which was killed or did not respond (Timed out"
    )


def test_missing_launcher_variables_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInputError, match=r"WORLD_SIZE is greater than 1, but .*RANK.*: start with"):
        distributed.initialize()


def test_more_processes_than_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(InvalidInputError, match="process 1 has no GPU: this machine has 1; start 1 processes"):
        distributed.initialize()


def test_error_of_a_single_process_is_unchanged() -> None:
    assert "WORLD_SIZE" not in os.environ
    with pytest.raises(KeyError), distributed.process_group():
        raise KeyError("a")
    with pytest.raises(OtherProcessError), distributed.process_group():
        raise OtherProcessError("b")
