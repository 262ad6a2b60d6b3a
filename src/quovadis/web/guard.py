"""Middleware that rejects cross-site requests, unknown host names, and large or aborted request bodies."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quovadis.errors import InvalidInputError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_UPLOAD_ROUTE = "/gradio_api/upload"
_MAX_CALL_BYTES = 2**20
"""Limit for requests other than uploads."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware that allows same-origin requests only.

    It rejects

    - ``Host`` headers that do not name this server. This prevents DNS rebinding, where a foreign name resolves to this
      machine and therefore counts as the same origin.
    - cross-site requests of browsers: a foreign ``Origin``, or ``Sec-Fetch-Site`` other than this site, except for
      links to the page. Programs send neither header.
    - bodies that are too large.

    Files of incomplete uploads are deleted.

    Args:
        app: The application.
        host: The address at which the server listens.
        allowed_hosts: Additional host names, such as the name of a reverse proxy.
        max_upload_bytes: Maximum size of the body of an upload.
        upload_folder: Folder in which the application stores uploads.

    Raises:
        InvalidInputError: If one of ``allowed_hosts`` is not a host name.
    """

    def __init__(
        self, app: App, *, host: str, allowed_hosts: Iterable[str], max_upload_bytes: int, upload_folder: Path
    ):
        self._app, self._host = app, host
        self._allowed = set(map(_parse_host, allowed_hosts))
        self._max_upload_bytes, self._folder = max_upload_bytes, upload_folder
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reject a request or pass it to the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        problem = self._find_problem(headers, scope.get("method", "GET"))
        if problem:
            await _reject(send, 403, problem)
        elif scope["type"] == "http" and scope["path"] == _UPLOAD_ROUTE and scope["method"] == "POST":
            await self._upload(scope, receive, send)
        else:
            await self._app(scope, _limit_size(receive, _MAX_CALL_BYTES), send)

    def _find_problem(self, headers: dict[str, str], method: str) -> str:
        """Return why a request is rejected; empty if it is allowed."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _host_name(f"//{host}")
        if name not in self._allowed and not is_own_name(name, self._host):
            return f"host name {name!r} is not allowed; add it with quovadis serve --allowed-hosts"
        if origin is not None:
            if origin.lower().partition("://")[2] != host.lower() and _host_name(origin) not in self._allowed:
                return f"requests from the site {origin} are not allowed; add it with quovadis serve --allowed-hosts"
            return ""
        is_link = method in _SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return "cross-site requests are not allowed"
        return ""

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._num_uploads += 1
        try:
            await self._app(scope, _require_complete(_limit_size(receive, self._max_upload_bytes)), send)
        finally:
            self._num_uploads -= 1
            if not self._num_uploads and self._folder.is_dir():
                # Gradio moves complete uploads to subfolders; the remaining files are incomplete or unused parts.
                for file in self._folder.iterdir():
                    if file.is_file():
                        file.unlink(missing_ok=True)


def is_own_name(name: str, host: str) -> bool:
    """Return whether a host name in a request names this machine, for a server that listens at ``host``.

    Example:
        >>> is_own_name("localhost", "127.0.0.1"), is_own_name("evil.example", "127.0.0.1")
        (True, False)
        >>> is_own_name("192.0.2.7", "0.0.0.0"), is_own_name("192.0.2.7", "127.0.0.1")
        (True, False)
    """
    host = host.lower().strip("[]")
    if name in ("localhost", host):
        return True
    requested, own = _address(name), _address(host)
    if requested is not None:
        return requested.is_loopback or (own is not None and own.is_unspecified)
    machine = socket.gethostname().lower()
    is_local = host == "localhost" or (own is not None and own.is_loopback)
    return not is_local and name in (machine, f"{machine.partition('.')[0]}.local")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _parse_host(host: str) -> str:
    """Extract the name from ``example.org``, ``example.org:8443`` or ``https://example.org``."""
    name = _host_name(host if "//" in host else f"//{host}")
    if not name:
        raise InvalidInputError(f"--allowed-hosts must be host names such as example.org; got {host!r}")
    return name


def _host_name(url: str) -> str:
    """Extract the host name from a URL; empty if it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _limit_size(receive: Receive, max_bytes: int) -> Receive:
    """Raise if a body exceeds ``max_bytes``; the routes turn the exception into status 413 or 400."""
    from starlette.formparsers import MultiPartException

    num_bytes = 0

    async def receive_limited() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise MultiPartException(f"The request exceeded the maximum allowed size of {max_bytes} bytes.")
        return message

    return receive_limited


def _require_complete(receive: Receive) -> Receive:
    """Raise if a body is aborted. Gradio's upload route deletes its files for this exception type only."""
    from starlette.formparsers import MultiPartException

    complete = False

    async def receive_complete() -> Message:
        nonlocal complete
        message = await receive()
        if message["type"] == "http.disconnect" and not complete:
            raise MultiPartException("the request was aborted")
        complete = complete or not message.get("more_body", False)
        return message

    return receive_complete


async def _reject(send: Send, status: int, message: str) -> None:
    body = message.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
