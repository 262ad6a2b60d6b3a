"""Flow files: round trips, random access, and errors."""

import json
import os
from pathlib import Path

import av
import pytest
import torch

from quovadis.errors import InvalidInputError, StorageError, TooFewFramesError, VideoNotFoundError
from quovadis.flow.codec import PAPER, FlowPreset, decode_flow, encode_flow
from quovadis.flow.flow_files import (
    FULL_RANGE,
    FlowFileWriter,
    VideoFingerprint,
    estimate_bytes,
    read_flow,
    read_header,
)
from quovadis.video.resize import resize_frames

CLIP = VideoFingerprint(123, "ab" * 32)


def smooth_flow(num_flows: int = 30, height: int = 48, width: int = 64) -> torch.Tensor:
    """float32 (N, 2, H, W) whose frames and components all differ."""
    t = torch.arange(num_flows)[:, None, None]
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    return torch.stack([torch.sin(t * 0.9) * 8 + 4 * x + 0 * y, torch.cos(t * 0.7) * 6 - 5 * y + 0 * x], 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with FlowFileWriter(tmp_path / "v.flow.mp4", CLIP) as writer:
        for part in smooth_flow().split(7):
            writer.write(part)
    return tmp_path / "v.flow.mp4"


def test_round_trip(path: Path) -> None:
    flow = read_flow(path, video=CLIP)
    assert flow.shape == (31, 2, 48, 64)
    assert flow.dtype == torch.float32
    error = (flow[:30] - smooth_flow()).abs()
    assert error.mean() < 0.1
    assert error.max() < 1
    assert torch.equal(flow[30], flow[29])  # the last frame's


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (11, 12), (12, 13), (5, 29), (17, 30), (29, 31), (30, 31)])
def test_any_window_equals_the_same_part_of_the_whole(path: Path, start: int, stop: int) -> None:
    assert torch.equal(read_flow(path, start, stop), read_flow(path)[start:stop])


def test_every_level_is_kept_in_full_range(tmp_path: Path) -> None:
    """The encoder must not map 0..255 to the limited range 16..235."""
    levels = torch.linspace(0, 255, 64).to(torch.uint8).expand(2, 2, 48, 64)
    with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
        writer.write(decode_flow(levels))
    back = encode_flow(read_flow(tmp_path / "f.mp4", 0, 2))
    assert (back.int() - levels.int()).abs().max() <= 3
    assert back.min() <= 2
    assert back.max() >= 253


@pytest.mark.parametrize(("height", "width"), [(31, 45), (16, 17), (33, 32)])
def test_round_trip_of_odd_sizes(tmp_path: Path, height: int, width: int) -> None:
    flow = smooth_flow(3, height, width)
    with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
        writer.write(flow)
    back = read_flow(tmp_path / "f.mp4", 0, 3)
    assert back.shape == flow.shape
    assert (back - flow).abs().mean() < 0.15


def test_header(path: Path) -> None:
    header = read_header(path)
    assert header.preset == PAPER
    assert header.video == CLIP
    assert (header.num_flows, header.height, header.width) == (30, 48, 64)


def test_flow_of_another_preset_is_refused(tmp_path: Path) -> None:
    with FlowFileWriter(tmp_path / "f.mp4", CLIP, FlowPreset(name="fast", method="dis")) as writer:
        writer.write(smooth_flow(2))
    with pytest.raises(InvalidInputError, match=r"preset 'fast', expected 'paper'.*method is 'dis', not 'tvl1'"):
        read_flow(tmp_path / "f.mp4")
    assert len(read_flow(tmp_path / "f.mp4", preset=None)) == 3


def test_flow_of_another_video_is_refused(path: Path, clip_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="of another video"):
        read_flow(path, video=VideoFingerprint.of(clip_path))


def test_fingerprint_depends_on_content_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    (tmp_path / "c").write_bytes(b"two")
    a, b, c = (VideoFingerprint.of(tmp_path / name) for name in "abc")
    assert a == b != c
    assert a.sha256 == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    with pytest.raises(VideoNotFoundError):
        VideoFingerprint.of(tmp_path / "d")


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (0, 32), (31, 32)])
def test_frames_outside_of_the_file_are_refused(path: Path, start: int, stop: int) -> None:
    with pytest.raises(InvalidInputError, match="has the flow of frames 0 to 30"):
        read_flow(path, start, stop)


def test_other_files_are_refused(tmp_path: Path, clip_path: Path) -> None:
    with pytest.raises(VideoNotFoundError):
        read_flow(tmp_path / "none.flow.mp4")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(InvalidInputError, match="not a flow file"):
        read_flow(tmp_path / "text")
    with pytest.raises(InvalidInputError, match="has no header"):
        read_flow(clip_path)


def test_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.flow.flow_files.FORMAT_VERSION", 2)
    with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
        writer.write(smooth_flow(2))
    monkeypatch.undo()
    with pytest.raises(InvalidInputError, match="has format 2, but only 1 is supported"):
        read_flow(tmp_path / "f.mp4")


def test_truncated_file_is_refused(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInputError):
        read_flow(path)


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
            writer.write(smooth_flow(5))
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    with pytest.raises(TooFewFramesError, match="no flow was written"), FlowFileWriter(tmp_path / "f.mp4", CLIP):
        pass
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_existing_file(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(InvalidInputError, match="NaN"), FlowFileWriter(path, CLIP) as writer:
        writer.write(torch.full((1, 2, 48, 64), torch.nan))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_flow_of_another_size_is_refused(tmp_path: Path) -> None:
    with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
        writer.write(smooth_flow(2))
        with pytest.raises(InvalidInputError, match=r"must have shape \(N, 2, 48, 64\); got \(2, 2, 48, 66\)"):
            writer.write(smooth_flow(2, width=66))


def test_unwritable_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        FlowFileWriter(tmp_path / "file" / "f.mp4", CLIP)


def test_files_contain_no_local_path(path: Path) -> None:
    with av.open(str(path)) as container:
        comment = json.loads(container.metadata["comment"])
        assert next(container.decode(video=0)).color_range == FULL_RANGE  # for other players
    assert sorted(comment) == ["clip", "preset", "size", "version"]
    assert str(path.parent).encode() not in path.read_bytes()


@pytest.mark.shared
def test_estimated_size_of_real_flow(shared: Path, tmp_path: Path) -> None:
    from quovadis.flow.estimate import estimate_flow
    from quovadis.video.read import read_clip

    clip = read_clip(
        shared / "data/clips/asl_walk.mkv", num_frames=13, transform=lambda frames: resize_frames(frames, 128)
    )
    with FlowFileWriter(tmp_path / "f.mp4", CLIP) as writer:
        writer.write(estimate_flow(clip.frames))
    assert 1 / 3 < (tmp_path / "f.mp4").stat().st_size / estimate_bytes(12, clip.height, clip.width) < 3
