"""Evaluation results."""

import json

import torch

from quovadis.evaluation.results import EvaluationResult, VideoResult


def test_unreadable_videos_count_as_wrong_and_are_listed() -> None:
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
