"""Run ``quovadis`` commands in this process."""

from quovadis.cli import main


def run(*args: object) -> int:
    """Run a command and return its exit code."""
    try:
        main([str(arg) for arg in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
