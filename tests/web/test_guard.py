"""Requests that the middleware allows or rejects, without a server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from quovadis.errors import InvalidInputError
from quovadis.web.guard import Guard

HOST = "127.0.0.1:7860"


def ask(
    headers: dict[str, str],
    method: str = "POST",
    path: str = "/gradio_api/upload",
    *,
    host: str = "127.0.0.1",
    allowed_hosts: tuple[str, ...] = (),
) -> int:
    """Return the status of the response; the guarded application returns 200."""
    pytest.importorskip("starlette", reason="needs starlette, which comes with the extra web")
    statuses = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    guard = Guard(app, host=host, allowed_hosts=allowed_hosts, max_upload_bytes=10, upload_folder=Path("none"))
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "method": method, "path": path, "headers": raw}, receive, send))
    (status,) = statuses
    return int(status)


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "127.9.9.9"])
def test_local_requests_are_allowed(host: str) -> None:
    assert ask({"host": host}) == 200
    assert ask({"host": host, "origin": f"http://{host}"}) == 200
    assert ask({"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}) == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "192.0.2.7",
        "a@b",
    ],
)
def test_foreign_host_names_are_rejected(host: str, method: str) -> None:
    assert ask({"host": host}, method) == 403
    assert ask({"host": host, "origin": f"http://{host}"}, method) == 403


def test_a_request_without_a_host_is_rejected() -> None:
    assert ask({}) == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:8888",
        "http://127.0.0.1",
        "http://localhost:7860",
        "",
        "x://[",
        "file://",
    ],
)
def test_foreign_origins_are_refused(origin: str) -> None:
    for path in ("/gradio_api/upload", "/gradio_api/call/recognize", "/gradio_api/queue/join", "/gradio_api/cancel"):
        assert ask({"host": HOST, "origin": origin}, path=path) == 403
        assert ask({"host": HOST, "origin": origin, "sec-fetch-site": "same-origin"}, path=path) == 403


def test_cross_site_requests_are_rejected_except_links() -> None:
    for site in ("cross-site", "same-site"):
        headers = {"host": HOST, "sec-fetch-site": site}
        assert ask(headers) == 403
        assert ask(headers | {"sec-fetch-mode": "navigate"}) == 403
        assert ask(headers | {"sec-fetch-mode": "no-cors"}, "GET") == 403
        assert ask(headers | {"sec-fetch-mode": "navigate"}, "GET", "/") == 200
    assert ask({"host": HOST, "sec-fetch-site": "none"}, "GET", "/") == 200


@pytest.mark.parametrize("named", ["video.example", "Video.Example:8443", "https://video.example/"])
def test_allowed_hosts_may_name_a_proxy(named: str) -> None:
    origin = {"origin": "https://video.example"}
    for headers in (
        {"host": "video.example"},
        {"host": "video.example"} | origin,
        {"host": HOST} | origin,  # a proxy that calls the server by its address
        {"host": "video.example", "origin": "https://video.example:8443"},
    ):
        assert ask(headers, allowed_hosts=(named,)) == 200
    assert ask({"host": "evil.example"}, allowed_hosts=(named,)) == 403
    assert ask({"host": "video.example", "origin": "https://evil.example"}, allowed_hosts=(named,)) == 403


def test_a_server_on_all_networks_accepts_addresses_and_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Workstation")
    for host in ("0.0.0.0", "::"):
        for name in ("192.0.2.7:7860", "[2001:db8::1]:7860", "localhost:7860", "workstation:7860", "workstation.local"):
            assert ask({"host": name, "origin": f"http://{name}"}, host=host) == 200
        assert ask({"host": "evil.example"}, host=host) == 403
        assert ask({"host": "192.0.2.7", "origin": "http://192.0.2.8"}, host=host) == 403
    assert ask({"host": "192.0.2.7"}, host="192.0.2.7") == 200
    assert ask({"host": "192.0.2.8"}, host="192.0.2.7") == 403
    assert ask({"host": "workstation"}, host="127.0.0.1") == 403


def test_invalid_allowed_hosts_are_rejected() -> None:
    for name in ("", "https://", ":80"):
        with pytest.raises(InvalidInputError, match="--allowed-hosts must be host names"):
            ask({"host": HOST}, allowed_hosts=(name,))
