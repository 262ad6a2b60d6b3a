"""Stop on Ctrl-C, SIGTERM and SIGHUP, together with the child processes and after cleaning up.

All three signals raise ``KeyboardInterrupt`` in the main thread, so that ``finally`` clauses remove partial files and
release locks. Other threads call :func:`check` between their steps. Work that can save its state first runs in a
:func:`deferred` block.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

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
    before = _handlers()
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _received = None  # work that starts later in this process is not interrupted
        for number, handler in before.items():
            if signal.getsignal(number) is interrupt:
                signal.signal(number, handler)  # type: ignore[arg-type]


def interrupt(number: int, frame: FrameType | None) -> None:
    """Signal handler: terminate child processes and raise KeyboardInterrupt.

    After the first signal only Ctrl-C is handled, because a closed terminal may send SIGHUP twice.
    """
    if _received is not None and number != signal.SIGINT:
        return
    _stop_children(number)
    raise KeyboardInterrupt


class DeferredInterrupt:
    """An interrupt that takes effect when the work calls :meth:`stop`; see :func:`deferred`."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal; None if this block has not received one."""
        self.handlers: dict[int, object] = {}
        """The replaced handlers by signal."""

    @property
    def requested(self) -> bool:
        """Whether to stop. In other threads, whether the main thread was interrupted."""
        return self.number is not None or _received is not None

    def stop(self, message: str = "") -> NoReturn:
        """Terminate the child processes if the command line does so on signals, and raise KeyboardInterrupt.

        Args:
            message: Text of the exception, which the command line prints.
        """
        self.stop_children()
        raise KeyboardInterrupt(*([message] if message else []))

    def stop_children(self) -> None:
        """Do what the replaced handler does before it raises."""
        if self.number is not None and self.handlers.get(self.number) is interrupt:
            _stop_children(self.number)


@contextmanager
def deferred(announce: Callable[[], None] = lambda: None) -> Iterator[DeferredInterrupt]:
    """Postpone the first interrupt until the block can stop; the second Ctrl-C raises KeyboardInterrupt at once.

    The block polls ``requested`` and calls ``stop``. An interrupt that it has not handled takes effect at its end. Only
    signals that would raise KeyboardInterrupt are postponed. Outside the main thread no signal is.

    Args:
        announce: Called in another thread when the first signal arrives, because the main thread may be in the middle
            of printing.

    Yields:
        The state of the interrupt.

    >>> with deferred() as interrupt:
    ...     interrupt.requested
    False
    """
    pending = DeferredInterrupt()
    if threading.current_thread() is not threading.main_thread():
        yield pending
        return
    pending.handlers.update(
        {number: h for number, h in _handlers().items() if h in (interrupt, signal.default_int_handler)}
    )
    signals: SimpleQueue[bool] = SimpleQueue()  # its put() may interrupt itself

    def postpone(number: int, frame: FrameType | None) -> None:
        if pending.number is None:
            pending.number = number
            if pending.handlers[number] is interrupt:
                _ignore_lost_workers()
            signals.put(True)
        elif number == signal.SIGINT:
            pending.stop()

    def wait() -> None:
        if signals.get():
            announce()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    for number in pending.handlers:
        signal.signal(number, postpone)
    try:
        yield pending
    except Exception:
        pending.stop_children()  # the error may be a consequence of the signal, such as a terminated worker
        raise
    finally:
        for number, handler in pending.handlers.items():
            if signal.getsignal(number) is postpone:
                signal.signal(number, handler)  # type: ignore[arg-type]
        signals.put(False)
        thread.join()
    if pending.number is not None:
        pending.stop()


def _handlers() -> dict[int, object]:
    """Return the current handlers of the signals that stop a command. Windows has no SIGHUP."""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return {number: signal.getsignal(number) for number in numbers}


def _stop_children(number: int) -> None:
    global _received
    _received = number
    _ignore_lost_workers()
    from multiprocessing import active_children  # imported here to keep "quovadis --help" fast

    for child in active_children():
        child.terminate()


def _ignore_lost_workers() -> None:
    """Remove torch's handler that raises an error for each terminated data-loading worker."""
    if hasattr(signal, "SIGCHLD"):
        # Not SIG_DFL: Python prints a traceback if that replaces the handler of a signal that has just arrived.
        signal.signal(signal.SIGCHLD, lambda number, frame: None)


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
