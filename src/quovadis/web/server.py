"""HTTP server of the web demo: uvicorn in a thread, with timeouts for stalled clients."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from quovadis.errors import InvalidInputError, JobError

FIRST_PORT, _NUM_PORTS = 7860, 100
_START_SECONDS = 60.0
_MAX_CONNECTIONS = 512


class TimeoutProtocol(H11Protocol):
    """HTTP/1.1 protocol with timeouts for stalled clients.

    uvicorn limits only the time between two requests.
    """

    header_seconds = 20.0
    """Timeout for a complete header, from the start of the connection or the end of the last response."""
    body_seconds = 30.0
    """Timeout for a complete body, in addition to the time for its bytes."""
    min_bytes_per_second = 1000.0
    """Minimum upload rate."""
    linger_seconds = 10.0
    """Timeout for the rest of a rejected body."""
    write_seconds = 120.0
    """Timeout for a client that does not read its response."""

    _waiting_for: object = None
    _since = 0.0
    _num_bytes = 0
    _timer: Any = None
    _write_timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers."""
        super().connection_lost(exc)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Count the received bytes and process them."""
        self._num_bytes += len(data)
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        """Start the timer for the next request."""
        super().on_response_complete()
        self._update_timer()

    def pause_writing(self) -> None:
        """Start the timer for a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the timer for a client that does not read."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def allowed_seconds(self) -> float:
        """Return how long the connection may wait for its client in its current state."""
        if self.conn.their_state is h11.IDLE:
            return self.header_seconds
        if self.conn.our_state is h11.DONE:
            return self.linger_seconds
        return self.body_seconds + self._num_bytes / self.min_bytes_per_second

    def _update_timer(self) -> None:
        """Restart the timer if the state of the connection changed."""
        waiting_for = (self.conn.their_state, self.conn.our_state is h11.DONE, self.cycle)
        if waiting_for == self._waiting_for:
            return
        self._waiting_for, self._since, self._num_bytes = waiting_for, self.loop.time(), 0
        if self._timer is not None:
            self._timer.cancel()
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._timer = self.loop.call_later(self.allowed_seconds(), self._abort_if_expired)

    def _abort_if_expired(self) -> None:
        remaining_seconds = self._since + self.allowed_seconds() - self.loop.time()
        if remaining_seconds > 0:
            self._timer = self.loop.call_later(remaining_seconds, self._abort_if_expired)
        else:
            self.transport.abort()


class Server:
    """Serve an ASGI application in a thread until :meth:`close` is called.

    Args:
        app: The application.
        host: The address at which to listen.
        port: The port; by default the first free one from 7860 on.

    Raises:
        InvalidInputError: If the port is in use or the address is not available.
        JobError: If the server does not start.
    """

    def __init__(self, app: Any, *, host: str, port: int | None = None):
        self._socket = _listen(host, port)
        name = "localhost" if host in ("0.0.0.0", "::") else host
        self.url = f"http://{f'[{name}]' if ':' in name else name}:{self._socket.getsockname()[1]}/"
        config = uvicorn.Config(
            app,
            http=TimeoutProtocol,
            ws="none",
            log_level="warning",
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._server.started:
            self.close()
            raise JobError("the server did not start; see the messages above")

    def close(self) -> None:
        """Stop serving."""
        # Open pages keep a connection, whose end uvicorn would report with a traceback.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()


def _listen(host: str, port: int | None) -> socket.socket:
    ports = range(FIRST_PORT, FIRST_PORT + _NUM_PORTS) if port is None else (port,)
    reason: Exception | None = None
    for number in ports:
        try:
            family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), number, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family)
        except (OSError, UnicodeError, OverflowError) as error:
            reason = error
    attempted = f"port {port}" if port is not None else f"ports {ports[0]} to {ports[-1]}"
    raise InvalidInputError(
        f"cannot listen on {attempted} of {host}: the port is in use or the address is not available; choose another "
        "--port or --host"
    ) from reason
