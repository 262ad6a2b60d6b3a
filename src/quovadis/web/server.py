"""The HTTP server of the page: uvicorn in a thread, which closes connections of clients that stall."""

from __future__ import annotations

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
    """HTTP/1.1 with a limit on the time that a connection waits for its client.

    uvicorn itself only limits the time between two requests.
    """

    header_seconds = 20.0
    """For a complete header, from the connection or the last response on."""
    body_seconds = 30.0
    """For a complete body, besides the time for its bytes."""
    min_bytes_per_second = 1000.0
    """Slowest upload."""
    linger_seconds = 10.0
    """For the rest of a body that was refused."""
    write_seconds = 120.0
    """For a client that reads nothing of its response."""

    _waits_for: object = None
    _since = 0.0
    _num_bytes = 0
    _timer: Any = None
    _write_timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """Start to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        super().connection_lost(exc)
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Go on with the request."""
        self._num_bytes += len(data)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def allowed_seconds(self) -> float:
        """How long the connection may wait for its client, from the moment on when it started to."""
        if self.conn.their_state is h11.IDLE:
            return self.header_seconds
        if self.conn.our_state is h11.DONE:
            return self.linger_seconds
        return self.body_seconds + self._num_bytes / self.min_bytes_per_second

    def _watch(self) -> None:
        """Start the clock when the connection starts to wait for something else."""
        waits_for = (self.conn.their_state, self.conn.our_state is h11.DONE, self.cycle)
        if waits_for == self._waits_for:
            return
        self._waits_for, self._since, self._num_bytes = waits_for, self.loop.time(), 0
        if self._timer is not None:
            self._timer.cancel()
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._timer = self.loop.call_later(self.allowed_seconds(), self._check)

    def _check(self) -> None:
        left = self._since + self.allowed_seconds() - self.loop.time()
        if left > 0:
            self._timer = self.loop.call_later(left, self._check)
        else:
            self.transport.abort()


class Server:
    """An ASGI application that is served by a thread until :meth:`close`.

    Args:
        app: The application.
        host: The address to listen at.
        port: None takes the first free one from 7860 on.

    Raises:
        InvalidInputError: The port is taken, or there is no such address here. JobError: It did not start.
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
        until = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        if not self._server.started:
            self.close()
            raise JobError("the server did not start; the messages above say why")

    def close(self) -> None:
        """Stop serving."""
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
    taken = f"port {port} is" if port is not None else f"the ports from {FIRST_PORT} on are"
    raise InvalidInputError(
        f"{taken} taken at {host}, or there is no such address here: choose another --port or --host"
    ) from reason
