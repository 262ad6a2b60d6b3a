"""Cores and the wait policy of OpenMP threads."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quovadis.runtime import threads
from quovadis.runtime.threads import container_cores, num_cores, set_thread_policy

NAMES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")


@pytest.fixture
def _torch_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that the value before the test is restored after it
        monkeypatch.delenv(name)


def settings() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


@pytest.mark.usefixtures("_torch_is_not_imported")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"GOMP_SPINCOUNT": "1000"}),
        ({"GOMP_SPINCOUNT": "7"}, {"GOMP_SPINCOUNT": "7"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
    ],
)
def test_settings_of_the_user_are_kept(
    given: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "container_cores", lambda: None)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    set_thread_policy()
    assert settings() == expected


@pytest.mark.usefixtures("_torch_is_not_imported")
@pytest.mark.parametrize(
    ("quota", "given", "expected"),
    [(0.5, {}, "1"), (2.5, {}, "3"), (1.0, {"OMP_NUM_THREADS": "2"}, "2"), (4.0, {}, None), (None, {}, None)],
)
def test_torch_starts_no_more_threads_than_a_container_may_use(
    quota: float | None, given: dict[str, str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "container_cores", lambda: quota)
    monkeypatch.setattr(threads, "_own_cores", lambda: {0, 1, 2, 3})
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    set_thread_policy()
    assert settings().get("OMP_NUM_THREADS") == expected


def test_nothing_is_set_when_torch_is_already_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "")
    monkeypatch.delenv("GOMP_SPINCOUNT")
    set_thread_policy()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_import_of_the_package_sets_the_policy_of_its_process() -> None:
    code = "import os, quovadis; print(os.environ['GOMP_SPINCOUNT'])"
    environment = {k: v for k, v in os.environ.items() if k not in NAMES} | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1000\n"


def test_there_is_at_least_one_core() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)


def test_limits_of_a_container(tmp_path: Path) -> None:
    assert container_cores(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert container_cores(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert container_cores(tmp_path) == 2.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert container_cores(tmp_path) is None
