"""NaN and infinity are refused with the name of the video."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.errors import InvalidInputError
from quovadis.evaluation.dump import score_dump
from quovadis.evaluation.evaluator import evaluate
from quovadis.evaluation.results import EvaluationResult
from quovadis.fvd.embed import VideoEmbedder
from quovadis.inference.live import Watcher, watch
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import make_timeline
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.report.evaluation import write_results
from quovadis.video.live import LiveStream
from tests.synthetic import dump_of

BAD = [math.nan, math.inf, -math.inf]


def bad_model(value: float = math.nan) -> VideoModel:
    """A network with one bad number in the bias of its classifier: one of its three logits is bad."""
    model = build_model("i3d_tiny", num_classes=3)
    bias = next(p for name, p in model.head.named_parameters() if name.endswith("bias"))
    with torch.no_grad():
        bias[1] = value
    return model


def recognizer_of(*models: VideoModel) -> Recognizer:
    return Recognizer(models, ("left", "right", "up"))


USES: dict[str, Callable[[Recognizer, Path], object]] = {
    "predict": lambda recognizer, path: recognizer.predict(path),
    "timeline": lambda recognizer, path: make_timeline(recognizer, path, window_seconds=0.5),
    "watch": lambda recognizer, path: list(watch(Watcher(recognizer), LiveStream(str(path)), fps=25.0)),
}


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("use", list(USES))
def test_non_finite_logits_are_refused_with_the_name_of_the_video(use: str, value: float, clip_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"1 of the 3 logits of i3d_tiny \(rgb\) for .*square.mp4 are NaN or"):
        USES[use](recognizer_of(bad_model(value)), clip_path)


@pytest.mark.parametrize("place", [0, 1])
def test_evaluate_names_the_network_and_the_video(place: int, two_classes: Path) -> None:
    models = [build_model("i3d_tiny", num_classes=3), build_model("i3d_tiny", num_classes=3)]
    models[place] = bad_model()
    with pytest.raises(InvalidInputError, match=r"logits of i3d_tiny \(rgb\) for .*test.left.0.mp4 are NaN"):
        evaluate(recognizer_of(*models), load_dataset(two_classes), protocol="center-clip", num_workers=0)


def test_overflowing_sum_of_logits_is_refused(clip_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"i3d_tiny \(rgb \+ rgb\) for .*square.mp4"):
        recognizer_of(bad_model(3e38), bad_model(3e38)).predict(clip_path)


@pytest.mark.parametrize("value", BAD)
def test_fvd_names_the_video(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bad video is the second one of the second batch."""
    run_network = VideoEmbedder.run_network
    batches: list[torch.Tensor] = []

    def run_badly(self: VideoEmbedder, batch: list[list[torch.Tensor]]) -> torch.Tensor:
        batches.append(run_network(self, batch).clone())
        if len(batches) == 2:
            batches[-1][1, 0] = value
        return batches[-1]

    monkeypatch.setattr(VideoEmbedder, "run_network", run_badly)
    videos = np.random.default_rng(0).integers(0, 256, (4, 9, 40, 40, 3), np.uint8)
    embedder = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=3))
    with pytest.raises(InvalidInputError, match=r"the logits of array\[3\] contain NaN or infinity"):
        embedder.embed(videos, batch_size=2)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("error", ["", "one frame, no flow"])
def test_dump_with_a_non_finite_logit_is_refused(value: float, error: str) -> None:
    """Also if the video has an error: all logits of an unreadable video are NaN."""
    logits = torch.zeros(2, 3, 4)
    logits[1, 2, 3] = value
    with pytest.raises(InvalidInputError, match=r"1 of the 4 logits of i3d \(flow\) for 2.mp4 are NaN or infinite"):
        dump_of(logits, errors=("", "", error))


def test_dump_without_logits_needs_an_error() -> None:
    logits = torch.zeros(1, 2, 4)
    logits[0, 1] = math.nan
    assert dump_of(logits, errors=("", "not a video")).errors[1]
    with pytest.raises(InvalidInputError, match=r"4 of the 4 logits of i3d \(rgb\) for 1.mp4"):
        dump_of(logits, errors=("", ""))


@pytest.mark.parametrize("sign", [1, -1], ids=["inf", "NaN"])
def test_weights_that_overflow_a_fusion_are_refused(sign: int) -> None:
    logits = torch.full((2, 2, 3), 20.0)
    logits[1] *= sign
    with pytest.raises(InvalidInputError, match=r"logits of i3d \(3e\+38 x rgb \+ 3e\+38 x flow\) for 0.mp4"):
        score_dump(dump_of(logits, errors=("", "")), weights=[3e38, 3e38])


def unreadable_result() -> EvaluationResult:
    dump = dump_of(torch.full((1, 2, 2), torch.nan), [0, 1], errors=("broken", "broken"))
    return score_dump(dump)[0]


def test_json_has_no_nan(tmp_path: Path) -> None:
    """Without readable videos the loss is NaN, which is not valid JSON."""
    result = unreadable_result()
    assert math.isnan(result.loss)
    text = write_results(tmp_path / "evaluation.json", [result]).read_text()
    (read,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert read["loss"] is None
    assert json.loads(json.dumps(replace(result, loss=0.5).to_dict()))["loss"] == 0.5
