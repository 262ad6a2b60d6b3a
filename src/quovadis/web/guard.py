"""What the page refuses before any of its routes runs: foreign sites and host names, large and aborted bodies."""

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
"""Of a request that is not an upload."""
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """ASGI middleware for a page that only its own origin may use.

    It refuses

    - ``Host`` headers that do not name this server. A web site whose name is pointed at this machine (DNS rebinding) is
      of the same origin as itself, so only the name gives it away.
    - requests that a browser sends for another site: a foreign ``Origin``, or ``Sec-Fetch-Site`` other than this site,
      except for links to the page. Programs send neither header.
    - bodies that are too large.

    An upload that does not arrive completely leaves no file behind.

    Args:
        app: The application.
        host: The address that the server listens at.
        allowed_hosts: More names by which browsers may call it, such as the name of a reverse proxy, without port.
        max_upload_bytes: Largest body of an upload.
        upload_folder: Where the application stores uploads.

    Raises:
        InvalidInputError: One of ``allowed_hosts`` is not a name.
    """

    def __init__(
        self, app: App, *, host: str, allowed_hosts: Iterable[str], max_upload_bytes: int, upload_folder: Path
    ):
        self._app, self._host = app, host
        self._allowed = set(map(_named, allowed_hosts))
        self._max_upload_bytes, self._folder = max_upload_bytes, upload_folder
        self._num_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        problem = self._problem(headers, scope.get("method", "GET"))
        if problem:
            await _refuse(send, 403, problem)
        elif scope["type"] == "http" and scope["path"] == _UPLOAD_ROUTE and scope["method"] == "POST":
            await self._upload(scope, receive, send)
        else:
            await self._app(scope, _bounded(receive, _MAX_CALL_BYTES), send)

    def _problem(self, headers: dict[str, str], method: str) -> str:
        """Why a request is refused; empty if it is not."""
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _host_name(f"//{host}")
        if name not in self._allowed and not is_own_name(name, self._host):
            return f"this server is not {name or 'without a name'}; quovadis serve --allowed-hosts adds names"
        if origin is not None:
            if origin.lower().partition("://")[2] != host.lower() and _host_name(origin) not in self._allowed:
                return f"requests of the site {origin} are refused; quovadis serve --allowed-hosts adds sites"
            return ""
        is_link = method in _SAFE_METHODS and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not is_link:
            return "requests of another site are refused"
        return ""

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._num_uploads += 1
        try:
            await self._app(scope, _whole(_bounded(receive, self._max_upload_bytes)), send)
        finally:
            self._num_uploads -= 1
            if not self._num_uploads and self._folder.is_dir():
                # Parts that belong to no file field, and empty files of gr.File. Complete uploads have folders.
                for file in self._folder.iterdir():
                    if file.is_file():
                        file.unlink(missing_ok=True)


def is_own_name(name: str, host: str) -> bool:
    """Whether a host name from a request can only be this machine, for a server that listens at ``host``.

    >>> is_own_name("localhost", "127.0.0.1"), is_own_name("evil.example", "127.0.0.1")
    (True, False)
    >>> is_own_name("192.0.2.7", "0.0.0.0"), is_own_name("192.0.2.7", "127.0.0.1")
    (True, False)
    """
    host = host.lower().strip("[]")
    if name in ("localhost", host):
        return True
    asked, own = _address(name), _address(host)
    if asked is not None:
        return asked.is_loopback or (own is not None and own.is_unspecified)
    machine = socket.gethostname().lower()
    is_local = host == "localhost" or (own is not None and own.is_loopback)
    return not is_local and name in (machine, f"{machine.partition('.')[0]}.local")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _named(host: str) -> str:
    """The name in what a user calls a host: ``example.org``, ``example.org:8443`` or ``https://example.org``."""
    name = _host_name(host if "//" in host else f"//{host}")
    if not name:
        raise InvalidInputError(f"--allowed-hosts takes names such as example.org; got {host!r}")
    return name


def _host_name(url: str) -> str:
    """The name without the port; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """Receive at most so many bytes; the routes answer the exception with status 413 or 400."""
    from starlette.formparsers import MultiPartException

    num_bytes = 0

    async def receive_bounded() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise MultiPartException(f"The request exceeded the maximum allowed size of {max_bytes} bytes.")
        return message

    return receive_bounded


def _whole(receive: Receive) -> Receive:
    """Raise where a body is aborted: of all errors, Gradio's upload route removes its files only for this one."""
    from starlette.formparsers import MultiPartException

    complete = False

    async def receive_whole() -> Message:
        nonlocal complete
        message = await receive()
        if message["type"] == "http.disconnect" and not complete:
            raise MultiPartException("the request was aborted")
        complete = complete or not message.get("more_body", False)
        return message

    return receive_whole


async def _refuse(send: Send, status: int, words: str) -> None:
    body = words.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
