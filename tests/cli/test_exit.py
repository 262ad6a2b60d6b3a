"""The end of the process of a command, also of one that a launcher such as torchrun started."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import atexit, sys, threading
from quovadis.cli import main

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
atexit.register(print, "exit handler")
threading.Timer(0.2, print, ["other thread"]).start()
sys.argv = ["quovadis", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("processes", ["1", "2"])
def test_processes_exit_without_finalizing_the_interpreter(processes: str) -> None:
    environment = os.environ | {"WORLD_SIZE": processes}
    command = [sys.executable, "-c", _SCRIPT, "--version"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    version, *rest = ended.stdout.splitlines()
    assert version.startswith("quovadis ")
    assert rest == ["other thread", "exit handler"]


def test_errors_of_launched_processes_have_an_exit_code() -> None:
    environment = os.environ | {"WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "quovadis", "probe", "gone.mp4"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
