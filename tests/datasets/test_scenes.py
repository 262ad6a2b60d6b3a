"""Drawn scenes of Kinetics classes."""

from pathlib import Path

import pytest
import torch

from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.datasets.scenes import SCENE_LABELS, draw_scene
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.inference.recognizer import Recognizer
from quovadis.video.writer import write_video


@pytest.mark.parametrize("label", SCENE_LABELS)
def test_same_seed_draws_the_same_moving_scene(label: str) -> None:
    clip = draw_scene(label, seconds=0.2, seed=3)
    assert clip.frames.shape == (5, 3, 256, 340)
    assert clip.pts_seconds.tolist() == [i / 25 for i in range(5)]
    assert torch.equal(clip.frames, draw_scene(label, seconds=0.2, seed=3).frames)
    assert not torch.equal(clip.frames, draw_scene(label, seconds=0.2, seed=4).frames)
    first, last = clip.frames[[0, -1]].float()
    assert ((first - last).abs() > 30).float().mean() > 0.001  # motion, not only noise


def test_unknown_scenes_and_lengths_are_refused() -> None:
    assert set(SCENE_LABELS) <= set(class_labels("kinetics400"))
    with pytest.raises(UnknownNameError, match="golf putting"):
        draw_scene("golf")
    with pytest.raises(InvalidInputError, match="seconds must be above 0; got nan"):
        draw_scene("golf putting", seconds=float("nan"))


@pytest.mark.slow
@pytest.mark.pretrained
@pytest.mark.parametrize("label", SCENE_LABELS)
def test_the_official_network_recognizes_them(label: str, pretrained: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "scene.mp4", draw_scene(label, seconds=2.56).frames, fps=25)
    best, probability = Recognizer.load(pretrained).predict(path).top(1)[0]
    assert best == label
    assert probability > 0.99
