"""Rate limiting for a remote service: all workers slow down together and eventually give up."""

import threading
import time
from collections.abc import Callable

from quovadis.errors import DownloadError


class Backoff:
    """Exponential backoff shared by all workers.

    The first refusal makes all workers wait, the next one twice as long, up to a limit. Any response of the service
    resets the wait. Connection failures count as a refusal only when several occur in a row, so that one unavailable
    video does not slow the others down.

    The default waits add up to about an hour, which is how long YouTube blocks an address according to yt-dlp.

    Args:
        first_wait_seconds: Wait after the first refusal.
        longest_wait_seconds: Upper limit of a wait.
        max_waits: Number of consecutive waits before giving up.
        failures_in_a_row: Number of consecutive connection failures that count as a refusal.
        sleep: Called to wait; by default waits until ``stopped`` is set.

    >>> waits = []
    >>> backoff = Backoff(sleep=waits.append)
    >>> for _ in range(3):
    ...     backoff.refused(backoff.wait(), "HTTP Error 429: Too Many Requests")
    >>> _ = backoff.wait()
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
        self._turn = 0  # increases with each refusal
        self._num_waits = 0
        self._num_failures = 0
        self._not_before = 0.0

    def wait(self) -> int:
        """Wait until a request is allowed or ``stopped`` is set.

        Returns:
            The current turn, to be passed to :meth:`answered`, :meth:`failed` or :meth:`refused`.
        """
        slept_for = -1
        while True:
            with self._lock:
                turn, remaining = self._turn, self._not_before - time.monotonic()
            if remaining <= 0 or turn == slept_for or self.stopped.is_set():
                return turn
            self._sleep(remaining)
            slept_for = turn

    def answered(self, turn: int) -> None:
        """Record a response of the service, with or without a video. Ignored if the request predates a refusal."""
        with self._lock:
            if turn == self._turn:
                self._num_waits = self._num_failures = 0
                self._not_before = 0.0

    def failed(self, turn: int, reason: str) -> None:
        """Record a connection failure.

        Raises:
            DownloadError: After ``max_waits`` consecutive waits.
        """
        with self._lock:
            self._num_failures += 1
            is_refusal = self._num_failures >= self._failures_in_a_row
        if is_refusal:
            self.refused(turn, reason)

    def refused(self, turn: int, reason: str) -> None:
        """Record that the service asked to slow down. Requests of the same turn count once.

        Raises:
            DownloadError: After ``max_waits`` consecutive waits.
        """
        with self._lock:
            if turn != self._turn:
                return
            self._turn += 1
            self._num_waits += 1
            if self._num_waits > self._max_waits:
                raise DownloadError(
                    f"given up after {self._max_waits} waits in a row: {reason}. Finished files are kept; run the "
                    "command again later, with fewer workers, or from another address"
                )
            wait = min(self._first * 2 ** (self._num_waits - 1), self._longest)
            self._not_before = time.monotonic() + wait
