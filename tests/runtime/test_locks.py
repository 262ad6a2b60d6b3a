"""Folder locks between real processes, one of which is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import _unix as unix

from quovadis.errors import StorageError
from quovadis.runtime.locks import LOCK_NAME, FolderLock, file_lock

HOLD = """
import sys, time
from pathlib import Path
from quovadis.runtime.locks import FolderLock
with FolderLock(Path(sys.argv[1]), "holding"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]", how: int) -> None:
    process.send_signal(how)
    process.communicate()


def test_error_names_the_process_that_holds_the_lock(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with (
        pytest.raises(StorageError, match=rf"in use by process {holder.pid} on .*\(holding, since 2.*UTC\): wait"),
        FolderLock(tmp_path, "mine"),
    ):
        pass
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == holder.pid  # not overwritten
    end(holder, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_lock_of_a_dead_process_is_taken_over(tmp_path: Path, holder: "subprocess.Popen[str]", how: int) -> None:
    end(holder, how)
    assert (tmp_path / LOCK_NAME).exists()
    with FolderLock(tmp_path, "mine"):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_unreadable_lock_file_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("no JSON")
    with FolderLock(tmp_path / "new" / "..", "mine"), pytest.raises(StorageError, match="in use by process"):
        FolderLock(tmp_path, "again").__enter__()


def test_a_lock_on_a_removed_file_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder removes the file after another process has opened and before it has locked it."""
    lock, calls = unix.lock_fd_nonblocking, []

    def holder_leaves_first(descriptor: int) -> bool:
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK_NAME).unlink()
        return lock(descriptor)

    monkeypatch.setattr(unix, "lock_fd_nonblocking", holder_leaves_first)
    with FolderLock(tmp_path, "mine"):
        assert len(calls) == 2
        assert (tmp_path / LOCK_NAME).exists()


def test_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path, "mine"):
        raise ZeroDivisionError
    with FolderLock(tmp_path, "mine"):
        pass


def test_unwritable_folder_raises_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write to"), FolderLock(tmp_path / "file" / "x", "mine"):
        pass


def test_lock_excludes_concurrent_threads(tmp_path: Path) -> None:
    inside, most, taken = 0, 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(50):
            try:
                with FolderLock(tmp_path, "mine"):
                    with counting:
                        inside, taken = inside + 1, taken + 1
                        most = max(most, inside)
                    with counting:
                        inside -= 1
            except StorageError:
                pass

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert taken >= 1


def test_file_lock_excludes_concurrent_threads(tmp_path: Path) -> None:
    """Each holder removes the lock file while others wait for it."""
    inside, most = 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with file_lock(tmp_path / "file.part"):
                with counting:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.001)
                with counting:
                    inside -= 1

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for _ in range(4)]:
            future.result()
    assert most == 1
    assert list(tmp_path.iterdir()) == []
