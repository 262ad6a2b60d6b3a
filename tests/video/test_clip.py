"""The words: validated, frozen, shape in the repr."""

import dataclasses
import json
from collections.abc import Callable

import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError, QuovadisError, TooFewFramesError
from quovadis.evaluation.results import EvaluationResult, VideoResult
from quovadis.inference.prediction import Prediction, Window
from quovadis.models.spec import StreamSpec
from quovadis.report.terminal import prediction_table, to_text
from quovadis.video.clip import Clip, require_frames


def frames(num_frames: int = 4, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.zeros(num_frames, 3, height, width, dtype=torch.uint8)


def test_a_clip_knows_its_size() -> None:
    clip = Clip(frames(), torch.arange(4) / 25, flow=torch.zeros(4, 2, 6, 8), source="a.mp4")
    assert (len(clip), clip.height, clip.width) == (4, 6, 8)
    assert repr(clip) == "Clip(T=4, H=6, W=8, 0.000 s to 0.120 s, with flow, a.mp4)"
    assert repr(Clip(frames(0), torch.zeros(0))) == "Clip(T=0, H=6, W=8)"


def test_a_clip_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Clip(frames(), torch.zeros(4)).frames = frames()  # type: ignore[misc]


def test_times_become_float64() -> None:
    clip = Clip(frames(), [0, 1, 2, 3])  # type: ignore[arg-type]
    assert clip.pts_seconds.dtype == torch.float64


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Clip(frames().float(), torch.zeros(4)), InvalidTypeError, "uint8 tensor"),
        (lambda: Clip(frames().numpy(), torch.zeros(4)), InvalidTypeError, "ndarray"),
        (lambda: Clip(frames().permute(0, 2, 3, 1), torch.zeros(4)), InvalidInputError, r"permute\(0, 3, 1, 2\)"),
        (lambda: Clip(frames()[0], torch.zeros(3)), InvalidInputError, r"got \(3, 6, 8\)"),
        (lambda: Clip(frames()[0, 0, 0, 0], torch.zeros(1)), InvalidInputError, r"got \(\)"),
        (lambda: Clip(frames(), torch.zeros(3)), InvalidInputError, "4 frames"),
        (lambda: Clip(frames(), torch.zeros(4), torch.zeros(4, 2, 6, 7)), InvalidInputError, r"\(4, 2, 6, 7\)"),
        (lambda: Clip(frames(), torch.zeros(4), torch.zeros(4, 2, 6, 8).half()), InvalidInputError, "float16"),
    ],
)
def test_a_clip_refuses_what_is_none(make: Callable[[], Clip], error: type[QuovadisError], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_a_stream_reaches_over_its_stride() -> None:
    assert StreamSpec("rgb", 3, num_frames=64).span_frames == 64
    assert StreamSpec("rgb", 3, num_frames=5, frame_stride=10).span_frames == 41


def test_too_few_frames_says_how_many_and_what_to_do() -> None:
    require_frames(9, 9, "a.mp4", "i3d")
    with pytest.raises(TooFewFramesError, match=r"a.mp4 has 1 frame; i3d needs at least 9: use short='loop'"):
        require_frames(1, 9, "a.mp4", "i3d")


def prediction() -> Prediction:
    windows = (Window(0.0, 2.56, torch.tensor([0.0, 1.0, 2.0])), Window(2.56, 5.12, torch.tensor([0.0, 5.0, 0.0])))
    logits = torch.stack([w.logits for w in windows]).mean(0)
    return Prediction("v.mp4", ("run", "jump", "swim"), logits, windows, ("it ends early",))


def test_a_prediction_ranks_by_softmax_of_the_logits() -> None:
    p = prediction()
    assert p.label == "jump"
    assert [name for name, _ in p.top(9)] == ["jump", "swim", "run"]
    assert sum(probability for _, probability in p.top(3)) == pytest.approx(1)
    assert p.top(1)[0][1] == pytest.approx(torch.exp(p.logits[1]).item() / torch.exp(p.logits).sum().item())
    assert p.top(1, p.windows[0])[0][0] == "swim"


def test_a_prediction_becomes_json() -> None:
    plain = json.loads(json.dumps(prediction().to_dict(2)))
    assert [t["label"] for t in plain["top"]] == ["jump", "swim"]
    assert [w["top"][0]["label"] for w in plain["windows"]] == ["swim", "jump"]
    assert plain["windows"][1]["start_seconds"] == 2.56
    assert plain["notes"] == ["it ends early"]
    assert "jump" in repr(prediction())


def test_a_prediction_says_which_windows_it_used() -> None:
    p = prediction()
    assert p.describe_windows() == ""
    assert dataclasses.replace(p, window_seconds=10.0, stride_seconds=10.0).describe_windows() == "windows of 10 s"
    overlapping = dataclasses.replace(p, window_seconds=2.56, stride_seconds=1.28)
    assert overlapping.describe_windows() == "windows of 2.56 s every 1.28 s"
    assert (overlapping.to_dict()["window_seconds"], overlapping.to_dict()["stride_seconds"]) == (2.56, 1.28)
    assert "whole video in windows of 2.56 s every 1.28 s" in to_text(prediction_table(overlapping))
    assert "windows of" not in to_text(prediction_table(p))


def test_an_evaluation_counts_unreadable_videos_as_wrong_and_lists_them() -> None:
    videos = (
        VideoResult("a.mp4", "run", (("run", 0.9), ("jump", 0.1))),
        VideoResult("b.mp4", "run", (("jump", 0.9), ("run", 0.1))),
        VideoResult("c.mp4", "run", (), error="c.mp4 is empty (0 bytes)"),
    )
    result = EvaluationResult(
        "motions", "abc", "test", "whole video", "i3d", ("run", "jump"), 1 / 3, 2 / 3, 1 / 3, 0.5,
        torch.tensor([[1, 1], [0, 0]]), videos, torch.zeros(3, 2),
    )  # fmt: skip
    assert [v.correct for v in videos] == [True, False, False]
    assert result.num_videos == 3
    assert [v.path for v in result.unreadable] == ["c.mp4"]
    plain = json.loads(json.dumps(result.to_dict()))
    assert (plain["num_videos"], plain["num_unreadable"]) == (3, 1)
    assert plain["confusion"] == [[1, 1], [0, 0]]
    assert "3 videos, 1 unreadable, whole video" in repr(result)
