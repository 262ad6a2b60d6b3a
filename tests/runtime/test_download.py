"""Downloads, against a server of our own that misbehaves on purpose."""

import hashlib
import socket
import threading
from pathlib import Path

import pytest

from quovadis.errors import DownloadError, StorageError
from quovadis.runtime.download import RetryPolicy, download, git_blob_id, sha256
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
    with pytest.raises(DownloadError, match="404 Not Found"):
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
    with pytest.raises(DownloadError, match=r"wrong bytes: other bytes.*f\.rejected"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.rejected"]
    assert (tmp_path / "f.rejected").read_bytes()[1:] == CONTENT[1:]
    assert download(server.url, tmp_path / "f", problem, patience=QUICK).read_bytes() == CONTENT


def test_a_missing_file_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    server.script = ["404"]
    with pytest.raises(DownloadError, match="404 Not Found; the file may have moved"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert len(server.ranges) == 1


def test_a_server_that_stays_broken_ends_with_advice(server: Server, tmp_path: Path) -> None:
    server.script = ["500"] * 10
    with pytest.raises(DownloadError, match=r"500 .*3 times in a row.*fetch http.* and put it at .*/f"):
        download(server.url, tmp_path / "f", problem, patience=QUICK)
    assert len(server.ranges) == 3


def test_offline_says_what_to_fetch_and_where_to_put_it(server: Server, tmp_path: Path) -> None:
    server.server_close()
    with pytest.raises(DownloadError, match=r"Without a connection: fetch http.* and put it at .*/f"):
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


def test_a_name_that_does_not_resolve_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def offline(*arguments: object, **_: object) -> None:
        asked.append(arguments)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DownloadError, match=r"weights\.example does not resolve .*Without a connection: fetch"):
        download("http://weights.example/f", tmp_path / "f", problem, patience=QUICK)
    assert len(asked) == 1
