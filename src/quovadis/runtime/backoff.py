"""How fast to ask a service that may say no: all workers together slow down, and at last give up."""

import threading
import time
from collections.abc import Callable

from quovadis.errors import DownloadError


class Backoff:
    """Waits that grow while the service refuses, shared by all workers.

    The first refusal makes everyone wait, the next one twice as long, up to a limit; an answer, whatever it says about
    its video, ends that. Failures of the connection count as a refusal only when several come in a row: one video that
    cannot be had must not slow the others down.

    The default adds up to an hour, because that is how long YouTube refuses an address that asked too much, as yt-dlp
    says.

    Args:
        first_wait_seconds: after the first refusal.
        longest_wait_seconds: no wait is longer.
        max_waits: in a row; then it is given up.
        failures_in_a_row: of the connection, that count as a refusal.
        sleep: waits; by default until ``stopped`` is set.

    >>> waits = []
    >>> pace = Backoff(sleep=waits.append)
    >>> for _ in range(3):
    ...     pace.refused(pace.wait(), "HTTP Error 429: Too Many Requests")
    >>> _ = pace.wait()
    >>> [round(seconds) for seconds in waits]
    [10, 20, 40]
    """

    def __init__(
        self,
        *,
        first_wait_seconds: float = 10,
        longest_wait_seconds: float = 600,
        max_waits: int = 11,
        failures_in_a_row: int = 10,
        sleep: Callable[[float], object] | None = None,
    ):
        self._first, self._longest = first_wait_seconds, longest_wait_seconds
        self._max_waits, self._failures_in_a_row = max_waits, failures_in_a_row
        self.stopped = threading.Event()
        self._sleep = sleep or self.stopped.wait
        self._lock = threading.Lock()
        self._turn = 0
        self._num_waits = 0
        self._num_failures = 0
        self._not_before = 0.0

    def wait(self) -> int:
        """Wait until it is allowed to ask, or all is stopped; returns the turn, to be given to what happened then."""
        slept_for = -1
        while True:
            with self._lock:
                turn, left = self._turn, self._not_before - time.monotonic()
            if left <= 0 or turn == slept_for or self.stopped.is_set():
                return turn
            self._sleep(left)
            slept_for = turn

    def answered(self, turn: int) -> None:
        """The service answered: with a video, or with why there is none.

        An answer to a question from before the last refusal says nothing about now.
        """
        with self._lock:
            if turn == self._turn:
                self._num_waits = self._num_failures = 0
                self._not_before = 0.0

    def failed(self, turn: int, reason: str) -> None:
        """The connection failed.

        Raises:
            DownloadError: it is given up.
        """
        with self._lock:
            self._num_failures += 1
            alone = self._num_failures < self._failures_in_a_row
        if not alone:
            self.refused(turn, reason)

    def refused(self, turn: int, reason: str) -> None:
        """The service asked to slow down; workers that asked in the same turn count once.

        Raises:
            DownloadError: it is given up.
        """
        with self._lock:
            if turn != self._turn:
                return
            self._turn += 1
            self._num_waits += 1
            if self._num_waits > self._max_waits:
                raise DownloadError(
                    f"given up after {self._max_waits} waits in a row: {reason}. What is done is kept; run it again "
                    "later, with fewer workers, or from another address"
                )
            wait = min(self._first * 2 ** (self._num_waits - 1), self._longest)
            self._not_before = time.monotonic() + wait
