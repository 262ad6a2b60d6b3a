from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.datasets.motions import MotionsConfig
from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.features import FeatureExtractor
from quovadis.inference.prediction import Prediction, Window
from quovadis.inference.recognizer import Recognizer
from quovadis.inference.timeline import make_timeline
from quovadis.models.zoo import build_model
from quovadis.report.explain import select_explainable
from quovadis.video.read import read_clip
from quovadis.video.writer import write_video
from quovadis.web.analysis import (
    compare,
    compare_features,
    describe_calibration,
    predict,
    recognize,
    sample_flow,
)
from quovadis.web.examples import fitting_examples
from quovadis.web.limits import Limits
from quovadis.web.models import ModelRegistry
from quovadis.web.preview import plays_in_browsers, write_preview
from quovadis.web.results import Comparison, VideoPrediction
from quovadis.web.schema import comparison_json, features_json, json_schema, recognition_json
from quovadis.weights.catalog import DEFAULT_WEIGHTS
from tests.synthetic import awake, moving_square
from tests.web.conftest import LABELS, save_tiny


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer([awake(build_model("i3d_tiny", num_classes=2))], ["left", "right"], device="cpu")


def test_prediction_equals_predict_and_precedes_the_timeline(recognizer: Recognizer, clip: Path) -> None:
    progress: list[tuple[float, str]] = []
    predictions: list[tuple[int, VideoPrediction]] = []
    found = recognize(
        recognizer,
        clip,
        name="my.mp4",
        on_prediction=lambda prediction: predictions.append((len(progress), prediction)),
        on_progress=lambda *step: progress.append(step),
    )
    whole = recognizer.predict(clip)
    torch.testing.assert_close(found.overall.prediction.logits, whole.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(predict(recognizer, clip).prediction.logits, whole.logits)
    assert [w.start_seconds for w in found.overall.prediction.windows] == [w.start_seconds for w in whole.windows]
    expected = make_timeline(recognizer, clip)
    assert torch.equal(found.timeline.prediction.logits, expected.prediction.logits)
    assert [w.start_seconds for w in found.timeline.prediction.windows] == [
        w.start_seconds for w in expected.prediction.windows
    ]
    ((num_before, prediction),) = predictions
    assert prediction is found.overall
    assert prediction.maps is not None
    first_of_timeline = next(i for i, (_, what) in enumerate(progress) if "timeline" in what)
    assert num_before <= first_of_timeline
    fractions = [fraction for fraction, _ in progress]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert found.overall.prediction.source == found.timeline.prediction.source == "my.mp4"
    document = recognition_json(found)
    assert document["video"]["name"] == "my.mp4"
    assert (document["window_seconds"], document["stride_seconds"]) == (whole.window_seconds, whole.stride_seconds)
    assert document["timeline"]["stride_seconds"] == document["timeline"]["window_seconds"] / 2
    assert sum(c["probability"] for c in document["top"]) == pytest.approx(1)
    assert str(clip.parent) not in str(document)


def test_maps_equal_explain(recognizer: Recognizer, clip: Path) -> None:
    found = recognize(recognizer, clip).overall
    assert found.maps is not None
    assert found.maps.labels[0] == recognizer.predict(clip).label
    assert torch.equal(found.maps.maps, recognizer.explain(clip, num_labels=5).maps)
    assert found.maps_model == "i3d_tiny (rgb)"
    assert recognize(recognizer, clip, draw_maps=False).overall.maps is None


def test_maps_of_two_streams_use_rgb(recognizer: Recognizer, clip: Path) -> None:
    rgb, flow = (awake(build_model("i3d_tiny", num_classes=2, stream=stream)) for stream in ("rgb", "flow"))
    both = Recognizer([flow, rgb], ["left", "right"], device="cpu")
    part = select_explainable(both)
    assert part is not None
    assert part.describe() == "i3d_tiny (rgb)"
    found = recognize(both, clip).overall
    assert torch.equal(found.prediction.logits, both.predict(clip).logits)
    assert found.maps is not None
    assert found.maps_model == "i3d_tiny (rgb)"
    assert list(found.maps.labels) == [label for label, _ in found.prediction.top()]
    alone = Recognizer([flow], ["left", "right"], device="cpu")
    assert select_explainable(alone) is alone
    assert select_explainable(Recognizer([build_model("conv3d_tiny", num_classes=2)], ["left", "right"])) is None


def test_networks_without_maps_are_recognized(clip: Path) -> None:
    found = recognize(Recognizer([build_model("conv3d_tiny", num_classes=2)], ["left", "right"], device="cpu"), clip)
    assert found.overall.maps is None


def test_probabilities_of_a_frozen_classifier_are_calibrated(recognizer: Recognizer, clip: Path) -> None:
    assert predict(recognizer, clip).calibration == ""
    model = awake(build_model("i3d_tiny", num_classes=2))
    model.source = {"recipe": "frozen", "temperature": 1.234}
    frozen = Recognizer([model], ["left", "right"], device="cpu")
    assert predict(frozen, clip).calibration == "calibrated on held-out videos (temperature 1.23)"
    assert describe_calibration(Recognizer([model, model], ["left", "right"], device="cpu")) == ""


def test_flow_frames_show_frames_and_motion(recognizer: Recognizer, clip: Path) -> None:
    flow_frames = sample_flow(recognizer, clip).frames
    assert len(flow_frames) == 8
    assert [f.seconds for f in flow_frames] == sorted(f.seconds for f in flow_frames)
    frames = read_clip(clip, fps=25).frames
    for item in flow_frames:
        assert torch.equal(item.frame, frames[round(item.seconds * 25)])
    # The square moves to the right, which is drawn red; the rest does not move and is white.
    red = [f.flow.float().mean((1, 2)) for f in flow_frames]
    assert all(r[0] > 250 and r[1] < r[0] and r[2] < r[0] for r in red[:6])


def test_a_long_video_has_few_windows(recognizer: Recognizer, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.web.analysis._MAX_WINDOWS", 2)
    found = recognize(recognizer, clip)
    assert found.timeline.prediction.stride_seconds == pytest.approx(1.0)
    assert len(found.timeline.prediction.windows) <= 4


def test_limits_are_checked_first(recognizer: Recognizer, clip: Path) -> None:
    with pytest.raises(InvalidInputError, match="the limit is 1 s"):
        recognize(recognizer, clip, limits=Limits(max_seconds=1))


def test_agreement_is_a_fraction_of_the_time(recognizer: Recognizer, clip: Path) -> None:
    found = compare(recognizer, recognizer, clip)
    assert found.agreement == 1

    def with_tops(*tops: int) -> Prediction:
        logits = [torch.eye(2)[top] * 9 for top in tops]
        windows = tuple(Window(t * 1.0, t + 1.0, x) for t, x in enumerate(logits))
        return Prediction("v", ("a", "b"), logits[0], windows)

    def made(*tops: int) -> Comparison:
        both = [replace(found.first, timeline=replace(found.first.timeline, prediction=with_tops(*t))) for t in tops]  # type: ignore[misc]
        return Comparison(*both)

    # Cells of three windows of a second: 0 to 1, 1 to 2, 2 to 3; of two: 0 to 1, 1 to 2.
    assert made((0, 1, 0), (0, 0, 0)).agreement == pytest.approx(2 / 3)
    assert made((0, 1, 1), (1, 1)).agreement == pytest.approx(2 / 3)
    assert made((0, 0), (1, 1)).agreement == 0


def test_similarities_are_cosines_of_the_features(recognizer: Recognizer, clip: Path, tmp_path: Path) -> None:
    other = write_video(tmp_path / "o.mp4", moving_square(37, 48, 64, seed=3).flip(0), fps=25)
    found = compare_features(recognizer, clip, other, names=("a", "b"))
    extractor = FeatureExtractor(recognizer.models, replace(FEATURE_PRESETS["quovadis"], stride=4), device="cpu")
    a, b = (extractor.extract(path).features["rgb"][:, 0].double().numpy() for path in (clip, other))
    assert found.similarity.shape == (len(a), len(b))
    i, j = 2, len(b) - 1
    norm = (a[i] @ a[i]) ** 0.5 * (b[j] @ b[j]) ** 0.5
    assert float(found.similarity[i, j]) == pytest.approx(a[i] @ b[j] / norm, abs=1e-5)
    mean_a, mean_b = a.mean(0), b.mean(0)
    expected = mean_a @ mean_b / ((mean_a @ mean_a) ** 0.5 * (mean_b @ mean_b) ** 0.5)
    assert found.mean_similarity == pytest.approx(expected, abs=1e-5)
    # Windows of 16 frames every 4 frames: those at least 4 rows apart do not overlap.
    unit = a / (a * a).sum(1, keepdims=True) ** 0.5
    apart = [unit[i] @ unit[j] for i in range(len(a)) for j in range(i + 4, len(a))]
    assert found.self_similarity[0] == pytest.approx(sum(apart) / len(apart), abs=1e-5)
    short = write_video(tmp_path / "s.mp4", moving_square(20, 48, 64), fps=25)
    assert compare_features(recognizer, clip, short).self_similarity[1] is None
    same = compare_features(recognizer, clip, clip)
    assert same.mean_similarity == pytest.approx(1)
    assert torch.allclose(same.similarity.diag(), torch.ones(len(a)), atol=1e-5)


def test_unplayable_videos_are_transcoded(clip: Path, tmp_path: Path) -> None:
    odd = write_video(tmp_path / "v.avi", moving_square(25, 33, 47), fps=12, codec="mpeg4")
    info = Limits().check(odd)
    assert not plays_in_browsers(info)
    assert plays_in_browsers(Limits().check(clip))
    copy = write_preview(odd, tmp_path / "p.mp4", info, lambda fraction, description: None)
    copied = Limits().check(copy)
    assert plays_in_browsers(copied)
    assert copied.seconds == pytest.approx(info.seconds, abs=0.1)


def test_documents_follow_the_schema(recognizer: Recognizer, clip: Path) -> None:
    pydantic = pytest.importorskip("pydantic", reason="needs pydantic, which comes with the extra web")
    from quovadis.web import schema

    found = recognize(recognizer, clip)
    documents = {
        schema.RecognitionJson: recognition_json(found),
        schema.ComparisonJson: comparison_json(Comparison(found, found)),
        schema.FeaturesJson: features_json(compare_features(recognizer, clip, clip)),
    }
    for kind, document in documents.items():
        adapter = pydantic.TypeAdapter(kind, config=None)
        assert adapter.validate_python(document, strict=True) == document
        assert set(adapter.json_schema()["required"]) == set(document)
    assert set(json_schema()) == {"/recognize", "/compare", "/features"}


def test_models_are_named_by_stream(tmp_path: Path) -> None:
    a, b = save_tiny(tmp_path / "a.safetensors", 0), save_tiny(tmp_path / "b.safetensors", 1)
    models = ModelRegistry.load([a, b], [b], device="cpu")
    assert models.names == ["all", "rgb", "rgb 2", "compare:rgb"]
    assert models.default_pair == (models.names[0], "compare:rgb")
    assert models["rgb"].labels == LABELS
    with pytest.raises(UnknownNameError, match="did you mean 'rgb'"):
        models["rbg"]
    assert models.describe("rgb") == f"2 classes ({', '.join(LABELS)}), RGB; i3d_tiny (rgb)"


def test_published_networks_are_described_from_the_catalog() -> None:
    published = Recognizer([build_model("i3d_tiny", num_classes=400)], [str(i) for i in range(400)], device="cpu")
    published.networks = ({"weights": DEFAULT_WEIGHTS},)
    words = "400 Kinetics actions, RGB, 68.4 % top-1 as published; i3d-rgb-kinetics400"
    assert ModelRegistry({"rgb": published}).describe("rgb") == words
    rgb, flow = (build_model("i3d_tiny", num_classes=400, stream=stream) for stream in ("rgb", "flow"))
    both = Recognizer([rgb, flow], published.labels, device="cpu")
    both.networks = ({"weights": "i3d-rgb-imagenet-kinetics400"}, {"weights": "i3d-flow-imagenet-kinetics400"})
    described = ModelRegistry({"rgb+flow": both}).describe("rgb+flow")
    assert described.startswith("400 Kinetics actions, RGB + flow, 71.1 % and 63.4 % top-1 as published; i3d-rgb-")
    both.networks = ({"weights": "i3d-rgb-imagenet-kinetics400"}, {"weights": "runs/flow"})
    described = ModelRegistry({"rgb+flow": both}).describe("rgb+flow")
    assert described.startswith("400 classes (0, 1, 2 ...), RGB + flow; i3d_tiny")


def test_examples_require_a_model_with_their_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitting_examples(("run", "jump"), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert len(fitting_examples(MotionsConfig().labels[::-1], tmp_path)) == 4
    monkeypatch.setattr("quovadis.web.examples._SCENE_SECONDS", 0.2)
    captions = [example.caption for example in fitting_examples(class_labels("kinetics400"), tmp_path)]
    assert captions == ["three actions in turn", "juggling balls", "golf putting", "playing tennis"]
