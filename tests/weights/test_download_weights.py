"""Tests of downloading published weights."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from quovadis.errors import DownloadError, UnknownNameError, WeightsError
from quovadis.runtime.download import RetryPolicy
from quovadis.weights import catalog
from quovadis.weights import download as get
from quovadis.weights.catalog import CatalogEntry, CatalogFile
from quovadis.weights.download import cache_folder, get_weights, identify_published
from tests.http_server import CONTENT, Server

QUICK = RetryPolicy(attempts=3, first_wait_seconds=0.001, timeout_seconds=2)


@pytest.fixture
def entry(server: Server, monkeypatch: pytest.MonkeyPatch) -> CatalogEntry:
    blob = hashlib.sha1(b"blob 1000000\0" + CONTENT).hexdigest()
    entry = CatalogEntry(
        name="test-weights",
        title="bytes",
        project="nobody",
        license="none",
        stream="rgb",
        num_classes=400,
        dataset="kinetics400",
        files=(
            CatalogFile("one", server.url, git_blob_id=blob, size_bytes=len(CONTENT)),
            CatalogFile("two", server.url, sha256_prefix=hashlib.sha256(CONTENT).hexdigest()[:8]),
        ),
    )
    monkeypatch.setitem(catalog.CATALOG, entry.name, entry)
    return entry


def test_weights_are_downloaded_once_and_verified_each_time(
    server: Server, entry: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path))
    path = get_weights("test-weights", retry_policy=QUICK)
    assert path == tmp_path / "weights" / "test-weights" / "one"
    assert get_weights("test-weights", retry_policy=QUICK) == path
    assert len(server.ranges) == 2
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"git blob id is .*; the published file has .*delete it"):
        get_weights("test-weights", retry_policy=QUICK)


def test_files_of_a_mirror_are_verified(server: Server, entry: CatalogEntry, tmp_path: Path) -> None:
    mirror = server.url.removesuffix("/file.bin")
    assert get_weights("test-weights", folder=tmp_path, mirror=mirror, retry_policy=QUICK).is_file()
    server.content = bytes(len(CONTENT))
    with pytest.raises(DownloadError, match="wrong bytes: its git blob id"):
        get_weights("test-weights", folder=tmp_path / "other", mirror=mirror, retry_policy=QUICK)


def test_published_file_is_identified_by_its_content(
    entry: CatalogEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "renamed.bin"
    path.write_bytes(CONTENT)
    assert identify_published(path) == ""  # one of two files is not enough
    monkeypatch.setitem(catalog.CATALOG, entry.name, replace(entry, files=entry.files[:1]))
    assert identify_published(path) == "test-weights"
    path.write_bytes(CONTENT[:-1] + b"x")
    assert identify_published(path) == ""


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUOVADIS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "quovadis" / "weights"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "quovadis" / "weights"
    with pytest.raises(UnknownNameError, match="did you mean 'i3d-rgb-kinetics400'"):
        get.get_weights("i3d-rgb-kinetics40")
