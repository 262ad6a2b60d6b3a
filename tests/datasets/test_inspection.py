import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets import inspection
from quovadis.datasets.inspection import index_videos, inspect_video, verify_videos
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.probe_cache import ProbeCache
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import moving_square, write_square


def manifest(root: Path, *paths: Path) -> Manifest:
    return Manifest("toy", root, ("run",), tuple(VideoRecord(path, 0, "train") for path in paths))


@pytest.fixture
def videos(tmp_path: Path) -> Manifest:
    """Valid videos of two sizes and rates, and one file for each kind of problem."""
    root = tmp_path / "data"
    odd = write_video(root / "odd.mkv", moving_square(31, 47, 65), fps=30, **LOSSLESS)
    square = write_square(root / "square.mp4", seed=0)
    noise = torch.randint(0, 256, (60, 3, 48, 64), dtype=torch.uint8)
    cut = write_video(root / "cut.avi", noise, fps=25, codec="mpeg4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    text = root / "text.mp4"
    text.write_text("not a video")
    (root / "folder.mp4").mkdir()
    empty = root / "empty.mp4"
    empty.touch()
    os.mkfifo(root / "pipe.mp4")
    return manifest(
        root, odd, square, cut, text, root / "folder.mp4", empty, root / "pipe.mp4", root / "none.mp4",
        odd / "under_a_file.mp4",
    )  # fmt: skip


def of(data: Manifest) -> dict[str, VideoRecord]:
    return {record.path.stem: record for record in data.records}


def test_indexing_reads_file_properties(videos: Manifest) -> None:
    odd, square, *_ = index_videos(videos).records
    assert odd.sha256 == hashlib.sha256(odd.path.read_bytes()).hexdigest()
    assert (odd.size_bytes, odd.width_px, odd.height_px, odd.fps) == (odd.path.stat().st_size, 65, 47, 30.0)
    assert odd.duration_seconds == pytest.approx(31 / 30, abs=0.002)
    assert (square.num_frames, square.fps, square.duration_seconds) == (24, 25.0, 0.96)
    assert (odd.status, square.status) == ("listed", "listed")


def test_verifying_decodes_to_the_end(videos: Manifest) -> None:
    found = of(verify_videos(videos))
    assert [(r.path.stem, r.num_frames, r.status) for r in found.values() if r.status == "ok"] == [
        ("odd", 31, "ok"),
        ("square", 24, "ok"),
    ]
    assert found["odd"].duration_seconds == pytest.approx(31 / 30, abs=0.002)
    cut = found["cut"]
    assert cut.status == "corrupt"
    assert 0 < (cut.num_frames or 0) < 60
    assert cut.reason.startswith("1 broken packets or frames; it ends at 0.80 s, its header says ")


@pytest.mark.parametrize("look", [index_videos, verify_videos])
def test_bad_files_stay_in_the_manifest_with_the_reason(videos: Manifest, look: Callable[..., Manifest]) -> None:
    data = look(videos)
    found = of(data)
    assert {name: (r.status, r.reason) for name, r in found.items() if name not in ("odd", "square", "cut")} == {
        "text": ("corrupt", "text.mp4 is not a video that FFmpeg can open: Invalid data found when processing input"),
        "folder": ("corrupt", "cannot be read: it is a folder"),
        "pipe": ("corrupt", "cannot be read: it is not a regular file"),
        "empty": ("corrupt", "empty.mp4 is empty (0 bytes)"),
        "none": ("missing", "no such file"),
        "under_a_file": ("missing", "no such file"),
    }
    assert found["text"].sha256 == hashlib.sha256(b"not a video").hexdigest()
    assert found["text"].num_frames is None
    assert data.fingerprint == videos.fingerprint
    assert [(r.path, r.split, r.group) for r in data.records] == [(r.path, r.split, r.group) for r in videos.records]


@pytest.mark.slow
def test_worker_processes_give_the_same_records(videos: Manifest) -> None:
    seen: list[int] = []
    assert verify_videos(videos, num_workers=2, progress=seen.append) == verify_videos(videos)
    assert seen == list(range(2, len(videos.records) + 1))  # two are missing and done at once


def test_a_changed_file_is_corrupt_and_stays_corrupt(tmp_path: Path) -> None:
    path = write_square(tmp_path / "a.mp4", seed=0)
    indexed = index_videos(manifest(tmp_path, path))
    write_square(path, seed=1)
    for _ in range(2):
        indexed_again = verify_videos(indexed)
        (record,) = indexed_again.records
        assert record.status == "corrupt"
        assert record.reason.startswith("changed since it was indexed: sha256 ")
        assert record.sha256 == indexed.records[0].sha256
        indexed = indexed_again
    (fresh,) = index_videos(indexed).records
    assert (fresh.status, fresh.reason, fresh.sha256 == record.sha256) == ("listed", "", False)


def test_a_missing_file_keeps_its_indexed_properties(tmp_path: Path) -> None:
    path = write_square(tmp_path / "a.mp4", seed=0)
    verified = verify_videos(manifest(tmp_path, path))
    path.unlink()
    (record,) = verify_videos(verified).records
    assert record == replace(verified.records[0], status="missing", reason="no such file")
    write_square(path, seed=0)
    assert verify_videos(Manifest("toy", tmp_path, ("run",), (record,))).records == verified.records


def test_indexing_again_keeps_the_status_of_unchanged_files(tmp_path: Path) -> None:
    path = write_square(tmp_path / "a.mp4", seed=0)
    verified = verify_videos(manifest(tmp_path, path))
    assert index_videos(verified) == verified
    shutil.copy(write_square(tmp_path / "b.mp4", seed=1), path)
    assert index_videos(verified).records[0].status == "listed"


def test_cached_files_are_not_read_again(videos: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[tuple[str, bool]] = []

    def watched(record: VideoRecord, *, decode: bool) -> VideoRecord:
        looked_at.append((record.path.stem, decode))
        return inspect_video(record, decode=decode)

    def looks(look: Callable[..., Manifest], **options: bool) -> tuple[Manifest, list[str]]:
        looked_at.clear()
        with ProbeCache(tmp_path / "facts.sqlite") as cache:
            data = look(videos, cache=cache, **options)
        return data, sorted(name for name, _ in looked_at)

    monkeypatch.setattr(inspection, "inspect_video", watched)
    everything = sorted(r.path.stem for r in videos.records)
    bad = [name for name in everything if name not in ("odd", "square", "cut")]
    first, names = looks(index_videos)
    assert names == everything
    assert looks(index_videos) == (first, bad)
    verified, names = looks(verify_videos)
    assert names == everything  # indexed files still have to be verified
    assert looks(verify_videos) == (verified, sorted(["cut", *bad]))
    assert looks(index_videos)[0].records[0] == verified.records[0]
    assert looks(verify_videos, again=True)[1] == everything
    write_square(videos.records[1].path, seed=5)
    assert looks(verify_videos)[1] == sorted(["square", "cut", *bad])
