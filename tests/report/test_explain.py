"""Class activation maps of videos, including the written files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.cli import main
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.inference.activation_maps import ActivationMaps
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.report.explain import draw_explanation, write_explanation
from quovadis.video.read import read_clip
from quovadis.video.writer import write_video
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.models.settled import settled
from tests.synthetic import moving_square

LABELS = ("left", "right", "up")


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer([settled(build_model("i3d_tiny", num_classes=3))], LABELS)


def test_prediction_equals_predict(recognizer: Recognizer, clip_path: Path) -> None:
    for seconds in (None, 0.8):
        found = recognizer.explain(clip_path, window_seconds=seconds)
        predicted = recognizer.predict(clip_path, window_seconds=seconds)
        torch.testing.assert_close(found.prediction.logits, predicted.logits, atol=1e-4, rtol=1e-4)
        assert [w.stop_seconds for w in found.prediction.windows] == [w.stop_seconds for w in predicted.windows]
        assert found.labels == (predicted.label,)


def test_pooled_maps_equal_the_logits(recognizer: Recognizer, clip_path: Path) -> None:
    found = recognizer.explain(clip_path, labels=LABELS, window_seconds=1.2)  # one window covers the whole video
    pooled = recognizer.models[0].pool_class_maps(found.maps[None])[0]
    torch.testing.assert_close(pooled, recognizer.predict(clip_path, window_seconds=1.2).logits, atol=1e-4, rtol=1e-4)


def test_map_times_cover_the_video_once_in_order(recognizer: Recognizer, tmp_path: Path) -> None:
    """With windows of 16 frames, the last window may overlap the one before it; short videos are looped."""
    for num_frames, steps in ((40, 5), (41, 5), (48, 6), (10, 1), (3, 1)):
        path = write_video(tmp_path / f"{num_frames}.mp4", moving_square(num_frames), fps=25)
        found = recognizer.explain(path, num_labels=3)
        centers = found.center_seconds
        assert found.maps.shape == (3, steps, 2, 2)
        assert (centers.diff() > 0).all()
        assert 0 < centers[0] <= centers[-1] < max(num_frames / 25, 0.17)


def test_two_streams_add_their_maps(clip_path: Path) -> None:
    models = [settled(build_model("i3d_tiny", num_classes=3, stream=s)) for s in ("rgb", "flow")]
    both = Recognizer(models, LABELS).explain(clip_path, labels=LABELS)
    alone = [Recognizer([m], LABELS).explain(clip_path, labels=LABELS) for m in models]
    torch.testing.assert_close(both.maps, alone[0].maps + alone[1].maps, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both.prediction.logits, sum(a.prediction.logits for a in alone), atol=1e-4, rtol=1e-4)


def example(maps: torch.Tensor, seconds: list[float], source: str = "v.mp4") -> ActivationMaps:
    logits = torch.tensor([0.0, 2.0])
    windows = (Window(0.0, 1.2, logits),)
    prediction = Prediction(source, ("run", "jump"), logits, windows)
    return ActivationMaps(prediction, ("jump",), maps, torch.tensor(seconds, dtype=torch.float64), 48, 48)


def test_maps_are_interpolated_in_time() -> None:
    found = example(torch.tensor([0.0, 10.0, 40.0]).view(1, 3, 1, 1), [1.0, 2.0, 4.0])
    at = found.at(torch.tensor([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 9.0]), "jump")
    assert at.flatten().tolist() == pytest.approx([0, 0, 5, 10, 25, 40, 40])
    assert example(torch.ones(1, 1, 2, 2), [1.0]).at(torch.tensor([0.0, 5.0]), "jump").shape == (2, 2, 2)
    with pytest.raises(UnknownNameError, match="run"):
        found.at(torch.tensor([0.0]), "run")


def test_overlay_is_at_the_position_and_time_of_the_evidence(clip_path: Path, tmp_path: Path) -> None:
    """Evidence is in the upper left quarter, in the second half of 30 frames of 64 x 48."""
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1, 0, 0] = 9.0
    found = example(maps, [0.3, 0.9], str(clip_path))
    files = write_explanation(found, tmp_path)
    assert [f.name for f in files] == ["square.explain.mp4", "square.explain.png", "square.explain.npz"]
    drawn, plain = read_clip(files[0]).frames.float(), read_clip(clip_path).frames.float()
    assert drawn.shape == plain.shape
    change = (drawn - plain).abs().mean(1)[:, :, 8:56]  # within the central square
    early, late = change[:7].mean(), change[-7:]
    assert late[:, :24, :24].mean() > 3 * early
    assert late[:, :24, :24].mean() > 3 * late[:, 36:, 36:].mean()
    with np.load(files[2]) as arrays:
        assert arrays["maps"].shape == (1, 2, 2, 2)
        assert arrays["labels"].tolist() == ["jump"]
        assert arrays["center_seconds"].tolist() == [0.3, 0.9]


def test_maps_without_positive_evidence_can_be_drawn(clip_path: Path) -> None:
    assert draw_explanation(example(-torch.ones(1, 1, 2, 2), [0.5], str(clip_path)), clip_path)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"labels": ["dive"]}, UnknownNameError, "unknown class 'dive'"),
        ({"num_labels": 0}, InvalidInputError, "at least 1"),
        ({"window_seconds": 0.1}, InvalidInputError, "too short"),
    ],
)
def test_invalid_arguments(recognizer: Recognizer, clip_path: Path, options: dict, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        recognizer.explain(clip_path, **options)


def test_networks_without_maps_raise_invalid_input_error(clip_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="conv3d_tiny has no class activation maps"):
        Recognizer([build_model("conv3d_tiny", num_classes=3)], LABELS).explain(clip_path)


def test_explain_command_continues_after_an_unreadable_video(
    clip_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 3}, LABELS)
    model = settled(build_model("i3d_tiny", num_classes=3))
    weights = save_weights(tmp_path / "w.safetensors", model.state_dict(), info)
    main(["explain", "--weights", str(weights), str(clip_path), "--out", str(tmp_path), "--json", "--num-labels", "2"])
    row = json.loads(capsys.readouterr().out)
    assert len(row["maps"]) == 2
    assert row["maps"][0]["probability"] >= row["maps"][1]["probability"]
    assert 0 < row["maps"][0]["peak_seconds"] < 1.2
    assert all(Path(file).is_file() for file in row["files"])
    with pytest.raises(SystemExit) as stop:
        main(["explain", str(tmp_path / "none.mp4"), str(clip_path), "--weights", str(weights), "--out", str(tmp_path)])
    assert stop.value.code == 1
    captured = capsys.readouterr()
    assert "1 of 2 videos could not be read" in captured.err
    assert "most evidence at" in captured.out
