"""Tests of ``quovadis flow``."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quovadis.cli.flow import main
from quovadis.errors import InvalidInputError, StorageError
from quovadis.flow.codec import PAPER, decode_flow
from quovadis.flow.estimate import estimate_flow
from quovadis.flow.flow_files import FlowFileWriter, VideoFingerprint, read_flow, read_header
from quovadis.video.read import read_clip
from quovadis.video.resize import resize_frames
from quovadis.video.writer import LOSSLESS, write_video
from tests.flow.oracle import waves

SMALL = ("--method", "tvl1-fast", "--short-side-px", "32")
"""Smaller and faster than the defaults."""


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in" / "waves.mp4", waves(7, 40, 60, (1.5, -0.5)), fps=25, **LOSSLESS)


def test_video_becomes_a_flow_file(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main([str(video), *SMALL, "--out", str(out), "--pairs-per-batch", "4"])
    printed = capsys.readouterr()
    assert "waves.flow.mp4: 6 flows" in printed.out
    assert "1 video, about 6 flows" in printed.err
    header = read_header(out / "waves.flow.mp4")
    assert (header.num_flows, header.height, header.width) == (6, 32, 48)
    assert header.video == VideoFingerprint.of(video)
    whole = estimate_flow(resize_frames(read_clip(video).frames, 32), "tvl1-fast")  # all frames at once
    stored = read_flow(out / "waves.flow.mp4", 0, 6, preset=header.preset)
    assert (stored - whole).abs().mean() < 0.12
    assert whole.abs().mean() > 0.5


def test_existing_files_are_skipped(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(video), *SMALL, "--out", str(tmp_path)]
    main(arguments)
    stamp = (tmp_path / "waves.flow.mp4").stat().st_mtime_ns
    capsys.readouterr()
    main(arguments)
    printed = capsys.readouterr()
    assert "waves.flow.mp4: exists" in printed.err
    assert printed.out == ""
    assert (tmp_path / "waves.flow.mp4").stat().st_mtime_ns == stamp
    main([*arguments, "--overwrite"])
    assert (tmp_path / "waves.flow.mp4").stat().st_mtime_ns > stamp


def test_flow_of_another_video_is_not_overwritten(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FlowFileWriter(tmp_path / "waves.flow.mp4", VideoFingerprint(1, "0" * 64), PAPER) as writer:
        writer.write(torch.zeros(1, 2, 32, 32))
    with pytest.raises(SystemExit) as stopped:
        main([str(video), *SMALL, "--out", str(tmp_path)])
    assert stopped.value.code == 1
    assert "waves.flow.mp4 has flow of preset" in capsys.readouterr().err
    assert read_header(tmp_path / "waves.flow.mp4").video.size_bytes == 1


def test_subfolders_are_kept_and_flow_files_are_not_read_as_videos(video: Path, tmp_path: Path) -> None:
    root = tmp_path / "clips"
    for label in ("run", "jump"):
        (root / label).mkdir(parents=True)
        shutil.copy(video, root / label / "v.mp4")
    main([str(root), *SMALL, "--out", str(root)])  # next to the videos
    main([str(root), *SMALL, "--out", str(root)])
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("*.flow.mp4")) == [
        "jump/v.flow.mp4",
        "run/v.flow.mp4",
    ]


def test_jpeg_pairs_are_named_as_denseflow_does(video: Path, tmp_path: Path) -> None:
    main([str(video), *SMALL, "--out", str(tmp_path / "out"), "--jpeg", "--images"])
    folder = tmp_path / "out" / "waves"
    names = [f"flow_{component}_{number:05d}.jpg" for component in "xy" for number in range(1, 7)]
    assert sorted(file.name for file in folder.iterdir()) == sorted(["flow.json", *names])
    pair = [np.asarray(Image.open(folder / f"flow_{component}_00003.jpg")) for component in "xy"]
    whole = estimate_flow(resize_frames(read_clip(video).frames, 32), "tvl1-fast")
    assert (decode_flow(torch.from_numpy(np.stack(pair))) - whole[2]).abs().mean() < 0.12
    images = tmp_path / "out" / "waves.images"
    assert len(list(images.glob("flow_0000?.jpg"))) == 6
    with Image.open(images / "flow_00001.jpg") as image:
        assert image.size == (48, 32)


def test_folder_with_other_files_is_not_overwritten(video: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "waves").mkdir(parents=True)
    (tmp_path / "out" / "waves" / "mine.txt").write_text("precious")
    with pytest.raises(StorageError, match="is not a flow folder"):
        main([str(video), *SMALL, "--out", str(tmp_path / "out"), "--jpeg", "--overwrite"])
    assert (tmp_path / "out" / "waves" / "mine.txt").read_text() == "precious"


def test_unreadable_videos_are_reported_and_skipped(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    one_frame = write_video(tmp_path / "one.mp4", waves(1, 40, 60, (0, 0)), **LOSSLESS)
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                *map(str, (tmp_path / "text.mp4", one_frame, tmp_path / "none.mp4", video)),
                *SMALL,
                "--out",
                str(tmp_path),
            ]
        )
    assert stopped.value.code == 1
    errors = capsys.readouterr().err
    for message in ("text.mp4 is not a video", "one.mp4 has 1 frame", "no file at", "3 of 4 videos have no flow"):
        assert message in errors
    assert sorted(file.name for file in tmp_path.glob("*.flow.mp4")) == ["waves.flow.mp4"]


def test_full_disk_is_reported_before_the_work(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(StorageError, match="left, but the flow needs about"):
        main([str(video), *SMALL, "--out", str(tmp_path / "out")])


def test_wrong_usage_is_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="one file"):
        main([str(video), str(tmp_path / "waves.mp4"), "--out", str(tmp_path)])
    with pytest.raises(InvalidInputError, match="no videos given"):
        main(["--out", str(tmp_path)])
    with pytest.raises(InvalidInputError, match="full-color-px"):
        main([str(video), *SMALL, "--out", str(tmp_path), "--full-color-px", "0"])
    with pytest.raises(SystemExit) as stopped:
        main([str(video)])
    assert stopped.value.code == 2
