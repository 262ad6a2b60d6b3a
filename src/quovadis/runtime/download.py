"""One file from the network to the disk, whole and proven, or an error that says what to do by hand.

Written on urllib and not on a download library: the house's usual one starts again from the beginning when a
connection is cut, and throws away what did not match its hash. Fifty megabytes over a bad line need resuming, and wrong
bytes are evidence (a proxy's login page, a moved file), so they are kept aside as ``.rejected``.
"""

import contextlib
import hashlib
import http.client
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quovadis.errors import DownloadError, StorageError
from quovadis.version import __version__

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes of the whole file, if the server said."""

_CHUNK_BYTES = 2**18
_LONGEST_WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try. The defaults suit a person who waits at a terminal."""

    attempts: int = 4
    """Without any progress between them."""
    first_wait_seconds: float = 1.0
    """Doubles after each failure; a server's ``Retry-After`` goes first."""
    timeout_seconds: float = 30.0
    """Without a byte."""


class _TryAgain(Exception):
    """The network or the server failed in a way that may pass."""

    def __init__(self, reason: str, wait_seconds: float | None = None):
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _NoSuchHost(Exception):
    """The name does not resolve: there is no network, and waiting does not help."""


def download(
    url: str,
    target: Path,
    problem_with: Callable[[Path], str],
    *,
    progress: Progress | None = None,
    patience: RetryPolicy | None = None,
    advice: str | None = None,
) -> Path:
    """Fetch a file unless it is there, going on from where an earlier try was cut.

    Args:
        url: where the file is.
        target: where it shall lie. Until it is whole and proven it is called ``NAME.part`` beside that.
        problem_with: looks at the whole file and says what is wrong with its bytes, or ``""``.
        progress: told about every chunk.
        patience: how often to try and how long to wait.
        advice: ends the message of an error for want of a connection; by default, what to fetch by hand.

    Raises:
        DownloadError: the server has no such file, stays silent or broken, or sent wrong bytes (kept as
            ``NAME.rejected``).
        StorageError: it cannot be written.
    """
    patience = patience or RetryPolicy()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        with alone(part):
            if target.exists():  # another process fetched it while this one waited
                return target
            _fetch(url, part, patience, progress, _by_hand(url, target) if advice is None else advice)
            problem = problem_with(part)
            if problem:
                rejected = target.with_name(target.name + ".rejected")
                part.replace(rejected)
                raise DownloadError(
                    f"{url} sent wrong bytes: {problem}. They are kept as {rejected} and not used; look whether a "
                    "proxy answered in its place, and try again"
                )
            part.replace(target)
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error
    return target


def _fetch(url: str, part: Path, patience: RetryPolicy, progress: Progress | None, advice: str) -> None:
    """Bring ``part`` to its full length."""
    wait, failures = patience.first_wait_seconds, 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(url, part, before, patience.timeout_seconds, progress)
            return
        except _NoSuchHost as failure:
            raise DownloadError(f"cannot fetch {url}: {failure}. {advice}".rstrip()) from failure
        except _TryAgain as failure:
            grown = part.exists() and part.stat().st_size > before
            failures = 1 if grown else failures + 1
            if failures >= patience.attempts:
                raise DownloadError(
                    f"cannot fetch {url}: {failure} ({failures} times in a row). {advice}".rstrip()
                ) from failure
            asked = failure.wait_seconds
            time.sleep(min(asked if asked is not None else wait, _LONGEST_WAIT_SECONDS))
            wait = patience.first_wait_seconds if grown else 2 * wait


def _attempt(url: str, part: Path, have: int, timeout_seconds: float, progress: Progress | None) -> None:
    """One connection: from byte ``have`` to the end."""
    # "identity": a compressed answer would have other lengths and other bytes.
    headers = {"User-Agent": f"quovadis/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_seconds) as answer:
            resumed = answer.status == 206 and _starts_at(answer.headers.get("Content-Range"), have)
            length = answer.headers.get("Content-Length")
            start = have if resumed else 0  # a server that does not resume sends everything again
            total = start + int(length) if length and length.isdigit() else None
            with part.open("r+b" if resumed else "wb") as file:
                file.seek(start)
                received = _copy(answer, file, start, total, progress)
            if total is not None and received < total:
                raise _TryAgain(f"the connection was cut after {received} of {total} bytes")
    except urllib.error.HTTPError as error:
        _judge(error, url, part)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, socket.gaierror):
            host = urllib.parse.urlsplit(url).hostname
            raise _NoSuchHost(f"no connection: the name {host} does not resolve ({reason.strerror})") from error
        raise _TryAgain(str(reason) or type(error).__name__) from error
    except ValueError as error:
        raise DownloadError(f"{url} is no address that can be fetched: {error}") from error


def _copy(answer: IO[bytes], file: IO[bytes], done: int, total: int | None, progress: Progress | None) -> int:
    while True:
        try:
            chunk = answer.read(_CHUNK_BYTES)
        except http.client.IncompleteRead as error:
            file.write(error.partial)
            raise _TryAgain("the connection was cut") from error
        if not chunk:
            return done
        file.write(chunk)
        done += len(chunk)
        if progress is not None:
            progress(done, total)


def _judge(error: urllib.error.HTTPError, url: str, part: Path) -> None:
    """An answer that is no success: worth waiting for, or final."""
    with error:
        if error.code == 416:  # "nothing after that": the part is whole, or it belongs to something else
            total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
            if total.isdigit() and part.stat().st_size == int(total):
                return
            part.unlink()
            raise _TryAgain("the server refused to go on from the part that was here; starting again", 0.0)
        if error.code in (408, 425, 429) or error.code >= 500:
            asked = error.headers.get("Retry-After") or ""
            raise _TryAgain(
                f"the server answered {error.code} {error.reason}", float(asked) if asked.isdigit() else None
            )
        raise DownloadError(f"{url}: the server answered {error.code} {error.reason}; the file may have moved")


def _starts_at(content_range: str | None, have: int) -> bool:
    return (content_range or "").startswith(f"bytes {have}-")


def _by_hand(url: str, target: Path) -> str:
    return f"Without a connection: fetch {url} on another machine and put it at {target}"


@contextlib.contextmanager
def alone(part: Path) -> Iterator[None]:
    """Let one process at a time write this file; where the system has no such locks, trust the caller."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    lock = part.with_name(part.name + ".lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if not part.exists():  # else others wait for this very file, to go on
                lock.unlink(missing_ok=True)


def git_blob_id(path: Path) -> str:
    """What git calls a file with these bytes: sha1 of "blob", its size, a zero byte and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    return _hash_into(digest, path)


def sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    return _hash_into(hashlib.sha256(), path)


def _hash_into(digest: "hashlib._Hash", path: Path) -> str:
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
