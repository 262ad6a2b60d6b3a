"""Stop on Ctrl-C, SIGTERM and SIGHUP alike: at once, with the child processes, and after cleaning up.

All three raise ``KeyboardInterrupt`` in the main thread, so that ``finally`` clauses remove partial files and release
locks. Work in other threads, which no exception can reach, calls :func:`check` between its steps.
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
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP too, and stop the child processes on all three.

    A signal that the parent process switched off, as ``nohup`` does, stays off. No-op outside of the main thread.
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
    """Signal handler: stop the child processes and raise KeyboardInterrupt.

    Only Ctrl-C interrupts the cleaning up: a terminal that is closed may send SIGHUP twice.
    """
    global _received
    if _received is not None and number != signal.SIGINT:
        return
    _received = number
    if hasattr(signal, "SIGCHLD"):  # torch's handler raises an error for each data-loading worker that is stopped
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    from multiprocessing import active_children  # late, so that "quovadis --help" stays fast

    for child in active_children():
        child.terminate()
    raise KeyboardInterrupt


def received_signal() -> int | None:
    """The signal that interrupted this process; None if none did."""
    return _received


def check() -> None:
    """Raise KeyboardInterrupt in a thread of a process that was interrupted.

    >>> check()
    """
    if _received is not None:
        raise KeyboardInterrupt


def exit_within(seconds: float, code: int) -> None:
    """Exit even if a thread that cannot be interrupted is still at work after that time."""

    def leave() -> None:
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


@contextmanager
def keyboard_signals_blocked() -> Iterator[None]:
    """Start processes that a terminal does not interrupt: they inherit the mask. They still receive SIGTERM."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
