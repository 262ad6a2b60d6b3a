"""A local HTTP server that simulates failures."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import numpy as np

CONTENT = np.random.default_rng(0).bytes(1_000_000)


class Server(ThreadingHTTPServer):
    """Responds according to ``script``, with one entry per request, and then normally."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        self.content = CONTENT
        self.files: dict[str, bytes] = {}
        """Files by path. If it is empty, every path returns ``content``."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may disconnect
            super().handle_error(request, client_address)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return f"{self.root}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        range_header = self.headers.get("Range")
        self.server.ranges.append(range_header)
        self.server.paths.append(self.path)
        behavior = self.server.script.pop(0) if self.server.script else "normal"
        if self.server.files and unquote(self.path) not in self.server.files:
            behavior = "404"
        if behavior.isdigit():
            self.send_response(int(behavior))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif behavior == "redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif behavior == "hang up":
            self.close_connection = True
        else:
            self._send(behavior, range_header)

    def _send(self, behavior: str, range_header: str | None) -> None:
        content = self.server.files.get(unquote(self.path), self.server.content)
        start = int(range_header.removeprefix("bytes=").rstrip("-")) if range_header and behavior != "no ranges" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        if behavior == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if behavior != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behavior == "cut":
            body = body[: max(len(body) // 2, 1)]
            self.close_connection = True
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server on a free port during the block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
