"""The status table of a download after kills, full disks and damage."""

import threading
import time
from pathlib import Path

import pytest

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.datasets.kinetics.clip_status import TABLE_NAME, ClipStatus, DownloadReport, StatusTable, read_status
from quovadis.errors import StorageError

A = ClipStatus("zumba/a.mp4", "private", "youtube", 'Private “video”\nof "X"')
B = ClipStatus("zumba/b.mp4", "ok", "part_1.tar.gz", seconds=9.96)


def test_rows_persist_and_the_last_one_counts(tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    with StatusTable(tmp_path) as table:
        table.record(A)
        table.record(B)
    with StatusTable(tmp_path) as table:
        assert table.get(A.path) == A
        assert table.get("zumba/c.mp4") is None
        table.record(ClipStatus(A.path, "ok", "youtube", seconds=10.0))
    rows = read_status(tmp_path)
    assert [row.status for row in rows.values()] == ["ok", "ok"]
    assert rows[B.path] == B
    assert len((tmp_path / TABLE_NAME).read_text().splitlines()) == 3


def test_an_incomplete_row_is_ignored(tmp_path: Path) -> None:
    with StatusTable(tmp_path) as table:
        table.record(A)
        table.record(B)
    path = tmp_path / TABLE_NAME
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(first, len(data)):
        path.write_bytes(data[:end])
        assert read_status(tmp_path) == {A.path: A}
        with StatusTable(tmp_path) as table:
            assert table.get(B.path) is None
            table.record(B)
        assert path.read_bytes() == data
    path.write_bytes(data[:first] + b'{"path": "' + b"x" * 1000)  # longer than the row that comes next
    with StatusTable(tmp_path) as table:
        table.record(B)
    assert path.read_bytes() == data


class _Disk:
    """A file on a disk that has room for a few more bytes."""

    def __init__(self, file, room: int | None):  # type: ignore[no-untyped-def]
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def write(self, data: bytes) -> int:
        if self._room is None:
            raise OSError(28, "No space left on device")
        return self._file.write(data[: self._room])


@pytest.mark.parametrize("room", [None, 0, 5])
def test_a_full_disk_is_an_error_and_leaves_complete_rows(
    tmp_path: Path, room: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StatusTable(tmp_path) as table:
        table.record(A)
        file = table._file
        monkeypatch.setattr(table, "_file", _Disk(file, room))
        with pytest.raises(StorageError, match=r"[Nn]o space left"):
            table.record(B)
        assert table.get(B.path) is None
        assert read_status(tmp_path) == {A.path: A}
        monkeypatch.setattr(table, "_file", file)
        table.record(B)
    assert read_status(tmp_path) == {A.path: A, B.path: B}


def test_the_error_for_an_invalid_row_names_the_line(tmp_path: Path) -> None:
    (tmp_path / TABLE_NAME).write_text('{"path": "x"}\n')
    with pytest.raises(StorageError, match=r"download\.jsonl:1 is not a valid row"):
        read_status(tmp_path)


def test_several_threads_write_complete_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowFile:
        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            written = file.write(data)
            time.sleep(0.001)  # let another thread run in between
            return written

    with StatusTable(tmp_path) as table:
        file = table._file
        monkeypatch.setattr(table, "_file", SlowFile())
        threads = [
            threading.Thread(target=lambda n=n: [table.record(ClipStatus(f"{n}/{i}", "ok", "x" * i)) for i in range(9)])
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(read_status(tmp_path)) == 36


def test_the_report_counts_available_and_missing_clips(tmp_path: Path) -> None:
    clips = [KineticsClip(f"{'a' * 10}{i}", 0, 10, "val", "zumba" if i < 4 else "yoga") for i in range(6)]
    clips.append(KineticsClip("b" * 11, 0, 10, "test"))
    with StatusTable(tmp_path) as table:
        for clip, status in zip(clips, ("ok", "short", "private", "private", "ok"), strict=False):
            table.record(ClipStatus(str(clip.path), status, "youtube"))
        table.record(ClipStatus("other/clip.mp4", "removed", "youtube"))
    report = DownloadReport.of(clips, tmp_path)
    assert report.counts == {"ok": 2, "private": 2, "not tried": 2, "short": 1}
    assert (report.num_available, report.num_clips) == (3, 7)
    assert report.missing_by_class == {"zumba": 2, "yoga": 1, "test": 1}
