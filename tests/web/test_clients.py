"""Clients that disconnect from a running server."""

import json
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.web.conftest import Served
from tests.web.test_http import post, upload

pytestmark = pytest.mark.slow
_SECONDS = 60
_MAX_BYTES = 2 * 2**20


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").strip("/").split(":")
    return socket.create_connection((host, int(port)), timeout=_SECONDS)


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < until, "timeout"
        time.sleep(0.02)


def parts(server: Served) -> list[Path]:
    """Files of incomplete uploads; Gradio leaves empty files of complete ones."""
    files = server.folder.glob("quovadis-serve-*/uploads/*")
    return [file for file in files if file.is_file() and file.stat().st_size > 0]


def upload_head(field: str = "files", name: str | None = "v.mp4", num_bytes: int = 10**6) -> tuple[bytes, bytes]:
    """The head of a request, and of its only part."""
    file = "" if name is None else f'; filename="{name}"'
    part = f'--edge\r\nContent-Disposition: form-data; name="{field}"{file}\r\n\r\n'.encode()
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=edge\r\n"
    return f"{head}Content-Length: {len(part) + num_bytes}\r\n\r\n".encode(), part


def test_an_aborted_upload_leaves_no_file(server: Served) -> None:
    others = [connect(server.url) for _ in range(2)]
    for connection in others:  # so that other uploads are always in progress
        connection.sendall(b"".join(upload_head()) + bytes(100_000))
    wait_until(lambda: len(parts(server)) == 2)
    for _ in range(2):
        with closing(connect(server.url)) as connection:
            connection.sendall(b"".join(upload_head()) + bytes(500_000))
            wait_until(lambda: len(parts(server)) == 3)
        wait_until(lambda: len(parts(server)) == 2)
    for connection in others:
        connection.close()
    wait_until(lambda: not parts(server))


@pytest.mark.parametrize(
    ("field", "name", "num_bytes", "status"),
    [
        ("files", "v.mp4", 1000, b"200"),  # the end is missing: no part is complete
        ("other", "v.mp4", 1000, b"200"),
        ("files", "v.mp4", 2 * _MAX_BYTES, b"413"),
        ("files", None, 16 * _MAX_BYTES, b"413"),  # not a file: Gradio keeps it in memory
    ],
)
def test_malformed_uploads_leave_no_file(
    field: str, name: str | None, num_bytes: int, status: bytes, server: Served
) -> None:
    with closing(connect(server.url)) as connection:
        connection.sendall(b"".join(upload_head(field, name, num_bytes)) + bytes(num_bytes))
        assert connection.recv(2**16).split()[1] == status
    wait_until(lambda: not parts(server))


def test_a_large_call_is_rejected(server: Served) -> None:
    body = json.dumps({"data": ["x" * 2**21, ""]}).encode()
    with closing(connect(server.url)) as connection:
        head = f"POST /gradio_api/call/recognize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        assert connection.recv(2**16).split()[1] in (b"400", b"413")


def test_the_job_of_a_disconnected_client_is_canceled(server: Served, clip: Path) -> None:
    video = upload(server, clip, "endless.mp4")
    route = f"{server.url}gradio_api/call/recognize"
    event = post(route, json.dumps({"data": [video, ""]}).encode(), "application/json")["event_id"]
    canceled = Path(video["path"]).with_name("canceled")
    with urlopen(f"{route}/{event}", timeout=_SECONDS) as stream:
        assert any(b"working" in line for line in stream)
        assert not canceled.exists()
    wait_until(canceled.exists)
