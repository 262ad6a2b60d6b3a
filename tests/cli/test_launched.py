"""The end of commands that a launcher such as torchrun started."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import atexit, sys
from quovadis.cli import main

class Finalized:
    def __del__(self):
        print("finalized")

kept = Finalized()
atexit.register(print, "exit handler")
sys.argv = ["quovadis", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(("processes", "finalized"), [("1", True), ("2", False)])
def test_launched_processes_exit_without_finalizing_the_interpreter(processes: str, finalized: bool) -> None:
    environment = os.environ | {"WORLD_SIZE": processes}
    command = [sys.executable, "-c", _SCRIPT, "--version"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    version, *rest = ended.stdout.splitlines()
    assert version.startswith("quovadis ")
    assert rest == ["exit handler", *["finalized"] * finalized]


def test_errors_of_launched_processes_have_an_exit_code() -> None:
    environment = os.environ | {"WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "quovadis", "probe", "gone.mp4"]
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 1
