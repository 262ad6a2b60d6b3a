"""One process at a time: seen with real processes, one of which is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from io import TextIOWrapper
from pathlib import Path

import pytest

from quovadis.errors import StorageError
from quovadis.runtime import locks as folder_lock
from quovadis.runtime.locks import LOCK_NAME, FolderLock

HOLD = """
import sys, time
from pathlib import Path
from quovadis.runtime import locks as folder_lock
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


def test_another_process_is_refused_and_told_who_works_there(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    with (
        pytest.raises(StorageError, match=rf"in use by process {holder.pid} on .*\(holding, since 2.*UTC\): wait"),
        FolderLock(tmp_path, "mine"),
    ):
        pass
    assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == holder.pid  # and nothing was overwritten
    end(holder, signal.SIGKILL)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_lock_that_was_left_is_taken_over(tmp_path: Path, holder: "subprocess.Popen[str]", how: int) -> None:
    end(holder, how)
    assert (tmp_path / LOCK_NAME).exists()
    with FolderLock(tmp_path, "mine"):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_in_which_nothing_stands_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("no JSON")
    with FolderLock(tmp_path / "new" / "..", "mine"), pytest.raises(StorageError, match="in use by process"):
        FolderLock(tmp_path, "again").__enter__()


def test_a_lock_file_that_was_removed_while_it_was_opened_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = folder_lock._flock, []

    def holder_leaves_first(file: TextIOWrapper) -> bool:
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK_NAME).unlink()
        return flock(file)

    monkeypatch.setattr(folder_lock, "_flock", holder_leaves_first)
    with FolderLock(tmp_path, "mine"):
        assert len(calls) == 2
        assert (tmp_path / LOCK_NAME).exists()  # else a third one would make it anew, and lock that


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FolderLock(tmp_path, "mine"):
        raise ZeroDivisionError
    with FolderLock(tmp_path, "mine"):
        pass


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write to"), FolderLock(tmp_path / "file" / "x", "mine"):
        pass


def test_never_two_at_once_however_many_try(tmp_path: Path) -> None:
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
