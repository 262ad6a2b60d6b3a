"""Downloads, against a server of our own that misbehaves on purpose."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from quovadis.errors import StorageError, UnknownNameError, WeightsError
from quovadis.weights import catalog, get
from quovadis.weights.catalog import Published, PublishedFile
from quovadis.weights.download import Patience, download, git_blob_id, sha256
from quovadis.weights.get import cache_folder, get_weights

CONTENT = np.random.default_rng(0).bytes(1_000_000)
QUICK = Patience(attempts=3, first_wait_seconds=0.001, timeout_seconds=2)


class Server(ThreadingHTTPServer):
    """Answers by a script: one word for each request, then honestly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[str] = []
        self.ranges: list[str | None] = []
        self.content = CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        word = self.server.script.pop(0) if self.server.script else "honest"
        if word.isdigit():
            self.send_response(int(word))
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif word == "redirect":
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif word == "hang up":
            self.close_connection = True
        else:
            self._send(word, asked)

    def _send(self, word: str, asked: str | None) -> None:
        content = self.server.content
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and word != "no ranges" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        if word == "wrong":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if word != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if word == "cut":
            body = body[: max(len(body) // 2, 1)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def problem(path: Path) -> str:
    return "" if path.read_bytes() == CONTENT else "other bytes"


@pytest.mark.parametrize(
    "script",
    [
        [],
        ["redirect"],
        ["500"],
        ["429", "503"],
        ["cut"],
        ["cut", "cut", "cut", "cut", "cut"],
        ["hang up"],
        ["cut", "no ranges"],
        ["cut", "500", "redirect", "cut"],
        ["no length"],
    ],
    ids=lambda s: ",".join(s) or "honest",
)
def test_the_file_arrives_whole_whatever_the_server_does(server: Server, tmp_path: Path, script: list[str]) -> None:
    server.script = list(script)
    target = tmp_path / "deep" / "file.bin"
    assert download(server.url, target, problem, patience=QUICK).read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["file.bin"]
    assert server.script == []


def test_a_cut_download_goes_on_from_where_it_was(server: Server, tmp_path: Path) -> None:
    server.script = ["cut"]
    seen: list[tuple[int, int | None]] = []
    download(
        server.url, tmp_path / "f", problem, patience=QUICK, progress=lambda done, total: seen.append((done, total))
    )
    assert server.ranges == [None, "bytes=500000-"]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_another_run_goes_on_from_the_part_that_was_left(server: Server, tmp_path: Path) -> None:
    server.script = ["cut", "404"]
    with pytest.raises(WeightsError, match="404 Not Found"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert (tmp_path / "f.part").stat().st_size == 500_000
    download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert server.ranges[-1] == "bytes=500000-"
    assert not (tmp_path / "f.part").exists()


def test_a_whole_part_is_taken_and_one_that_is_too_long_is_not(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "f", problem, patience=QUICK).read_bytes() == CONTENT
    (tmp_path / "g.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "g", problem, patience=QUICK).read_bytes() == CONTENT


def test_wrong_bytes_are_refused_and_kept_aside(server: Server, tmp_path: Path) -> None:
    server.script = ["wrong"]
    with pytest.raises(WeightsError, match=r"wrong bytes: other bytes.*f\.rejected"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.rejected"]
    assert (tmp_path / "f.rejected").read_bytes()[1:] == CONTENT[1:]
    assert download(server.url, tmp_path / "f", problem, patience=QUICK).read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    server.script = ["404"]
    with pytest.raises(WeightsError, match="404 Not Found; the file may have moved"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert len(server.ranges) == 1


def test_a_server_that_stays_broken_ends_with_advice(server: Server, tmp_path: Path) -> None:
    server.script = ["500"] * 10
    with pytest.raises(WeightsError, match=r"500 .*3 times in a row.*fetch http.* and put it at .*/f"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert len(server.ranges) == 3


def test_offline_says_what_to_fetch_and_where_to_put_it(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(WeightsError, match=r"Without a connection: fetch http.* and put it at .*/f"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)


def test_two_at_once_fetch_it_once(server: Server, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=download, args=(server.url, tmp_path / "f", problem), kwargs={"patience": QUICK})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_a_folder_that_cannot_be_written_is_a_storage_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        download(server.url, tmp_path / "file" / "f", problem, patience=QUICK)


def test_hashes_are_gits_and_the_worlds(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git's own documentation
    assert sha256(tmp_path / "a") == hashlib.sha256(b"hello\n").hexdigest()


# By name of the catalogue


@pytest.fixture
def entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> Published:
    blob = hashlib.sha1(b"blob 1000000\0" + CONTENT).hexdigest()
    entry = Published(
        name="test-weights",
        title="bytes",
        project="nobody",
        licence="none",
        stream="rgb",
        num_classes=400,
        dataset="kinetics400",
        files=(
            PublishedFile("one", server.url, git_blob_id=blob, size_bytes=len(CONTENT)),
            PublishedFile("two", server.url, sha256_prefix=hashlib.sha256(CONTENT).hexdigest()[:8]),
        ),
    )
    monkeypatch.setitem(catalog.CATALOG, entry.name, entry)
    return entry


def test_weights_are_fetched_once_and_proven_each_time(
    server: Server, entry: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path))
    path = get_weights("test-weights", patience=QUICK)
    assert path == tmp_path / "weights" / "test-weights" / "one"
    assert get_weights("test-weights", patience=QUICK) == path
    assert len(server.ranges) == 2
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"git blob id is .*; the published file has .*move it away"):
        get_weights("test-weights", patience=QUICK)


def test_a_mirrors_bytes_are_proven_too(server: Server, entry: Published, tmp_path: Path) -> None:
    mirror = server.url.removesuffix("/file.bin")
    assert get_weights("test-weights", folder=tmp_path, mirror=mirror, patience=QUICK).is_file()
    server.content = bytes(len(CONTENT))
    with pytest.raises(WeightsError, match="wrong bytes: its git blob id"):
        get_weights("test-weights", folder=tmp_path / "other", mirror=mirror, patience=QUICK)


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUOVADIS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "quovadis" / "weights"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "quovadis" / "weights"
    with pytest.raises(UnknownNameError, match="did you mean 'i3d-rgb-kinetics400'"):
        get.get_weights("i3d-rgb-kinetics40")
