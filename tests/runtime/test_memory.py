"""Reuse of freed memory."""

import subprocess
import sys

import pytest

from quovadis.runtime.memory import keep_freed_memory

_COUNT_FAULTS = """
import resource
import numpy as np
from quovadis.runtime.memory import keep_freed_memory

if {keep}:
    keep_freed_memory()
np.ones(2**24)  # 128 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the C library of Linux")
def test_large_blocks_are_reused() -> None:
    faults = {
        keep: int(subprocess.check_output([sys.executable, "-c", _COUNT_FAULTS.format(keep=keep)], text=True))
        for keep in (True, False)
    }
    # Without transparent huge pages, a block has 32,768 pages; with them, 64.
    assert faults[True] < faults[False] / 4


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    keep_freed_memory()
