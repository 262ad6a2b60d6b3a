"""What workers of test_jobs do, in a module that a new process imports quickly."""

import os
import signal
import time
from pathlib import Path

_num_items = 0


def square(x: int) -> int:
    return x * x


def die_at_three_and_six(x: int) -> int:
    if x in (3, 6):
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def die_at_the_third_item(x: int) -> int:
    """Like a leak: no item causes it."""
    global _num_items
    _num_items += 1
    if _num_items == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x * x


def fail(x: int) -> int:
    raise ValueError(f"{x} is wrong")


def tell_and_sleep(path: str) -> None:
    part = Path(path).with_suffix(".part")
    part.write_text(str(os.getpid()))
    part.rename(path)
    time.sleep(600)
