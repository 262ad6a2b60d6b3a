"""CPU cores and threads of this process and the processes it starts."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

SPIN_COUNT = 1000
"""Iterations that an OpenMP thread waits actively before it sleeps.

With the default of libgomp, 300,000, a network is several times slower when other processes or threads need the cores.
"""


def set_thread_policy() -> None:
    """Let waiting OpenMP threads sleep, and use no more threads than a container may use.

    PyTorch's OpenMP runtime reads the environment when torch is imported, so this is called before, by ``import
    quovadis`` and by the command line. Worker processes inherit the settings. Settings of the user
    (``GOMP_SPINCOUNT``, ``OMP_WAIT_POLICY``, ``OMP_NUM_THREADS``) are kept. No-op if torch is already imported.
    """
    if "torch" in sys.modules:
        return
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN_COUNT))
    if num_cores() < len(_own_cores()):  # torch knows the affinity, but not the limit of a container
        os.environ.setdefault("OMP_NUM_THREADS", str(num_cores()))


def num_cores() -> int:
    """Return the number of CPU cores that this process may use, at least 1: affinity and limit of the container."""
    quota = container_cores()
    cores = len(_own_cores())
    return cores if quota is None else min(cores, max(math.ceil(quota), 1))


def container_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPU limit of the container in cores (cgroup v2 or v1), or None."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def _own_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
