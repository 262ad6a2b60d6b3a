"""Logit dumps against the evaluation that they come from, and against metrics by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.cli import main
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import VideoRecord
from quovadis.errors import DatasetError, InvalidInputError
from quovadis.evaluation.dump import LogitDump, join_dumps, read_dump, score_dump, write_dump
from quovadis.evaluation.evaluator import evaluate_streams
from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.report.terminal import evaluation_table, to_text
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.synthetic import dump_of


@pytest.fixture(scope="module")
def results(two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> list[EvaluationResult]:
    """Two networks on RGB, evaluated together; one video is broken and one missing."""
    root = tmp_path_factory.mktemp("broken")
    (root / "broken.mp4").write_text("no video")
    data = load_dataset(two_classes)
    more = (VideoRecord(root / "broken.mp4", 0, "test"), VideoRecord(root / "missing.mp4", 1, "test"))
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(build_model("i3d_tiny", num_classes=2))
    recognizer = Recognizer(models, ("left", "right"))
    return evaluate_streams(
        recognizer, replace(data, records=data.records + more), protocol="center-clip", num_workers=0
    )


def test_scoring_a_dump_repeats_the_evaluation(results: list[EvaluationResult], tmp_path: Path) -> None:
    dump = read_dump(write_dump(tmp_path / "scores.npz", LogitDump.of(results[:2])))
    again = score_dump(dump)
    assert [r.to_dict() for r in again] == [r.to_dict() for r in results]
    assert sum(bool(e) for e in dump.errors) == 2
    assert dump.logits.isnan().all(2).sum(1).tolist() == [2, 2]


def test_joined_dumps_of_single_streams_give_the_fusion(results: list[EvaluationResult], tmp_path: Path) -> None:
    parts = [read_dump(write_dump(tmp_path / f"{i}.npz", LogitDump.of([r]))) for i, r in enumerate(results[:2])]
    for part, result in zip(parts, results[:2], strict=True):
        (alone,) = score_dump(part)
        assert alone.to_dict() == result.to_dict()
    assert score_dump(join_dumps(parts))[-1].to_dict() == results[-1].to_dict()


def test_metrics_by_hand() -> None:
    scores = torch.tensor([[[3.0, 2, 1, 0, -1, -2, -3], [3, 2, 1, 0, -1, -2, -3], [3, 2, 1, 0, -1, -2, -3]]])
    (found,) = score_dump(dump_of(scores, [0, 4, 5]))
    assert found.confusion.nonzero().tolist() == [[0, 0], [4, 0], [5, 0]]  # class, prediction
    assert (found.top1, found.top5) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_single_class() -> None:
    (found,) = score_dump(dump_of(torch.zeros(1, 3, 1)))
    assert (found.top1, found.top5, found.confusion.tolist()) == (1, 1, [[3]])


@pytest.mark.parametrize(("num_classes", "shown"), [(5, False), (6, True)])
def test_top5_of_at_most_five_classes_is_not_shown(num_classes: int, shown: bool) -> None:
    results = score_dump(dump_of(torch.randn(1, 8, num_classes)))
    assert ("top-5" in to_text(evaluation_table(results))) == shown


def test_numpy_reads_a_dump(tmp_path: Path) -> None:
    scores = torch.randn(2, 3, 4)
    path = write_dump(tmp_path / "no.ending", dump_of(scores, [0, 3, 1], paths=("a", "schräg/b", "c\udcff")))
    with np.load(path, allow_pickle=False) as file:
        assert file["logits"].dtype == np.float32
        assert np.array_equal(file["logits"], scores.numpy())
        assert file["paths"].tolist() == ["a", "schräg/b", "c\udcff"]
        assert file["targets"].tolist() == [0, 3, 1]
        assert str(file["split"]) == "test"


def test_fusion_rules_and_weights_by_hand() -> None:
    rgb = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    flow = torch.tensor([[0.0, 4.0, 0.0], [0.0, 2.0, 0.0]])
    dump = dump_of(torch.stack([rgb, flow]), [0, 1])
    assert [r.top1 for r in score_dump(dump)] == [1.0, 0.5, 0.5]
    assert [r.model for r in score_dump(dump)] == ["i3d (rgb)", "i3d (flow)", "i3d (rgb + flow)"]
    weighted = score_dump(dump, weights=[2, 1])[-1]
    assert (weighted.top1, weighted.model) == (1.0, "i3d (2 x rgb + 1 x flow)")
    averaged = score_dump(dump, rule="mean_probabilities")[-1]
    by_hand = (rgb.softmax(1) + flow.softmax(1)) / 2
    assert averaged.loss == pytest.approx(-float((by_hand[0, 0].log() + by_hand[1, 1].log()) / 2))
    assert dict(averaged.videos[0].top)["b"] == pytest.approx(float(by_hand[0, 1]))


def test_video_unreadable_for_one_stream_has_no_fusion() -> None:
    scores = torch.zeros(1, 3, 2) + torch.tensor([1.0, 0.0])
    half = scores.clone()
    half[0, 1] = torch.nan
    rows = score_dump(
        join_dumps([dump_of(scores, [0, 0, 1]), dump_of(half, [0, 0, 1], errors=("", "one frame, no flow", ""))])
    )
    assert [r.top1 for r in rows] == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert [len(r.unreadable) for r in rows] == [0, 1, 1]
    assert rows[-1].videos[1].error == "one frame, no flow"


def test_certain_wrong_prediction_has_a_finite_loss() -> None:
    sure = dump_of(torch.tensor([[[500.0, -500.0]], [[900.0, -900.0]]]), [1])
    assert 80 < score_dump(sure, rule="mean_probabilities")[-1].loss < 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_fingerprint": "ba9876543210"}, r"differ in data fingerprint \(0123456789ab and ba9876543210\)"),
        ({"split": "val"}, r"differ in split \(test and val\)"),
        ({"labels": ("a", "c", "b")}, r"differ in labels \(number 2 is b and c\)"),
        ({"paths": ("0.mp4", "x.mp4")}, r"differ in paths \(number 2 is 1.mp4 and x.mp4\)"),
        ({"targets": torch.tensor([0, 2])}, "different classes to the same videos"),
    ],
)
def test_dumps_of_other_videos_are_refused(changes: dict[str, object], message: str) -> None:
    dump = dump_of(torch.zeros(1, 2, 3), [0, 1])
    with pytest.raises(DatasetError, match=message):
        join_dumps([dump, replace(dump, **changes)])  # type: ignore[arg-type]


def test_other_files_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.npz"
    for content in (b"", b"text", b"PK\x03\x04"):
        bad.write_bytes(content)
        with pytest.raises(InvalidInputError, match="is not a dump"):
            read_dump(bad)
    np.savez(bad, logits=np.zeros(3))
    with pytest.raises(InvalidInputError, match="is not a dump"):
        read_dump(bad)
    np.savez(bad, logits=np.array([{}], dtype=object))
    with pytest.raises(InvalidInputError, match="is not a dump"):
        read_dump(bad)
    with pytest.raises(InvalidInputError, match="no logit dump at"):
        read_dump(tmp_path / "none.npz")
    with pytest.raises(InvalidInputError, match="targets must be classes"):
        dump_of(torch.zeros(1, 1, 3), [3])


def test_evaluate_and_fuse_commands(two_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
        save_weights(tmp_path / f"{seed}.safetensors", build_model("i3d_tiny", num_classes=2).state_dict(), info)
    files = [str(tmp_path / f"{seed}.safetensors") for seed in (0, 1)]
    shared = ["evaluate", "--data", str(two_classes), "--json", "--num-workers", "0", "--protocol", "center-clip"]
    for seed in (0, 1):
        main([*shared, "--weights", files[seed], "--dump", str(tmp_path / f"{seed}.npz")])
    capsys.readouterr()
    main([*shared, "--weights", *files])
    together = json.loads(capsys.readouterr().out)
    main(["fuse", str(tmp_path / "0.npz"), str(tmp_path / "1.npz"), "--json"])
    assert json.loads(capsys.readouterr().out) == together
    main(["fuse", str(tmp_path / "0.npz"), str(tmp_path / "1.npz"), "--weights", "1", "0.5"])
    assert "(1 x rgb +" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fuse", str(tmp_path / "0.npz"), "--weights", "1", "1"])
    assert "2 weights for 1 streams" in capsys.readouterr().err


def test_dumps_of_different_shapes_are_refused() -> None:
    one = dump_of(torch.randn(1, 3, 2))
    with pytest.raises(DatasetError, match=r"first and second differ in paths \(3 and 2\)"):
        join_dumps([one, dump_of(torch.randn(1, 2, 2))], ["first", "second"])
    with pytest.raises(DatasetError, match=r"dump 1 and dump 2 differ in labels \(2 and 3\)"):
        join_dumps([one, dump_of(torch.randn(1, 3, 3))])
