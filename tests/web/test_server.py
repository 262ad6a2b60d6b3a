"""Stalled clients of a server with short timeouts. Each test ends when the server closes the connection."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.request import urlopen

import pytest

from quovadis.errors import InvalidInputError

pytest.importorskip("uvicorn", reason="needs uvicorn, which comes with the extra web")

from quovadis.web.server import Server, TimeoutProtocol

_SECONDS = 60
HEAD = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"


class App:
    """An application that reads the body of ``/body``, sends 1 GB for ``/large`` and never ends ``/open``."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        more = scope["path"] == "/body"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/large":
            for _ in range(1000):
                await send({"type": "http.response.body", "body": bytes(2**20), "more_body": True})
            self.left.set()
        await send({"type": "http.response.body", "body": b"ok", "more_body": scope["path"] == "/open"})
        if scope["path"] == "/open":
            await asyncio.Event().wait()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("header_seconds", "body_seconds", "linger_seconds", "write_seconds"):
        monkeypatch.setattr(TimeoutProtocol, name, 0.3)
    server = Server(app, host="127.0.0.1", port=0)
    yield server
    server.close()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1].strip("/"))), timeout=_SECONDS)


def read_to_the_end(connection: socket.socket) -> bytes:
    """What arrives until the server closes the connection."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def test_a_request_is_answered(server: Server) -> None:
    with urlopen(server.url, timeout=_SECONDS) as answer:
        assert answer.read() == b"ok"
    with closing(connect(server)) as connection:
        connection.sendall(HEAD + bytes(1000))
        assert b"ok" in read_to_the_end(connection)


@pytest.mark.parametrize("begun", [b"", b"G", b"GET / HTTP/1.1\r\nHost: local", HEAD, HEAD + b"123"])
def test_a_stalled_client_is_disconnected(begun: bytes, server: Server, app: App) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(begun)
        assert read_to_the_end(connection) == b""
    assert app.left.wait(_SECONDS if begun.startswith(HEAD) else 0) == begun.startswith(HEAD)


@pytest.mark.parametrize("begun", [b"GET / HTTP/1.1\r\nX-Header: ", HEAD])
def test_a_client_that_sends_single_bytes_is_disconnected(begun: bytes, server: Server) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(begun)
        connection.settimeout(0.05)
        for _ in range(900):  # fewer than the body has
            try:
                connection.sendall(b"x")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    pytest.fail("the connection is still open")


@pytest.mark.parametrize("begun", [b"", b"GET / HT"])
def test_an_idle_connection_is_closed(begun: bytes, server: Server) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(2**16)
        connection.sendall(begun)
        assert b"HTTP/1.1" not in read_to_the_end(connection)


def test_the_server_does_not_wait_for_an_unread_body(server: Server) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(HEAD.replace(b"/body", b"/") + b"123")
        assert b"ok" in read_to_the_end(connection)


def test_a_client_that_does_not_read_is_disconnected(server: Server, app: App) -> None:
    with closing(connect(server)) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert app.left.wait(_SECONDS)  # sending to a closed connection returns at once


def test_closing_is_silent_with_an_open_page(capsys: pytest.CaptureFixture[str], server: Server) -> None:
    """Pages keep a connection for events."""
    with closing(connect(server)) as connection:
        connection.sendall(b"GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while b"ok" not in received:
            received += connection.recv(2**16)
        server.close()
    assert capsys.readouterr().err == ""


def test_received_bytes_extend_the_timeout_of_an_upload() -> None:
    class Connection:
        their_state = our_state = "SEND_BODY"

    protocol = TimeoutProtocol.__new__(TimeoutProtocol)
    protocol.conn = Connection()
    protocol._num_bytes = 200 * 2**20
    assert protocol.allowed_seconds() > 24 * 3600
    protocol._num_bytes = 0
    assert protocol.allowed_seconds() == TimeoutProtocol.body_seconds


def test_a_port_in_use_or_unavailable_address_raises_an_error(server: Server) -> None:
    port = int(server.url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(InvalidInputError, match=f"cannot listen on port {port} of 127.0.0.1"):
        Server(None, host="127.0.0.1", port=port)
    with pytest.raises(InvalidInputError, match="the address is not available"):
        Server(None, host="192.0.2.1", port=0)
