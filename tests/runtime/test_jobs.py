"""Jobs: every item once, whatever dies on the way."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quovadis.datasets.load import load_dataset
from quovadis.datasets.preparation import PrepareSettings, prepare
from quovadis.errors import InvalidInputError, JobError
from quovadis.runtime.jobs import run_jobs
from tests.runtime.job_child import die_at_the_third_item, die_at_three_and_six, fail, square
from tests.synthetic import write_square


@pytest.mark.parametrize("num_workers", [0, 2])
def test_every_item_is_processed_once(num_workers: int) -> None:
    results = list(run_jobs(square, list(range(20)), num_workers=num_workers))
    assert sorted(results) == [(i, i * i) for i in range(20)]


def test_negative_number_of_workers_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="num_workers must be at least 0; got -2"):
        list(run_jobs(square, [1], num_workers=-2))


@pytest.mark.slow
def test_items_that_kill_their_process_do_not_affect_others() -> None:
    results = dict(run_jobs(die_at_three_and_six, list(range(8)), num_workers=2, on_crash=lambda x: -x))
    assert results == {i: (-i if i in (3, 6) else i * i) for i in range(8)}
    with pytest.raises(JobError, match="worked on 3 was killed"):
        list(run_jobs(die_at_three_and_six, list(range(5)), num_workers=2))


@pytest.mark.slow
def test_item_that_is_not_the_cause_of_a_crash_is_repeated() -> None:
    results = dict(run_jobs(die_at_the_third_item, list(range(6)), num_workers=1, on_crash=lambda x: -x))
    assert results == {i: i * i for i in range(6)}


def test_exception_stops_the_job() -> None:
    with pytest.raises(ValueError, match="is wrong"):
        list(run_jobs(fail, [1, 2], num_workers=1))


def test_while_waiting_is_called() -> None:
    calls: list[int] = []
    list(run_jobs(square, [1, 2, 3], num_workers=1, while_waiting=lambda: calls.append(1)))
    assert calls


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc, to see which processes there are")
def test_workers_exit_when_the_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.runtime.job_child import tell_and_sleep; from quovadis.runtime.jobs import run_jobs;"
        "list(run_jobs(tell_and_sleep, [sys.argv[1]], num_workers=1))"
    )
    told = tmp_path / "pid"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, "-c", code, told], env=environment)
    _wait_until(told.exists)
    worker = Path("/proc") / told.read_text()
    assert worker.exists()
    parent.kill()
    parent.wait()
    _wait_until(lambda: not worker.exists())


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came true")


@pytest.fixture
def two_nodes() -> Iterator[object]:
    """A Ray cluster of two machines, as far as Ray can tell."""
    ray = pytest.importorskip("ray", reason="needs the extra 'cluster'")
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_cluster_finishes_each_clip_once_after_losing_a_machine(two_nodes: object, tmp_path: Path) -> None:
    cluster = two_nodes
    lost = cluster.add_node(num_cpus=1)  # type: ignore[attr-defined]
    for i in range(12):
        for label in ("left", "right"):
            write_square(tmp_path / "raw" / label / f"{i}.mp4", seed=i, reverse=label == "left")
    data = load_dataset(tmp_path / "raw")
    counts: list[int] = []

    def lose_it(done: int) -> None:
        counts.append(done)
        if done == 4:
            cluster.remove_node(lost, allow_graceful=False)  # type: ignore[attr-defined]

    settings = PrepareSettings(short_side_px=32)
    stored = prepare(data, tmp_path / "store", settings, ray_address=cluster.address, progress=lose_it)  # type: ignore[attr-defined]
    assert counts == list(range(1, 25))
    assert all(r.status == "ok" for r in stored.records)
    assert len(list((tmp_path / "store").glob("*/*.mp4"))) == 24
    alone = prepare(data, tmp_path / "alone", settings)
    assert [r.sha256 for r in alone.records] == [r.sha256 for r in stored.records]
