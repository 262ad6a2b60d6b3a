"""Frames of each input stream, checked with clips whose frames contain their index."""

from pathlib import Path

import pytest
import torch

from quovadis.datasets.clip_dataset import ClipDataset, clip_extent
from quovadis.datasets.manifest import VideoRecord
from quovadis.flow import source as flow_files
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.spec import ModelSpec
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from quovadis.video.writer import LOSSLESS, write_video
from tests.synthetic import numbered_clip, numbers_of, with_numbered_flow

# Which frames of video each stream takes of a training clip that begins at frame 0.
TAKEN: dict[tuple[str, str], dict[str, list[int]]] = {
    ("conv3d", "rgb"): {"rgb": list(range(16))},
    ("convnet_lstm", "rgb"): {"rgb": list(range(0, 125, 5))},
    ("fused_two_stream", "flow"): {"flow": list(range(50))},
    ("fused_two_stream", "rgb"): {"rgb": [5, 15, 25, 35, 45]},
    ("fused_two_stream", "rgb+flow"): {"rgb": [5, 15, 25, 35, 45], "flow": list(range(50))},
    ("i3d", "flow"): {"flow": list(range(64))},
    ("i3d_r50", "flow"): {"flow": [0, 8, 16, 24, 32, 40, 48, 56]},
    ("i3d_r50", "rgb"): {"rgb": [0, 8, 16, 24, 32, 40, 48, 56]},
    ("two_stream", "flow"): {"flow": list(range(10))},
    ("two_stream", "rgb"): {"rgb": [5]},
    ("two_stream", "rgb+flow"): {"rgb": [5], "flow": list(range(10))},
}
cases = pytest.mark.parametrize(("name", "stream"), list(TAKEN))


def spec_of(name: str, stream: str) -> ModelSpec:
    with torch.device("meta"):
        return build_model(name, stream=stream).spec


def taken(clip: Clip, spec: ModelSpec) -> dict[str, list[int]]:
    return {s.kind: numbers_of(x) for s, x in zip(spec.streams, clip_to_streams(clip, spec), strict=True)}


@cases
def test_training_clip_gives_frames_of_each_stream(name: str, stream: str) -> None:
    spec = spec_of(name, stream)
    frames, stride, span = clip_extent(spec)
    fewer = {"convnet_lstm": 5, "fused_two_stream": 5, "i3d_r50": 8, "two_stream": 5}
    assert stride == (1 if "flow" in stream else fewer.get(name, 1))
    clip = numbered_clip(span).take(torch.arange(0, span, stride))
    assert len(clip) == frames
    assert taken(clip, spec) == TAKEN[name, stream]


@cases
def test_longer_clip_gives_more_frames_of_each_stream(name: str, stream: str) -> None:
    """For models that accept longer clips, streams stay aligned."""
    spec = spec_of(name, stream)
    once = spec.test_clip_frames or max(s.num_frames * s.frame_stride for s in spec.streams)
    clip = numbered_clip(3 * once).take(torch.arange(0, 3 * once, spec.clip_stride))
    expected = {
        kind: [(n + part * once) % 256 for part in range(3) for n in numbers]
        for kind, numbers in TAKEN[name, stream].items()
    }
    assert taken(clip, spec) == expected


@pytest.mark.parametrize(("num_frames", "starts"), [(16, [0]), (17, [0, 1]), (48, [0, 16, 32]), (50, [0, 16, 32, 34])])
def test_long_clip_is_cut_into_adjacent_clips(num_frames: int, starts: list[int]) -> None:
    pieces = cut_clip(numbered_clip(num_frames), spec_of("conv3d", "rgb"))
    assert [numbers_of(p.frames) for p in pieces] == [list(range(s, s + 16)) for s in starts]
    whole = numbered_clip(num_frames)
    assert cut_clip(whole, spec_of("i3d", "rgb")) == [whole]


def test_clip_with_stride_is_cut_at_same_times() -> None:
    """The RGB stream of Two-Stream uses the second of the two frames that a clip has per snippet."""
    spec = spec_of("two_stream", "rgb")
    assert spec.clip_stride == 5
    clip = numbered_clip(40).take(torch.arange(0, 40, 5))
    assert [taken(piece, spec)["rgb"] for piece in cut_clip(clip, spec)] == [[5], [15], [25], [35]]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VideoRecord:
    """A video file with 90 numbered frames and numbered flow."""
    monkeypatch.setattr(flow_files, "flow_for_clip", with_numbered_flow)
    return VideoRecord(write_video(tmp_path / "v.mp4", numbered_clip(90, 80).frames, **LOSSLESS), 0, "train")


LOADED = {
    "convnet_lstm_tiny": {"rgb": list(range(0, 32, 4))},
    "conv3d_tiny": {"rgb": list(range(16))},
    "two_stream_tiny": {"rgb": [5], "flow": list(range(10))},
    "fused_two_stream_tiny": {"rgb": [2, 7, 12, 17, 22], "flow": list(range(25))},
}


def loaded(data: ClipDataset, key: tuple[int, int]) -> dict[str, list[int]]:
    streams = data[key]["streams"]
    return {s.kind: numbers_of(x) for s, x in zip(data.spec.streams, streams, strict=True)}


@pytest.mark.parametrize("name", list(LOADED))
def test_loader_keeps_streams_aligned_for_all_clip_starts(record: VideoRecord, name: str) -> None:
    spec = build_model(name, num_classes=2).spec
    span = clip_extent(spec)[2]
    starts = set()
    for epoch in range(6):
        found = loaded(ClipDataset([record], spec, flip=False), (epoch, 0))
        start = next(iter(found.values()))[0] - next(iter(LOADED[name].values()))[0]
        assert found == {kind: [n + start for n in numbers] for kind, numbers in LOADED[name].items()}
        starts.add(start)
    assert len(starts) > 1
    assert all(0 <= start <= 90 - span for start in starts)
    middle = (90 - span) // 2
    validation = loaded(ClipDataset([record], spec, augment=False), (0, 0))
    assert validation == {kind: [n + middle for n in numbers] for kind, numbers in LOADED[name].items()}


def test_short_video_is_looped_for_all_streams(tmp_path: Path, record: VideoRecord) -> None:
    short = VideoRecord(write_video(tmp_path / "s.mp4", numbered_clip(4, 80).frames, **LOSSLESS), 0, "train")
    spec = build_model("two_stream_tiny", num_classes=2).spec
    expected = {"rgb": [1], "flow": [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]}
    assert loaded(ClipDataset([short], spec, augment=False), (0, 0)) == expected


def test_last_flow_of_clip_uses_next_frame(record: VideoRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def watched(clip: Clip, **_: object) -> Clip:
        seen.append(numbers_of(clip.frames))
        return with_numbered_flow(clip)

    monkeypatch.setattr(flow_files, "flow_for_clip", watched)
    spec = build_model("two_stream_tiny", num_classes=2).spec
    ClipDataset([record], spec, augment=False)[0, 0]
    assert seen == [list(range(40, 51))]
