"""CPU threads of PyTorch."""

import os


def limit_spinning() -> None:
    """Let waiting OpenMP threads sleep after a short time, so that they do not keep cores from other work.

    PyTorch's OpenMP runtime spins for up to milliseconds by default, which makes a network several times slower when
    other processes or threads need the cores. Call this before PyTorch is imported. Worker processes inherit the
    setting. No-op if the user set ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
