"""Extraction of valid, damaged and malicious archives."""

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quovadis.datasets.kinetics.archives import extract_videos, is_archive
from quovadis.errors import DatasetError, DownloadError

NOISE = np.random.default_rng(0).bytes(300_000)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def packed(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def extract(tmp_path: Path) -> Callable[[bytes], dict[str, bytes]]:
    def run(data: bytes) -> dict[str, bytes]:
        (tmp_path / "x.tar.gz").write_bytes(data)
        (tmp_path / "inside" / "out").mkdir(parents=True, exist_ok=True)
        found: dict[str, bytes] = {}
        extract_videos(
            tmp_path / "x.tar.gz",
            lambda stem: tmp_path / "inside" / "out" / f"{len(found)}.mp4",
            lambda stem, path: found.update({stem: path.read_bytes()}),
        )
        return found

    return run


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_videos_are_extracted_from_any_folder(extract: Callable[[bytes], dict[str, bytes]], mode: str) -> None:
    data = packed(
        (member("./", tarfile.DIRTYPE), b""),
        (member("./_vzHWdv5F1U_000143_000153.mp4"), b"one"),
        (member("._mountain climber (exercise)"), b"of a Mac"),
        (member("mountain climber (exercise)/._1val3qlpldk_000026_000036.mp4"), b"of a Mac"),
        (member("mountain climber (exercise)/-val3qlpldk_000026_000036.mp4"), NOISE),
        (member("readme.txt"), b"words"),
        (member("x.MP4"), b""),
        mode=mode,
    )
    assert extract(data) == {"_vzHWdv5F1U_000143_000153": b"one", "-val3qlpldk_000026_000036": NOISE, "x": b""}


def test_skipped_videos_are_not_written(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(packed((member("a.mp4"), b"a"), (member("b.mp4"), b"b"), mode="w"))
    written: list[str] = []
    names = extract_videos(
        tmp_path / "x.tar",
        lambda stem: tmp_path / "b.mp4" if stem == "b" else None,
        lambda stem, path: written.append(stem),
    )
    assert names == ["a", "b"]
    assert written == ["b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.mp4", "x.tar"]


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (member("/etc/passwd.mp4"), "an absolute path"),
        (member("C:/x.mp4"), "an absolute path"),
        (member("../x.mp4"), "a path that leaves the folder"),
        (member("a/../../x.mp4"), "a path that leaves the folder"),
        (member("a\\..\\x.mp4"), "a path that leaves the folder"),
        (member("x.mp4", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
        (member("x.mp4", tarfile.LNKTYPE, "a.mp4"), "a link"),
        (member("x.mp4", tarfile.CHRTYPE), "a device"),
        (member("x.mp4", tarfile.BLKTYPE), "a device"),
        (member("x.mp4", tarfile.FIFOTYPE), "a device"),
        (member("../", tarfile.DIRTYPE), "a path that leaves the folder"),
    ],
    ids=lambda v: v.name if isinstance(v, tarfile.TarInfo) else "",
)
def test_a_malicious_archive_is_refused_and_writes_nothing_outside(
    extract: Callable[[bytes], dict[str, bytes]], tmp_path: Path, info: tarfile.TarInfo, problem: str
) -> None:
    with pytest.raises(DatasetError, match=f"{problem}: the archive is unsafe and is not extracted further"):
        extract(packed((member("a.mp4"), b"a"), (info, b""), (member("b.mp4"), b"b")))
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if not p.is_dir()} == {
        "x.tar.gz",
        "inside/out/0.mp4",
    }


def test_a_truncated_or_changed_archive_is_damaged(extract: Callable[[bytes], dict[str, bytes]]) -> None:
    whole = packed((member("a.mp4"), NOISE), (member("b.mp4"), NOISE))
    assert len(extract(whole)) == 2
    for end in [20, len(whole) // 2, len(whole) - 4]:
        with pytest.raises(DownloadError, match="is damaged"):
            extract(whole[:end])
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    with pytest.raises(DownloadError, match="is damaged"):
        extract(bytes(flipped))
    plain = packed((member("a.mp4"), NOISE), mode="w")
    with pytest.raises(DownloadError, match="is damaged"):
        extract(plain[: len(NOISE) // 2])


def test_is_archive_checks_the_start_of_the_file(tmp_path: Path) -> None:
    for data, expected in [
        (packed((member("a.mp4"), b"a")), True),
        (packed((member("a.mp4"), b"a"), mode="w"), True),
        (b"<html>log in</html>" * 100, False),
        (gzip.compress(b"<html>log in</html>" * 100), False),
        (packed((member("a.mp4"), b"a"))[:30], False),
        (b"\x1f\x8b\x08 and then nothing of the kind", False),
        (b"", False),
    ]:
        (tmp_path / "x").write_bytes(data)
        assert is_archive(tmp_path / "x") is expected
