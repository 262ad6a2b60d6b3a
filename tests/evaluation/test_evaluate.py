import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import VideoRecord
from quovadis.errors import DatasetError, StorageError
from quovadis.evaluation.dump import score_dump
from quovadis.evaluation.evaluator import ProtocolVideos, evaluate
from quovadis.evaluation.protocols import find_protocol
from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import StreamKind
from quovadis.models.zoo import build_model
from quovadis.report.evaluation import pick_examples, write_evaluation_page, write_results
from quovadis.runtime import distributed
from tests.synthetic import dump_of


def summary(logits: list[torch.Tensor | None], targets: list[int]) -> EvaluationResult:
    """Metrics of logits of 7 classes; None for an unreadable video."""
    rows = [torch.full((7,), torch.nan) if row is None else row for row in logits]
    errors = tuple("broken" if row is None else "" for row in logits)
    return score_dump(dump_of(torch.stack(rows)[None], targets, errors=errors))[0]


def ranked(*order: int) -> torch.Tensor:
    """Logits that rank the classes in this order, before all others."""
    scores = torch.full((7,), -10.0)
    for place, label in enumerate(order):
        scores[label] = 10.0 - place
    return scores


def test_metrics_by_hand() -> None:
    """Class a: 3 videos, 2 right; class b: 2 videos, 1 right, the other fourth; class c: one, sixth."""
    rows = [ranked(0), ranked(0), ranked(1, 0), ranked(1), ranked(2, 3, 4, 1), ranked(0, 1, 3, 4, 5, 2)]
    result = summary([*rows], [0, 0, 0, 1, 1, 2])
    assert result.top1 == pytest.approx(3 / 6)
    assert result.top5 == pytest.approx(5 / 6)
    assert result.mean_class == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert result.confusion[:3, :3].tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 0]]
    assert result.loss == pytest.approx(
        float(torch.nn.functional.cross_entropy(torch.stack(rows), torch.tensor([0, 0, 0, 1, 1, 2])))
    )


def test_unreadable_video_counts_as_wrong() -> None:
    result = summary([ranked(0), None, ranked(1)], [0, 0, 1])
    assert result.top1 == pytest.approx(2 / 3)
    assert result.top5 == pytest.approx(2 / 3)
    assert result.mean_class == pytest.approx((1 / 2 + 1) / 2)
    assert [v.path for v in result.unreadable] == ["1.mp4"]
    assert int(result.confusion.sum()) == 2


def test_metrics_are_zero_if_no_video_is_readable() -> None:
    result = summary([None, None], [0, 1])
    assert (result.top1, result.top5, result.mean_class) == (0, 0, 0)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    torch.manual_seed(0)
    return Recognizer([build_model("i3d_tiny", num_classes=2)], ("left", "right"))


def test_an_error_closes_the_loader(
    recognizer: Recognizer, two_classes: Path, closed_loaders: list[VideoDataLoader]
) -> None:
    def stop(done: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        evaluate(recognizer, load_dataset(two_classes), num_workers=0, progress=stop)
    assert len(closed_loaders) == 1


def test_progress_of_several_processes_is_an_estimate_for_all(
    recognizer: Recognizer, two_classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of four processes evaluates videos 0 and 4 of six; the others are represented by its first result."""
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    monkeypatch.setattr(distributed, "gather", lambda scores: [dict.fromkeys(range(6), scores[0]), scores])
    seen: list[int] = []
    result = evaluate(recognizer, load_dataset(two_classes), protocol="whole", num_workers=0, progress=seen.append)
    assert seen == [4, 6]
    assert result.num_videos == 6


@pytest.mark.parametrize(("name", "width"), [("paper", 64), ("10x3", 86)])
def test_videos_are_cropped_before_the_transfer_if_there_is_one_crop(
    recognizer: Recognizer, two_classes: Path, name: str, width: int
) -> None:
    """The videos of 48 x 40 pixels are resized to 86 x 72; the network takes 64 x 64."""
    records = load_dataset(two_classes).split("test")
    _, video, _ = ProtocolVideos(records, recognizer.spec, find_protocol(name))[0]
    assert video is not None
    assert video.frames.shape[2:] == (64 if width == 64 else 72, width)


def test_evaluating_files_agrees_with_predicting_them(recognizer: Recognizer, two_classes: Path) -> None:
    data = load_dataset(two_classes)
    seen: list[int] = []
    result = evaluate(recognizer, data, protocol="whole", progress=seen.append)
    assert seen == [1, 2, 3, 4, 5, 6]
    for record, video in zip(data.split("test"), result.videos, strict=True):
        expected = recognizer.predict(record.path, window_seconds=10)
        assert video.top[0][0] == expected.label
        assert video.top[0][1] == pytest.approx(expected.top(1)[0][1], abs=1e-5)
    assert result.data_fingerprint == data.fingerprint
    assert "whole video at 25 fps" in result.protocol


@pytest.mark.slow
def test_workers_do_not_change_the_results(recognizer: Recognizer, two_classes: Path) -> None:
    data = load_dataset(two_classes)
    a, b = (evaluate(recognizer, data, protocol="ten-clips", num_workers=n) for n in (0, 2))
    assert a.videos == b.videos


def test_broken_and_missing_files_are_listed_as_wrong(
    recognizer: Recognizer, two_classes: Path, tmp_path: Path
) -> None:
    data = load_dataset(two_classes)
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    more = (VideoRecord(broken, 0, "test"), VideoRecord(tmp_path / "missing.mp4", 1, "test"))
    result = evaluate(recognizer, replace(data, records=data.records + more), num_workers=0)
    assert result.num_videos == 8
    assert [Path(v.path).name for v in result.unreadable] == ["broken.mp4", "missing.mp4"]
    assert "not a video" in result.unreadable[0].error
    assert result.top1 <= 6 / 8


def test_classes_are_matched_by_name(recognizer: Recognizer, two_classes: Path) -> None:
    data = load_dataset(two_classes)
    turned = data.with_labels(("right", "left"))
    assert [turned.labels[r.label] for r in turned.records] == [data.labels[r.label] for r in data.records]
    assert turned.fingerprint == data.fingerprint
    a, b = (evaluate(recognizer, d, num_workers=0) for d in (data, turned))
    assert (a.top1, a.videos, a.labels) == (b.top1, b.videos, b.labels)


def test_unknown_classes_are_refused(recognizer: Recognizer, two_classes: Path) -> None:
    data = load_dataset(two_classes)
    with pytest.raises(DatasetError, match=r"1 classes that the model does not (know|have): 'up'.*left, right"):
        evaluate(recognizer, replace(data, labels=("left", "up")))


def test_full_disk_keeps_the_old_report(
    recognizer: Recognizer, two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    data = load_dataset(two_classes)
    result = evaluate(recognizer, data, num_workers=0)
    monkeypatch.setattr("os.fsync", full)
    for name, write in (
        ("report.html", lambda path: write_evaluation_page(path, [result], data, recognizer, title="t", summary="s")),
        ("evaluation.json", lambda path: write_results(path, [result])),
    ):
        (tmp_path / name).write_text("old")
        with pytest.raises(StorageError, match="No space left"):
            write(tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_page_is_self_contained_and_escapes_names(recognizer: Recognizer, two_classes: Path, tmp_path: Path) -> None:
    data = load_dataset(two_classes)
    result = evaluate(recognizer, data, num_workers=0)
    log = [
        {"step": 1, "loss": 2.0, "accuracy": 0.1, "learning_rate": 0.1},
        {"step": 1, "val_loss": 1.0, "val_accuracy": 0.5},
    ]
    path = write_evaluation_page(
        tmp_path / "deep" / "report.html",
        [result],
        data,
        recognizer,
        title="<script>",
        summary="s",
        logs={"rgb": log},
        facts={"a": "<b>"},
    )
    html = path.read_text()
    num_examples = len(pick_examples(result, data, recognizer, 8))
    assert html.count("alt='frames of ") == html.count("alt='evidence for ") == num_examples > 0
    assert html.count("data:image/jpeg") == 2 * num_examples
    assert "<script>" not in html
    assert "&lt;b&gt;" in html
    assert html.count("alt='filters of i3d_tiny (rgb)' src='data:image/png") == 1
    for outside in ("http://", "https://", "src='/", "<link"):
        assert outside not in html.replace("http://www.w3.org", "").replace("https://www.w3.org", "")
    assert f"{result.top1:.1%}" in html
    assert result.data_fingerprint in html
    write_results(tmp_path / "evaluation.json", [result])


def test_examples_show_the_evidence_for_the_most_probable_class(recognizer: Recognizer, two_classes: Path) -> None:
    data = load_dataset(two_classes)
    result = evaluate(recognizer, data, num_workers=0)
    (example,) = pick_examples(result, data, recognizer, 1)
    assert example.evidence is not None
    path = next(r.path for r in data.records if data.relative(r) == example.caption)
    found = recognizer.explain(path, labels=[example.top[0][0]])
    middle = round(128 * found.crop_px / found.short_side_px)
    margin = (example.frames.shape[3] - middle) // 2
    shown, plain = example.evidence.float(), example.frames.float()
    assert shown.shape == plain.shape
    torch.testing.assert_close(shown[..., :margin], plain[..., :margin] / 2, atol=0.51, rtol=0)  # not an input
    inside = (shown - plain).abs()[..., margin:-margin].amax()
    assert bool(inside > 0) == bool(found.maps.max() > 0)


@pytest.mark.parametrize(("name", "stream"), [("conv3d_tiny", "rgb"), ("i3d_tiny", "flow")])
def test_examples_without_maps_or_with_flow_only_show_no_evidence(
    name: str, stream: StreamKind, recognizer: Recognizer, two_classes: Path
) -> None:
    data = load_dataset(two_classes)
    result = evaluate(recognizer, data, num_workers=0)
    model = build_model(name, num_classes=2, stream=stream)
    (example,) = pick_examples(result, data, Recognizer([model], ("left", "right"), device="cpu"), 1)
    assert example.evidence is None
    assert (example.flow is not None) == (stream == "flow")
