"""Downloads from YouTube with a fake fetcher: success, failures and interruptions."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from quovadis.datasets.kinetics.annotations import KineticsClip
from quovadis.datasets.kinetics.clip_status import TABLE_NAME, read_status
from quovadis.datasets.kinetics.youtube import download_from_youtube
from quovadis.datasets.kinetics.yt_dlp import FetchFailure
from quovadis.errors import DownloadError, StorageError
from quovadis.runtime.backoff import Backoff
from quovadis.runtime.locks import FolderLock
from quovadis.video.read import probe
from tests.synthetic import write_square


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 4 seconds."""
    return write_square(tmp_path_factory.mktemp("source") / "video.mp4", seed=0, num_frames=100)


class FakeFetcher:
    """Fetcher that copies one video for every ID, or raises the errors that the test gives."""

    def __init__(self, source: Path, **answers: object):
        self.source, self.answers = source, answers
        self.asked: list[str] = []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()

    def fetch(self, youtube_id: str, folder: Path) -> Path:
        with self._lock:
            self.asked.append(youtube_id)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            assert list(folder.iterdir()) == []
            answer = self.answers.get(youtube_id.strip("-"), "video")
            answer = answer.pop(0) if isinstance(answer, list) else answer
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, bytes):
                (folder / "video.webm").write_bytes(answer)
                return folder / "video.webm"
            return Path(shutil.copy(self.source, folder / "video.mp4"))
        finally:
            with self._lock:
                self._now -= 1


def clips(count: int = 6) -> list[KineticsClip]:
    return [
        KineticsClip(f"----------{chr(97 + i)}", 1, 3, "val", ("air drumming", "zumba")[i % 2]) for i in range(count)
    ]


def statuses(folder: Path) -> dict[str, str]:
    return {Path(path).name[10]: row.status for path, row in read_status(folder).items()}


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_clips_are_trimmed_and_written_to_class_folders(tmp_path: Path, source: Path) -> None:
    steps: list[tuple[int, int]] = []
    fetcher = FakeFetcher(source)
    report = download_from_youtube(clips(), tmp_path, fetcher, num_workers=3, progress=lambda *step: steps.append(step))
    assert files(tmp_path) == sorted([*(str(clip.path) for clip in clips()), TABLE_NAME])
    assert files(tmp_path)[0] == "air drumming/----------a_000001_000003.mp4"
    assert report.counts == {"ok": 6}
    assert report.missing_by_class == {}
    assert steps == [(n, 6) for n in range(1, 7)]
    for clip in clips():
        info = probe(tmp_path / clip.path, count=True)
        assert (info.num_frames, info.fps, info.has_audio) == (50, 25, False)
    assert {row.seconds for row in read_status(tmp_path).values()} == {2.0}
    assert 1 <= fetcher.most_at_once <= 3


def test_unavailable_videos_have_a_reason_and_are_not_tried_again(tmp_path: Path, source: Path) -> None:
    answers = {
        "a": FetchFailure("private", "Private video"),
        "b": FetchFailure("geo-blocked", "not in your country"),
        "c": FetchFailure("network", "timed out"),
        "d": FetchFailure("unknown", "something else"),
        "e": b"<html>",
    }
    fetcher = FakeFetcher(source, **answers)
    report = download_from_youtube(clips(), tmp_path, fetcher)
    said = {"a": "private", "b": "geo-blocked", "c": "network", "d": "unknown", "e": "damaged", "f": "ok"}
    assert statuses(tmp_path) == said
    assert report.counts == dict.fromkeys(("private", "geo-blocked", "network", "unknown", "damaged", "ok"), 1)
    assert report.missing_by_class == {"air drumming": 3, "zumba": 2}
    row = read_status(tmp_path)[str(clips()[0].path)]
    assert (row.reason, row.source) == ("Private video", "youtube")
    assert "is not a video" in read_status(tmp_path)[str(clips()[4].path)].reason
    assert ".partial" not in read_status(tmp_path)[str(clips()[4].path)].reason
    assert not (tmp_path / ".partial").exists()

    again = FakeFetcher(source, **answers)
    download_from_youtube(clips(), tmp_path, again)
    assert sorted(again.asked) == [c.youtube_id for c in clips()[2:5]]  # transient failures only

    recovered = FakeFetcher(source)
    assert download_from_youtube(clips(), tmp_path, recovered).counts == {"ok": 4, "private": 1, "geo-blocked": 1}
    last = FakeFetcher(source)
    assert download_from_youtube(clips(), tmp_path, last, retry=True).counts == {"ok": 6}
    assert sorted(last.asked) == [c.youtube_id for c in clips()[:2]]


def test_a_clip_that_is_shorter_than_listed_is_kept_and_counted(tmp_path: Path, source: Path) -> None:
    wanted = [
        KineticsClip("----------a", 1, 11, "val", "zumba"),  # the video ends at 4 s
        KineticsClip("----------b", 3, 5, "val", "zumba"),  # exactly one second short
        KineticsClip("----------c", 4, 14, "val", "zumba"),  # the video ends before the clip starts
    ]
    report = download_from_youtube(wanted, tmp_path, FakeFetcher(source))
    assert statuses(tmp_path) == {"a": "short", "b": "ok", "c": "too-short"}
    assert (report.num_available, report.missing_by_class) == (2, {"zumba": 1})
    row = read_status(tmp_path)[str(wanted[0].path)]
    assert (row.seconds, row.reason) == (3.0, "3 of 10 s")
    assert probe(tmp_path / wanted[0].path, count=True).num_frames == 75
    assert read_status(tmp_path)[str(wanted[2].path)].reason == "the video shows no frame from 4 s to 14 s"


def test_two_clips_of_one_video_and_one_of_two_classes(tmp_path: Path, source: Path) -> None:
    wanted = [
        KineticsClip("----------a", 0, 1, "val", "zumba"),
        KineticsClip("----------a", 2, 4, "val", "archery"),
        KineticsClip("----------a", 2, 4, "val", "yoga"),
    ]
    assert download_from_youtube(wanted, tmp_path, FakeFetcher(source)).counts == {"ok": 3}
    assert [probe(tmp_path / c.path, count=True).num_frames for c in wanted] == [25, 50, 50]


def test_refused_requests_are_repeated_after_waiting(tmp_path: Path, source: Path) -> None:
    waits: list[float] = []
    no = FetchFailure("rate-limited", "HTTP Error 429: Too Many Requests")
    fetcher = FakeFetcher(source, c=[no, no, no, "video"])
    report = download_from_youtube(
        clips(), tmp_path, fetcher, num_workers=1, backoff=Backoff(first_wait_seconds=10, sleep=waits.append)
    )
    assert report.counts == {"ok": 6}
    assert Counter(fetcher.asked)["----------c"] == 4
    assert [round(w) for w in waits] == [10, 20, 40]


def test_repeated_refusals_are_an_error_and_the_next_run_continues(tmp_path: Path, source: Path) -> None:
    no = FetchFailure("rate-limited", "HTTP Error 429: Too Many Requests")
    fetcher = FakeFetcher(source, **dict.fromkeys("defghij", no))
    with pytest.raises(DownloadError, match="given up after 3 waits in a row: HTTP Error 429"):
        download_from_youtube(
            clips(9), tmp_path, fetcher, num_workers=1, backoff=Backoff(max_waits=3, sleep=lambda seconds: None)
        )
    assert statuses(tmp_path) == {"a": "ok", "b": "ok", "c": "ok", "d": "rate-limited"}
    assert len(fetcher.asked) == 3 + 4
    again = FakeFetcher(source)
    assert download_from_youtube(clips(9), tmp_path, again).counts == {"ok": 9}
    assert sorted(again.asked) == [c.youtube_id for c in clips(9)[3:]]


def test_repeated_connection_failures_are_an_error(tmp_path: Path, source: Path) -> None:
    fetcher = FakeFetcher(source, **dict.fromkeys("abcdefghijklmnopqrst", FetchFailure("network", "timed out")))
    backoff = Backoff(failures_in_a_row=5, max_waits=2, sleep=lambda seconds: None)
    with pytest.raises(DownloadError, match="given up after 2 waits in a row: timed out"):
        download_from_youtube(clips(20), tmp_path, fetcher, num_workers=1, backoff=backoff)
    assert len(fetcher.asked) == 7


@pytest.mark.parametrize(
    "full",
    [StorageError("cannot write the video: No space left on device"), OSError(errno.ENOSPC, "No space left on device")],
)
def test_a_full_disk_is_an_error_and_finished_clips_are_kept(tmp_path: Path, source: Path, full: Exception) -> None:
    with pytest.raises(StorageError, match="No space left on device"):
        download_from_youtube(clips(), tmp_path, FakeFetcher(source, d=full), num_workers=1)
    assert statuses(tmp_path) == {"a": "ok", "b": "ok", "c": "ok"}
    assert len(files(tmp_path)) == 3 + 1
    assert download_from_youtube(clips(), tmp_path, FakeFetcher(source)).counts == {"ok": 6}


def test_existing_clips_are_kept(tmp_path: Path, source: Path) -> None:
    there = tmp_path / clips()[1].path
    there.parent.mkdir()
    there.write_bytes(b"from elsewhere")
    fetcher = FakeFetcher(source)
    assert download_from_youtube(clips(), tmp_path, fetcher).counts == {"ok": 6}
    assert clips()[1].youtube_id not in fetcher.asked
    assert there.read_bytes() == b"from elsewhere"
    assert read_status(tmp_path)[str(clips()[1].path)].source == "found"
    there.unlink()  # a deleted clip is downloaded again, whatever its status
    assert download_from_youtube(clips(), tmp_path, fetcher).counts == {"ok": 6}
    assert fetcher.asked.count(clips()[1].youtube_id) == 1


def test_one_process_at_a_time(tmp_path: Path, source: Path) -> None:
    with FolderLock(tmp_path, "prepare"), pytest.raises(StorageError, match=r"in use by process .*\(prepare"):
        download_from_youtube(clips(), tmp_path, FakeFetcher(source))
    assert files(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from quovadis.datasets.kinetics import clip_status
from quovadis.datasets.kinetics import youtube as kinetics_youtube
from tests.datasets.kinetics.test_youtube import FakeFetcher, clips

folder, source, where, log = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
record, trim = clip_status.StatusTable.record, kinetics_youtube.trim_video
left = 2

def die_the_third_time(last_words=lambda: None):
    global left
    left -= 1
    if left < 0:
        last_words()
        os.kill(os.getpid(), signal.SIGKILL)

class Logging(FakeFetcher):
    def fetch(self, youtube_id, folder):
        with log.open("a") as file:
            file.write(youtube_id + "\\n")
        return super().fetch(youtube_id, folder)

def trim_video(*args):
    seconds = trim(*args)
    if where == "the clip is cut":
        die_the_third_time()
    return seconds

def record_row(self, row):
    if where == "the clip is in its place":
        die_the_third_time()
    if where == "half of the row is written":
        die_the_third_time(lambda: (self._file.seek(self._end), self._file.write(b'{"path": "zumba/x')))
    record(self, row)

kinetics_youtube.trim_video = trim_video
clip_status.StatusTable.record = record_row
kinetics_youtube.download_from_youtube(clips(10), folder, Logging(source), num_workers=2)
"""


@pytest.mark.slow
def test_repeatedly_killed_downloads_get_each_clip_once(tmp_path: Path, source: Path) -> None:
    folder, log = tmp_path / "out", tmp_path / "log"
    there: set[str] = set()
    for where in ("the clip is cut", "the clip is in its place", "half of the row is written"):
        log.unlink(missing_ok=True)
        command = [sys.executable, "-c", KILLED, str(folder), str(source), where, str(log)]
        died = subprocess.run(command, check=False, cwd=Path(__file__).parents[3])
        assert died.returncode == -signal.SIGKILL
        fetched = log.read_text().split()
        assert fetched
        assert not there & set(fetched), "a clip that was there was fetched again"
        assert max(Counter(fetched).values()) == 1
        now = {p.stem[:11] for p in folder.rglob("*.mp4") if ".partial" not in p.parts}
        assert now > there
        there = now
        for path in folder.rglob("*.mp4"):
            if ".partial" not in path.parts:
                assert probe(path, count=True).num_frames == 50  # never an incomplete clip
    assert not (folder / TABLE_NAME).read_bytes().endswith(b"\n")
    last = FakeFetcher(source)
    assert download_from_youtube(clips(10), folder, last).counts == {"ok": 10}
    assert not there & set(last.asked)
    assert files(folder) == sorted([*(str(clip.path) for clip in clips(10)), TABLE_NAME])
    for line in (folder / TABLE_NAME).read_text().splitlines():
        json.loads(line)
