from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.evaluation.feature_presets import FEATURE_PRESETS
from quovadis.evaluation.features import FeatureExtractor
from quovadis.evaluation.timeline import make_timeline
from quovadis.models.zoo import build_model
from quovadis.recognizer import Recognizer
from quovadis.types import Prediction, Window
from quovadis.video.clip import read_clip
from quovadis.video.writer import write_video
from quovadis.web.analysis import (
    Comparison,
    compare,
    compare_features,
    plays_in_browsers,
    recognise,
    write_preview,
)
from quovadis.web.bench import Bench
from quovadis.web.limits import Limits
from quovadis.web.schema import comparison_json, features_json, json_schema, recognition_json
from tests.synthetic import awake, moving_square
from tests.web.conftest import LABELS, save_tiny


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer([awake(build_model("i3d_tiny", num_classes=2))], ["left", "right"], device="cpu")


def test_recognise_is_the_timeline_with_pictures(recognizer: Recognizer, clip: Path) -> None:
    told: list[tuple[float, str]] = []
    found = recognise(recognizer, clip, name="my.mp4", on_progress=lambda *step: told.append(step))
    expected = make_timeline(recognizer, clip)
    assert torch.equal(found.timeline.prediction.logits, expected.prediction.logits)
    assert [w.start_seconds for w in found.timeline.prediction.windows] == [
        w.start_seconds for w in expected.prediction.windows
    ]
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert found.timeline.prediction.source == "my.mp4"
    document = recognition_json(found)
    assert document["video"]["name"] == "my.mp4"
    assert sum(c["probability"] for c in document["top"]) == pytest.approx(1)
    assert str(clip.parent) not in str(document)


def test_moments_show_the_frames_and_where_they_move(recognizer: Recognizer, clip: Path) -> None:
    moments = recognise(recognizer, clip).moments
    assert len(moments) == 8
    assert [m.seconds for m in moments] == sorted(m.seconds for m in moments)
    frames = read_clip(clip, fps=25).frames
    for moment in moments:
        assert torch.equal(moment.frame, frames[round(moment.seconds * 25)])
    # The square moves to the right, which the wheel paints red; the rest stands still and is white.
    red = [m.flow.float().mean((1, 2)) for m in moments]
    assert all(r[0] > 250 and r[1] < r[0] and r[2] < r[0] for r in red[:6])


def test_a_long_video_has_few_windows(recognizer: Recognizer, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.web.analysis._MAX_WINDOWS", 2)
    found = recognise(recognizer, clip)
    assert found.stride_seconds == pytest.approx(1.0)
    assert len(found.timeline.prediction.windows) <= 4


def test_limits_come_before_work(recognizer: Recognizer, clip: Path) -> None:
    with pytest.raises(InvalidInputError, match="at most 1 s are taken"):
        recognise(recognizer, clip, limits=Limits(max_seconds=1))


def test_agreement_is_a_share_of_the_time(recognizer: Recognizer, clip: Path) -> None:
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


def test_cosines_are_those_of_the_features(recognizer: Recognizer, clip: Path, tmp_path: Path) -> None:
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
    same = compare_features(recognizer, clip, clip)
    assert same.mean_similarity == pytest.approx(1)
    assert torch.allclose(same.similarity.diag(), torch.ones(len(a)), atol=1e-5)


def test_what_browsers_do_not_play_is_copied(clip: Path, tmp_path: Path) -> None:
    odd = write_video(tmp_path / "v.avi", moving_square(25, 33, 47), fps=12, codec="mpeg4")
    facts = Limits().check(odd)
    assert not plays_in_browsers(facts)
    assert plays_in_browsers(Limits().check(clip))
    copy = write_preview(odd, tmp_path / "p.mp4", facts, lambda share, what: None)
    copied = Limits().check(copy)
    assert plays_in_browsers(copied)
    assert copied.seconds == pytest.approx(facts.seconds, abs=0.1)


def test_documents_follow_the_schema(recognizer: Recognizer, clip: Path) -> None:
    pydantic = pytest.importorskip("pydantic", reason="needs pydantic, which comes with the extra web")
    from quovadis.web import schema

    found = recognise(recognizer, clip)
    documents = {
        schema.RecognitionJson: recognition_json(found),
        schema.ComparisonJson: comparison_json(Comparison(found, found)),
        schema.FeaturesJson: features_json(compare_features(recognizer, clip, clip)),
    }
    for kind, document in documents.items():
        adapter = pydantic.TypeAdapter(kind, config=None)
        assert adapter.validate_python(document, strict=True) == document
        assert set(adapter.json_schema()["required"]) == set(document)
    assert set(json_schema()) == {"/recognise", "/compare", "/features"}


def test_the_bench_names_its_networks(tmp_path: Path) -> None:
    a, b = save_tiny(tmp_path / "a.safetensors", 0), save_tiny(tmp_path / "b.safetensors", 1)
    bench = Bench.load([a, b], [b], device="cpu")
    assert bench.names == ["all", "rgb", "rgb 2", "compare:rgb"]
    assert bench.pair == (bench.names[0], "compare:rgb")
    assert bench["rgb"].labels == LABELS
    with pytest.raises(UnknownNameError, match="did you mean 'rgb'"):
        bench["rbg"]
    with pytest.raises(InvalidInputError, match="quovadis demo"):
        Bench.load([])
