"""Download one file over HTTP, with resuming, retries and verification.

Built on urllib because common download libraries restart an interrupted transfer and discard a file with a wrong hash.
Large files over an unreliable connection need resuming, and wrong bytes help to find the cause (a proxy's login page, a
moved file), so they are kept as ``NAME.rejected``.
"""

import http.client
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quovadis.errors import DownloadError, StorageError
from quovadis.runtime.locks import file_lock
from quovadis.version import __version__

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes received and the size of the file, or None if the server did not send the size."""

_CHUNK_BYTES = 2**18
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up a download. The defaults suit interactive use."""

    attempts: int = 4
    """Number of consecutive attempts without progress."""
    first_wait_seconds: float = 1.0
    """Wait after the first failure; doubled after each further one. A ``Retry-After`` header takes precedence."""
    timeout_seconds: float = 30.0
    """Longest time without receiving data."""


class _TryAgain(Exception):
    """A failure of the network or the server that may be temporary."""

    def __init__(self, reason: str, wait_seconds: float | None = None):
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _NoSuchHost(Exception):
    """The host name does not resolve; trying again does not help."""


def download(
    url: str,
    target: Path,
    verify: Callable[[Path], str],
    *,
    progress: Progress | None = None,
    retry_policy: RetryPolicy | None = None,
    advice: str | None = None,
) -> Path:
    """Download a file unless it exists, continuing a partial download.

    Args:
        url: URL of the file.
        target: Path of the file. Until it is complete and verified, it is called ``NAME.part``.
        verify: Called with the path of the complete file; returns what is wrong with it, or ``""``.
        progress: Called after each received chunk.
        retry_policy: Number of attempts and waiting times.
        advice: End of the error message when there is no connection. By default, which file to download by hand.

    Returns:
        The path of the file.

    Raises:
        DownloadError: If the server does not have the file, does not respond, or sent wrong bytes (kept as
            ``NAME.rejected``).
        StorageError: If the file cannot be written.
    """
    retry_policy = retry_policy or RetryPolicy()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with file_lock(part):
            if target.exists():  # another process downloaded it while this one waited
                return target
            if advice is None:
                advice = f"To download by hand, fetch {url} on another machine and save it as {target}"
            _fetch(url, part, retry_policy, progress, advice)
            problem = verify(part)
            if problem:
                rejected = target.with_name(target.name + ".rejected")
                part.replace(rejected)
                raise DownloadError(
                    f"{url} sent wrong bytes: {problem}. They were saved as {rejected} and are not used; check "
                    "whether a proxy answered instead of the server, and try again"
                )
            part.replace(target)
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _fetch(url: str, part: Path, retry_policy: RetryPolicy, progress: Progress | None, advice: str) -> None:
    """Complete the partial file, with retries."""
    wait, failures = retry_policy.first_wait_seconds, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, before, retry_policy.timeout_seconds, progress)
            return
        except _NoSuchHost as failure:
            raise DownloadError(f"cannot download {url}: {failure}. {advice}".rstrip()) from failure
        except _TryAgain as failure:
            grown = part.exists() and part.stat().st_size > before
            failures = 1 if grown else failures + 1
            if failures >= retry_policy.attempts:
                raise DownloadError(
                    f"cannot download {url}: {failure} ({failures} times in a row). {advice}".rstrip()
                ) from failure
            asked = failure.wait_seconds
            time.sleep(min(asked if asked is not None else wait, _LONGEST_WAIT_SECONDS))
            wait = retry_policy.first_wait_seconds if grown else 2 * wait


def _attempt(url: str, part: Path, have: int, timeout_seconds: float, progress: Progress | None) -> None:
    """Receive the file from byte ``have`` on, in one connection."""
    # "identity": the lengths and offsets of a compressed response do not apply to the file.
    headers = {"User-Agent": f"quovadis/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds) as response:
            resumed = response.status == 206 and _starts_at(response.headers.get("Content-Range"), have)
            length = response.headers.get("Content-Length")
            start = have if resumed else 0  # a server without range support sends the whole file
            total = start + int(length) if length and length.isdigit() else None
            with part.open("r+b" if resumed else "wb") as file:
                file.seek(start)
                received = _copy(response, file, start, total, progress)
            if total is not None and received < total:
                raise _TryAgain(f"the connection was closed after {received} of {total} bytes")
    except urllib.error.HTTPError as error:
        _handle_http_error(error, url, part)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        proxy = _find_proxy(url)
        if isinstance(reason, socket.gaierror):
            host = f"of the proxy, {proxy}," if proxy else urllib.parse.urlsplit(url).hostname
            raise _NoSuchHost(f"no connection: the host name {host} does not resolve ({reason.strerror})") from error
        through = f" (through the proxy {proxy})" if proxy else ""
        raise _TryAgain(f"{reason or type(error).__name__}{through}") from error
    except ValueError as error:
        raise DownloadError(f"{url} is not a valid URL: {error}") from error


def _copy(response: IO[bytes], file: IO[bytes], done: int, total: int | None, progress: Progress | None) -> int:
    while True:
        try:
            chunk = response.read(_CHUNK_BYTES)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            raise _TryAgain("the connection was closed") from error
        if not chunk:
            return done
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total)


def _handle_http_error(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """Raise :class:`_TryAgain` or :class:`DownloadError`; return if the partial file is complete."""
    with error:
        if error.code == 416:  # range not satisfiable: the partial file is complete, or it belongs to another file
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total.isdigit() and part.stat().st_size == int(total):
                return
            part.unlink()
            raise _TryAgain("the server cannot resume from the partial file; restarting", 0.0)
        if error.code in (408, 425, 429) or error.code >= 500:
            asked = error.headers.get("Retry-After") or ""
            raise _TryAgain(
                f"the server answered {error.code} {error.reason}", float(asked) if asked.isdigit() else None
            )
        raise DownloadError(f"{url}: the server answered {error.code} {error.reason}; the file may have moved")


def _find_proxy(url: str) -> str:
    """Return the host and port of the proxy that is used for a URL, without credentials; "" if there is none."""
    parts = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}").netloc.rpartition("@")[2]


def _starts_at(content_range: str | None, have: int) -> bool:
    return (content_range or "").startswith(f"bytes {have}-")
