from dataclasses import replace

import pytest
import torch

from quovadis.errors import TooFewFramesError, UnknownNameError
from quovadis.evaluation.protocols import PROTOCOLS, find_protocol
from quovadis.models.i3d import i3d_spec
from quovadis.models.inputs import clip_to_streams, cut_clip
from quovadis.models.spec import ModelSpec
from quovadis.models.zoo import build_model
from quovadis.video.clip import Clip
from tests.synthetic import numbered_clip, numbers_of

SPEC = i3d_spec("rgb")


def spec_of(name: str, stream: str | None = None) -> ModelSpec:
    """The spec of a model with a crop of 16 pixels."""
    with torch.device("meta"):
        return replace(build_model(name, stream=stream).spec, size_px=16)


def shown(protocol: str, spec: ModelSpec, num_frames: int) -> list[dict[str, list[int]]]:
    """The frames of a video that each stream of a model gets, for each input."""
    views = PROTOCOLS[protocol].views(numbered_clip(num_frames), spec)
    inputs = [clip_to_streams(clip, spec) for view in views for clip in cut_clip(view, spec)]
    return [{s.kind: numbers_of(x) for s, x in zip(spec.streams, given, strict=True)} for given in inputs]


def test_paper_protocol_takes_250_frames_and_loops_shorter_videos() -> None:
    (long,) = PROTOCOLS["paper"].clip_indices(400, SPEC)
    assert long.tolist() == list(range(250))
    (short,) = PROTOCOLS["paper"].clip_indices(100, SPEC)
    assert short.tolist() == [*range(100), *range(100), *range(50)]
    assert PROTOCOLS["paper"].max_frames(SPEC) == 250


def test_whole_video_is_looped_only_to_a_training_clip() -> None:
    assert [t.tolist() for t in PROTOCOLS["whole"].clip_indices(400, SPEC)] == [list(range(400))]
    assert [t.tolist() for t in PROTOCOLS["whole"].clip_indices(40, SPEC)] == [[*range(40), *range(24)]]


def test_clips_are_spread_evenly() -> None:
    assert [(int(t[0]), len(t)) for t in PROTOCOLS["center-clip"].clip_indices(264, SPEC)] == [(100, 64)]
    assert [int(t[0]) for t in PROTOCOLS["ten-clips"].clip_indices(154, SPEC)] == list(range(0, 91, 10))


def test_clips_of_sixteen_frames_are_taken_from_the_middle() -> None:
    (indices,) = PROTOCOLS["center-16"].clip_indices(265, SPEC)
    assert indices.tolist() == list(range(124, 140))
    (indices,) = PROTOCOLS["center-16"].clip_indices(201, spec_of("convnet_lstm"))  # every fifth frame: 76 of 201
    assert indices.tolist() == list(range(62, 138, 5))
    assert len(PROTOCOLS["center-16"].clip_indices(264, replace(SPEC, min_frames=16))[0]) == 16
    with pytest.raises(TooFewFramesError, match="protocol center-16 has 16 frames"):
        PROTOCOLS["center-16"].clip_indices(264, replace(SPEC, min_frames=17))


def test_describe() -> None:
    assert find_protocol("ten-clips").describe(SPEC) == (
        "ten-clips: 64 frames at 25 fps, from 10 places, shorter videos looped, center crop 224 px, logits averaged"
    )
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        find_protocol("papr")


def test_table_1_in_frames() -> None:
    """The inputs of each network for a video of 256 frames by the paper's protocol."""
    assert shown("paper", spec_of("convnet_lstm"), 256) == [{"rgb": list(range(0, 250, 5))}]  # 50 steps
    assert shown("paper", spec_of("conv3d"), 256) == [
        {"rgb": list(range(16 * clip, 16 * clip + 16))} for clip in range(15)
    ]
    assert shown("paper", spec_of("two_stream"), 256) == [
        {"rgb": [10 * sample + 5], "flow": list(range(10 * sample, 10 * sample + 10))} for sample in range(25)
    ]
    assert shown("paper", spec_of("fused_two_stream"), 256) == [
        {"rgb": list(range(50 * w + 5, 50 * w + 50, 10)), "flow": list(range(50 * w, 50 * w + 50))} for w in range(5)
    ]
    assert shown("paper", spec_of("i3d"), 256) == [{"rgb": list(range(250))}]


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_single_stream_gets_the_same_frames_as_in_both_streams(stream: str) -> None:
    for name in ("two_stream", "fused_two_stream"):
        both, alone = (shown("paper", spec_of(name, s), 256) for s in ("rgb+flow", stream))
        assert alone == [{stream: numbers[stream]} for numbers in both]


def test_short_video_is_looped_to_the_footprint_of_each_network() -> None:
    looped = [n % 60 for n in range(250)]
    assert shown("paper", spec_of("convnet_lstm"), 60) == [{"rgb": looped[::5]}]
    clips = shown("paper", spec_of("conv3d"), 60)
    assert [n for clip in clips for n in clip["rgb"]] == looped[:240]
    samples = shown("paper", spec_of("two_stream"), 60)
    assert [n for sample in samples for n in sample["flow"]] == looped
    assert [n for sample in samples for n in sample["rgb"]] == looped[5::10]


def test_whole_video_is_cut_for_networks_with_a_fixed_clip_length() -> None:
    assert [c["rgb"][0] for c in shown("whole", spec_of("conv3d"), 100)] == [0, 16, 32, 48, 64, 80, 84]
    assert [c["flow"][0] for c in shown("whole", spec_of("two_stream"), 43)] == [0, 10, 20, 30, 33]
    assert [c["rgb"] for c in shown("whole", spec_of("convnet_lstm"), 133)] == [list(range(0, 133, 5))]


@pytest.mark.parametrize("name", ["convnet_lstm", "conv3d", "two_stream", "fused_two_stream", "i3d"])
def test_clips_have_the_training_length(name: str) -> None:
    spec = spec_of(name)
    for protocol, count in (("center-clip", 1), ("ten-clips", 10), ("10x3", 30)):
        inputs = shown(protocol, spec, 200)
        assert len(inputs) == count
        assert {tuple(len(v) for v in given.values()) for given in inputs} == {
            tuple(s.num_frames for s in spec.streams)
        }


def test_10x3_is_ten_clips_in_three_crops_along_the_longer_side() -> None:
    columns = torch.arange(40, dtype=torch.uint8).expand(1, 3, 20, 40)
    for turned in (False, True):
        image = columns.transpose(2, 3) if turned else columns
        video = Clip(image.expand(100, -1, -1, -1), torch.arange(100) / 25)
        views = list(PROTOCOLS["10x3"].views(video, spec_of("conv3d")))
        assert {(v.height, v.width) for v in views} == {(16, 16)}
        assert [int(v.frames[0, 0, 0, 0]) for v in views] == [0] * 10 + [12] * 10 + [24] * 10
        assert [float(v.pts_seconds[0]) * 25 for v in views[:10]] == pytest.approx(
            [0, 9, 19, 28, 37, 47, 56, 65, 75, 84]
        )


def test_describe_each_network() -> None:
    described = {
        name: find_protocol("paper").describe(build_model(name).spec).split(", shorter")[0]
        for name in ("convnet_lstm_tiny", "conv3d_tiny", "two_stream_tiny", "fused_two_stream_tiny", "i3d_tiny")
    }
    assert described == {
        "convnet_lstm_tiny": "paper: first 48 frames at 25 fps, every 4th",
        "conv3d_tiny": "paper: first 48 frames at 25 fps, in 3 clips of 16",
        "two_stream_tiny": "paper: first 40 frames at 25 fps, in 4 clips of 10",
        "fused_two_stream_tiny": "paper: first 50 frames at 25 fps, in 2 clips of 25",
        "i3d_tiny": "paper: first 16 frames at 25 fps",
    }
    assert find_protocol("10x3").describe(SPEC) == (
        "10x3: 64 frames at 25 fps, from 10 places, shorter videos looped, 3 crops along the longer side of 224 px, "
        "logits averaged"
    )
    assert "whole video at 25 fps, in clips of 16" in find_protocol("whole").describe(spec_of("conv3d"))
