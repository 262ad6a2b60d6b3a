"""Downloads from a local server that fails in scripted ways."""

import hashlib
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from quovadis.errors import DownloadError, StorageError
from quovadis.runtime.download import RetryPolicy, download
from quovadis.runtime.hashing import git_blob_id, sha256
from tests.http_server import CONTENT, Server

QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.001, timeout_seconds=2)


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
def test_download_completes_despite_server_failures(server: Server, tmp_path: Path, script: list[str]) -> None:
    server.script = list(script)
    target = tmp_path / "deep" / "file.bin"
    assert download(server.url, target, problem, retry_policy=QUICK).read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["file.bin"]
    assert server.script == []


def test_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.script = ["cut"]
    seen: list[tuple[int, int | None]] = []
    download(
        server.url, tmp_path / "f", problem, retry_policy=QUICK, progress=lambda done, total: seen.append((done, total))
    )
    assert server.ranges == [None, "bytes=500000-"]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_partial_file_of_an_earlier_run_is_resumed(server: Server, tmp_path: Path) -> None:
    server.script = ["cut", "404"]
    with pytest.raises(DownloadError, match="404 Not Found"):
        download(server.url, tmp_path / "f", problem, retry_policy=QUICK)
    assert (tmp_path / "f.part").stat().st_size == 500_000
    download(server.url, tmp_path / "f", problem, retry_policy=QUICK)
    assert server.ranges[-1] == "bytes=500000-"
    assert not (tmp_path / "f.part").exists()


def test_complete_partial_file_is_used_and_too_long_one_is_restarted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "f", problem, retry_policy=QUICK).read_bytes() == CONTENT
    (tmp_path / "g.part").write_bytes(CONTENT + b"more")
    assert download(server.url, tmp_path / "g", problem, retry_policy=QUICK).read_bytes() == CONTENT


def test_wrong_bytes_are_rejected_and_kept(server: Server, tmp_path: Path) -> None:
    server.script = ["wrong"]
    with pytest.raises(DownloadError, match=r"wrong bytes: other bytes.*f\.rejected"):
        download(server.url, tmp_path / "f", problem, retry_policy=QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.rejected"]
    assert (tmp_path / "f.rejected").read_bytes()[1:] == CONTENT[1:]
    assert download(server.url, tmp_path / "f", problem, retry_policy=QUICK).read_bytes() == CONTENT


def test_404_is_not_retried(server: Server, tmp_path: Path) -> None:
    server.script = ["404"]
    with pytest.raises(DownloadError, match="404 Not Found; the file may have moved"):
        download(server.url, tmp_path / "f", problem, retry_policy=QUICK)
    assert len(server.ranges) == 1


def test_permanent_server_error_gives_advice(server: Server, tmp_path: Path) -> None:
    server.script = ["500"] * 10
    with pytest.raises(DownloadError, match=r"500 .*3 times in a row.*fetch http.* and save it as .*/f"):
        download(server.url, tmp_path / "f", problem, retry_policy=QUICK)
    assert len(server.ranges) == 3


def test_offline_error_names_url_and_target(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(DownloadError, match=r"To download by hand, fetch http.* and save it as .*/f"):
        download(server.url, tmp_path / "f", problem, retry_policy=QUICK)


def test_concurrent_downloads_fetch_the_file_once(server: Server, tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=download, args=(server.url, tmp_path / "f", problem), kwargs={"retry_policy": QUICK})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(server.ranges) == 1


def test_unwritable_folder_raises_storage_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot write"):
        download(server.url, tmp_path / "file" / "f", problem, retry_policy=QUICK)


def test_a_proxy_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # urllib reads the environment once
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "direct.example")
    with pytest.raises(DownloadError, match=r"Connection refused \(through the proxy 127\.0\.0\.1:9\)"):
        download("http://weights.example/f", tmp_path / "f", problem, retry_policy=QUICK)
    monkeypatch.setattr(urllib.request, "_opener", None)
    monkeypatch.setenv("http_proxy", "gone.invalid:3128")
    with pytest.raises(DownloadError, match=r"the host name of the proxy, gone\.invalid:3128, does not resolve"):
        download("http://weights.example/f", tmp_path / "f", problem, retry_policy=QUICK)
    with pytest.raises(DownloadError, match=r"the host name direct\.example does not resolve"):
        download("http://direct.example/f", tmp_path / "f", problem, retry_policy=QUICK)


def test_hashes_match_git_and_hashlib(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git's own documentation
    assert sha256(tmp_path / "a") == hashlib.sha256(b"hello\n").hexdigest()


def test_unresolvable_host_fails_without_retries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def offline(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"weights\.example does not resolve .*To download by hand, fetch"):
        download("http://weights.example/f", tmp_path / "f", problem, retry_policy=QUICK)
    assert len(asked) == 1
