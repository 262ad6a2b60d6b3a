"""Commands stopped by a signal exit quickly, stop their worker processes and leave no partial files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quovadis import cli
from quovadis.errors import StorageError
from quovadis.runtime import interrupts
from tests.synthetic import write_square

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc to list processes")


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """Handle signals that nohup or a background shell ignores, also in processes that a test starts."""
    handlers = {
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# Worker processes do not import the script, so their functions are in a module.
MODULE = """
import time
from quovadis.runtime.atomic import atomic_path

def half_a_file(path):
    with atomic_path(path) as partial:
        partial.write_text("half")
        time.sleep(600)

def stuck(path):
    with atomic_path(path) as partial:
        import ctypes
        partial.write_text("half")
        ctypes.PyDLL(None).sleep(600)  # keeps the interpreter lock: no Python code runs in this process
"""

WORK = """
import sys
from pathlib import Path

import functions_of_workers

class Verb:
    @staticmethod
    def main(args):
        from contextlib import closing
        from quovadis.runtime.locks import FolderLock
        from quovadis.runtime.jobs import run_jobs
        out = Path(args[1])
        with FolderLock(out, "a test"):
            function = getattr(functions_of_workers, args[0])
            with closing(run_jobs(function, [out / "1", out / "2"], num_workers=1)) as work:
                list(work)

if __name__ == "__main__":
    from quovadis import cli
    sys.modules["quovadis.cli.prepare"] = Verb
    cli.main()
"""


class Command:
    """A command in its own session, as started by a terminal."""

    def __init__(self, script: Path, kind: str, out: Path):
        self.out = out
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(script.parent), *sys.path]))}
        self.process = subprocess.Popen(
            [sys.executable, script, "prepare", kind, out],
            env=environment,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def is_busy(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        return len(self.partial_files()) == 1

    def partial_files(self) -> list[Path]:
        return list(self.out.rglob(".quovadis-*"))

    def others(self) -> list[str]:
        """Names of other running processes in the session."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, fields = status.read_text().rsplit(")", 1)
            except OSError:
                continue
            state, _, _, session = fields.split()[:4]
            if session == str(self.process.pid) and state != "Z" and status.parent.name != session:
                found.append(name)
        return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verb") / "verb.py"
    path.write_text(WORK)
    path.with_name("functions_of_workers.py").write_text(MODULE)
    return path


@pytest.mark.slow
def test_every_signal_stops_the_workers_and_removes_partial_files(tmp_path: Path, script: Path) -> None:
    """A terminal signals all processes; ``kill`` and service managers signal one or all."""
    signals = {
        "ctrl-c": (os.killpg, signal.SIGINT),
        "term": (os.kill, signal.SIGTERM),
        "term all": (os.killpg, signal.SIGTERM),
        "closed terminal": (os.killpg, signal.SIGHUP),
    }
    commands = {name: Command(script, "half_a_file", tmp_path / name) for name in signals}
    for name, command in commands.items():
        wait_until(command.is_busy)
        send, number = signals[name]
        send(command.process.pid, number)
    for name, command in commands.items():
        _, errors = command.process.communicate(timeout=100)
        assert (name, command.process.returncode) == (name, 128 + signals[name][1])
        assert (name, errors) == (name, "stopped\n")
        assert (name, list(command.out.iterdir())) == (name, [])  # neither a partial file nor the lock
        wait_until(lambda command=command: not command.others())  # type: ignore[misc]


def test_an_unresponsive_worker_is_killed(tmp_path: Path, script: Path) -> None:
    command = Command(script, "stuck", tmp_path)
    wait_until(command.is_busy)
    command.process.send_signal(signal.SIGINT)
    command.process.communicate(timeout=100)
    assert command.process.returncode == 130
    wait_until(lambda: not command.others())


def test_workers_of_a_killed_command_stop_and_remove_partial_files(tmp_path: Path, script: Path) -> None:
    command = Command(script, "half_a_file", tmp_path)
    wait_until(command.is_busy)
    command.process.kill()
    command.process.communicate(timeout=100)
    wait_until(lambda: not command.others())
    assert command.partial_files() == []


@pytest.mark.slow
def test_prepare_resumes_after_an_interrupt(tmp_path: Path) -> None:
    for number in range(4):
        for label in ("left", "right"):
            write_square(tmp_path / "raw" / label / f"{number}.mp4", seed=number, reverse=label == "left")
    arguments = ["prepare", str(tmp_path / "raw"), "--out", str(tmp_path / "store"), "--short-side-px", "32"]
    process = subprocess.Popen([sys.executable, "-m", "quovadis", *arguments, "--num-workers", "1"])
    wait_until(lambda: bool(list(tmp_path.glob("store/*/[!.]*.mp4"))) or process.poll() is not None)
    process.terminate()
    assert process.wait(timeout=100) in (0, 143)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("store/*/*.mp4")}
    assert done
    cli.main([*arguments, "--num-workers", "0"])
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert len(list(tmp_path.glob("store/*/*.mp4"))) == 8
    assert list((tmp_path / "store").rglob(".*")) == [], "the next run must remove files of stopped workers"


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_errors_after_an_interrupt_are_hidden(
    number: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Verb:
        @staticmethod
        def main(args: list[str]) -> None:
            try:
                os.kill(os.getpid(), getattr(signal, number))
                time.sleep(100)
            except KeyboardInterrupt as error:
                raise StorageError("a worker process died") from error

    monkeypatch.setitem(sys.modules, "quovadis.cli.prepare", Verb)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells disable it
    try:
        handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        with pytest.raises(SystemExit) as stopped:
            cli.main(["prepare"])
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped.value.code == code
    assert capsys.readouterr().err == "stopped\n"
    interrupts.check()  # later work in this process is not interrupted


def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Verb:
        @staticmethod
        def main(args: list[str]) -> None:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setitem(sys.modules, "quovadis.cli.prepare", Verb)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # like nohup
    try:
        cli.main(["prepare"])
    finally:
        signal.signal(signal.SIGHUP, before)


AT_ONCE = """
import os, signal
from quovadis.runtime import interrupts
signal.signal(signal.SIGCHLD, lambda number, frame: None)  # as torch does for its workers
with interrupts.stop_on_signals(), interrupts.deferred() as interrupt:
    both = {signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, both)
    for number in both:
        os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)
    print(interrupt.requested)
    interrupt.number = None
"""


def test_a_worker_that_ends_with_the_signal_causes_no_traceback() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", AT_ONCE], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
