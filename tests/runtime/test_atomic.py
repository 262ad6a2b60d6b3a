"""Files appear complete or not at all, and what killed processes leave is removed: with real processes."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from quovadis.errors import StorageError
from quovadis.runtime import atomic
from quovadis.runtime.atomic import PartialFile, atomic_path, sweep_partials, write_atomically

WRITE = """
import sys, time
from pathlib import Path
from typing import Any
from quovadis.runtime.atomic import PartialFile
target, kind = Path(sys.argv[1]), sys.argv[2]
partial = PartialFile(target, folder=kind == "folder")
(partial.path / "1.jpg" if kind == "folder" else partial.path).write_text("half")
print("writing", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sweeps as a new process does."""
    monkeypatch.setattr(atomic, "_swept", set())


def start_writer(target: Path, kind: str = "file") -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(target), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_next_write_removes_partial_files_of_killed_processes(tmp_path: Path, kind: str) -> None:
    kill(start_writer(tmp_path / "a.mp4", kind))
    assert len(names(tmp_path)) == 1
    write_atomically(tmp_path / "b.txt", "b")
    assert names(tmp_path) == ["b.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_partial_files_of_running_processes_are_kept(tmp_path: Path, kind: str) -> None:
    writer = start_writer(tmp_path / "a.mp4", kind)
    try:
        (partial,) = tmp_path.iterdir()
        os.utime(partial, (0, 0))  # however long ago it wrote something
        write_atomically(tmp_path / "b.txt", "b")
        sweep_partials(tmp_path)
        assert names(tmp_path) == [partial.name, "b.txt"]
    finally:
        kill(writer)


def test_sweep_is_recursive_and_keeps_other_files(tmp_path: Path) -> None:
    deep = tmp_path / "class" / "video"
    kill(start_writer(deep / "a.mp4"))
    kill(start_writer(deep / "frames", "folder"))
    foreign = ["x.mp4.part", ".x.mp4.1234.part", ".quovadis.lock", "quovadis-00000000-0123456789abcdef.part"]
    for name in foreign:
        (deep / name).touch()
    sweep_partials(tmp_path)
    assert names(deep) == sorted(foreign)


@pytest.mark.parametrize(("hours", "kept"), [(1, True), (25, False)])
def test_partial_file_of_another_host_is_kept_for_a_day(
    tmp_path: Path, hours: float, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "elsewhere")
        left = PartialFile(tmp_path / "a.txt")
        left._unlock()
    changed = time.time() - hours * 3600
    os.utime(left.path, (changed, changed))
    sweep_partials(tmp_path)
    assert left.path.exists() == kept


@pytest.mark.parametrize(("hours", "kept"), [(1, True), (25, False)])
def test_age_decides_without_locks(tmp_path: Path, hours: float, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def unsupported(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    left = PartialFile(tmp_path / "a.txt")
    changed = time.time() - hours * 3600
    os.utime(left.path, (changed, changed))
    sweep_partials(tmp_path)
    assert left.path.exists() == kept


@pytest.mark.parametrize("before", ["_open", "_lock"])
@pytest.mark.parametrize("folder", [False, True])
def test_sweep_between_creation_and_lock_is_harmless(
    before: str, folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = getattr(atomic, before)
    removed: list[str] = []

    def late(argument: Any) -> Any:
        if not removed:  # another process treats the partial file as abandoned before it is locked
            (partial,) = tmp_path.iterdir()
            removed.append(partial.name)
            atomic._remove(partial)
        return function(argument)

    monkeypatch.setattr(atomic, before, late)
    partial = PartialFile(tmp_path / "a.txt", folder=folder)
    assert removed
    assert names(tmp_path) == [partial.path.name] != removed
    partial.discard()


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_exception_in_the_block_keeps_the_existing_file(tmp_path: Path, error: BaseException) -> None:
    target = write_atomically(tmp_path / "a.txt", "old")

    def fail_halfway() -> None:
        with atomic_path(target) as path:
            path.write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail_halfway()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_concurrent_writers_do_not_mix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as one, atomic_path(tmp_path / "a.txt") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.txt").read_text() == "one"
    assert names(tmp_path) == ["a.txt"]


def test_folder_replaces_an_existing_one(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "old.jpg").touch()
    partial = PartialFile(tmp_path / "v", folder=True)
    (partial.path / "new.jpg").touch()
    partial.commit()
    partial.discard()
    assert names(tmp_path) == ["v"]
    assert names(tmp_path / "v") == ["new.jpg"]


def test_longest_file_name_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".mp4")
    with atomic_path(target) as path:
        assert path.suffix == ".mp4"  # encoders choose the container by it
        path.touch()
    assert names(tmp_path) == [target.name]


def test_blocked_target_is_reported_before_writing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    cases = {
        tmp_path / "folder": "folder: it is a folder",
        tmp_path / "file" / "a" / "b.txt": "file is a file, not a folder",
        tmp_path / ("n" * 300): "File name too long",
    }
    for target, message in cases.items():
        with pytest.raises(StorageError, match=message):
            PartialFile(target)
    with pytest.raises(StorageError, match="it is not a folder"):
        PartialFile(tmp_path / "file", folder=True)
    assert names(tmp_path) == ["file", "folder"]
