"""Stop on Ctrl-C, SIGTERM and SIGHUP, together with the child processes and after cleaning up.

All three signals raise ``KeyboardInterrupt`` in the main thread, so that ``finally`` clauses remove partial files and
release locks. Other threads call :func:`check` between their steps.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_received: int | None = None


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt also on SIGTERM and SIGHUP, and terminate child processes on all three signals.

    Signals ignored by the parent process, for example by ``nohup``, stay ignored. No-op outside the main thread.
    """
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received = None
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]  # Windows has no SIGHUP
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _received = None  # work that starts later in this process is not interrupted
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Signal handler: terminate child processes and raise KeyboardInterrupt.

    After the first signal only Ctrl-C is handled, because a closed terminal may send SIGHUP twice.
    """
    global _received
    if _received is not None and number != signal.SIGINT:
        return
    _received = number
    if hasattr(signal, "SIGCHLD"):  # torch's handler raises an error for each terminated data-loading worker
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    from multiprocessing import active_children  # imported here to keep "quovadis --help" fast

    for child in active_children():
        child.terminate()
    raise KeyboardInterrupt


def received_signal() -> int | None:
    """Return the signal that interrupted this process, or None."""
    return _received


def check() -> None:
    """Raise KeyboardInterrupt if this process was interrupted. For threads other than the main thread.

    >>> check()
    """
    if _received is not None:
        raise KeyboardInterrupt


def exit_within(seconds: float, code: int) -> None:
    """Exit after a time limit, even if a thread cannot be interrupted."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


@contextmanager
def keyboard_signals_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP in processes started within the block, which inherit the mask."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
