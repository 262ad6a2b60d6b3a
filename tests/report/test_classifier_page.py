"""The page about a classifier on frozen features."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quovadis.evaluation.dump import LogitDump, score_dump
from quovadis.evaluation.results import EvaluationResult
from quovadis.report.classifier import class_rows, write_classifier_page
from quovadis.training.accuracy_curve import CurvePoint
from quovadis.training.data_findings import DataFindings, find_in_data
from quovadis.training.frozen_classifier import FrozenRun
from quovadis.video.filmstrip import encode_filmstrip

Make = Callable[..., FrozenRun]


def results(names: list[str], labels: tuple[str, ...], targets: torch.Tensor, logits: torch.Tensor) -> EvaluationResult:
    dump = LogitDump(
        dataset="clips",
        data_fingerprint="0",
        split="2 folds by group",
        models=("i3d (rgb)",),
        protocols=("paper",),
        labels=labels,
        paths=tuple(names),
        errors=("",) * len(names),
        targets=targets,
        logits=logits[None],
    )
    return score_dump(dump)[0]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make runs of 24 videos: video 3 has the label of another class, and 5 and 6 are copies in different folds."""

    def run(labels: tuple[str, ...] = ("run", "jump"), names: list[str] | None = None, **changes: object) -> FrozenRun:
        count, num_classes = max(24, 2 * len(labels)), len(labels)
        targets = torch.arange(count) % num_classes
        truth = targets.clone()
        truth[3] = (targets[3] + 1) % num_classes
        features = torch.randn(count, 32, generator=torch.Generator().manual_seed(0))
        features[6] = features[5]
        logits = 6 * torch.nn.functional.one_hot(truth, num_classes).double()
        names = names or [f"{i}.mp4" for i in range(count)]
        files = []
        for i in range(count):
            strip = encode_filmstrip(torch.full((4, 3, 24, 32), 9 * i % 256, dtype=torch.uint8), height_px=24)
            files.append(tmp_path / f"{i}.safetensors")
            save_file({"filmstrip": torch.frombuffer(bytearray(strip), dtype=torch.uint8)}, files[-1])
        findings = find_in_data(
            features,
            targets,
            logits,
            torch.arange(count),
            names=names,
            labels=labels,
            parts=[f"fold {1 + i % 2}" for i in range(count)],
            groups=[""] * count,
            files=files,
        )
        result = results(names, labels, targets, logits.float())
        notes = tuple(findings.notes(balanced=False))
        return replace(FrozenRun(tmp_path, 1.0, 2.0, result, findings, notes=notes), **changes)

    return run


def page(run: FrozenRun, folder: Path) -> str:
    write_classifier_page(folder / "report.html", run, title="Classifier", summary="", facts={"time": "1 s"})
    return (folder / "report.html").read_text()


def section(html: str, title: str) -> str:
    found = re.search(rf"<section><h2>{title}(.*?)</section>", html, re.S)
    assert found, title
    return found[1]


def data_of(html: str) -> dict[str, list[dict[str, object]]]:
    found = re.search(r"id='data'>(.*?)</script>", html, re.S)
    assert found
    return dict(json.loads(found[1]))


def test_doubtful_label_and_look_alikes_are_shown_with_filmstrips(make: Make, tmp_path: Path) -> None:
    html = page(make(), tmp_path)
    doubts = section(html, "Labels that may be wrong: 1")
    assert "3.mp4, fold 2" in doubts
    assert "<strong>jump</strong>" in doubts
    assert "predicted run, 100%" in doubts
    assert doubts.count("data:image/jpeg") == 1
    pairs = section(html, "Look-alikes: 1")
    assert re.findall(r"(\d+).mp4, fold", pairs) == ["5", "6"]
    assert "similarity 100%" in pairs
    assert pairs.count("data:image/jpeg") == 2
    assert "top-1 is 95.8%, without them 95.5%" in pairs


def test_map_has_every_video(make: Make, tmp_path: Path) -> None:
    found = data_of(page(make(), tmp_path))
    assert [c["name"] for c in found["classes"]] == ["run", "jump"]
    videos = found["videos"]
    assert len(videos) == 24
    assert all(0 <= v["x"] <= 1 and 0 <= v["y"] <= 1 for v in videos)  # type: ignore[operator]
    assert len({v["strip"] for v in videos}) == 24
    assert [v["name"] for v in videos if v["doubtful"]] == ["3.mp4"]
    assert (videos[5]["neighbor"], videos[6]["neighbor"]) == (6, 5)


def test_page_loads_nothing_from_other_hosts(make: Make, tmp_path: Path) -> None:
    html = page(make(), tmp_path)
    links = set(re.findall(r"https?://[^\s'\"<)]+", html))
    assert {link for link in links if "w3.org" not in link} == set()  # names of XML namespaces are not loaded
    assert "<script src" not in html


def test_hostile_names_are_escaped(make: Make, tmp_path: Path) -> None:
    names = ["</script><b>.mp4", "\x1b[31m.mp4", "\u202e.mp4", *(f"{i}.mp4" for i in range(3, 24))]
    html = page(make(labels=("<i>run", "'\"jump"), names=names), tmp_path)
    assert "<b>.mp4" not in html
    assert "<i>run" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    shown = [video["name"] for video in data_of(html)["videos"][:3]]
    assert shown == ["</script><b>.mp4", "\\x1b[31m.mp4", "\\u202e.mp4"]


def test_classes_without_confusion_of_markers(make: Make, tmp_path: Path) -> None:
    classes = data_of(page(make(labels=tuple(f"class {i}" for i in range(60))), tmp_path))["classes"]
    assert len({(c["color"], c["shape"]) for c in classes}) == 60


def test_learning_curve_is_drawn_if_measured(make: Make, tmp_path: Path) -> None:
    assert "add --learning-curve" in section(page(make(), tmp_path), "Would more videos help")
    points = (CurvePoint(10, 0.60, 0.59, 0.61, 9), CurvePoint(20, 0.65, 0.64, 0.66, 9))
    drawn = section(page(make(curve=points), tmp_path), "Would more videos help")
    assert "more clips will probably help" in drawn
    assert "<svg" in drawn


def test_reliability_before_and_after_calibration(make: Make, tmp_path: Path) -> None:
    run = make()
    before, after = run.calibration_error
    assert before == pytest.approx(1 / 24, abs=1e-3)  # softmax of 12 is 1, and one of 24 is wrong
    assert after == pytest.approx(abs(23 / 24 - 1 / (1 + math.exp(-6))), abs=1e-3)
    drawn = section(page(run, tmp_path), "Probabilities")
    assert f"before calibration, error {before:.1%}" in drawn
    assert f"after calibration, error {after:.1%}" in drawn


def test_video_without_its_cache_file_is_listed(make: Make, tmp_path: Path) -> None:
    run = make()
    run.findings.files[3].unlink()
    html = page(run, tmp_path)
    assert "no filmstrip in the cache" in section(html, "Labels that may be wrong: 1")
    assert data_of(html)["videos"][3]["strip"] == ""


def test_pairs_of_one_group_and_class_are_no_finding(make: Make) -> None:
    def found(groups: list[str], targets: list[int]) -> DataFindings:
        features = torch.randn(24, 32, generator=torch.Generator().manual_seed(0))
        features[6] = features[5]
        return find_in_data(
            features,
            torch.tensor(targets),
            torch.zeros(24, 2),
            torch.arange(24),
            names=[""] * 24,
            labels=("run", "jump"),
            parts=["fold 1", "fold 2"] * 12,
            groups=groups,
            files=[Path()] * 24,
        )

    same = [*range(6), 5, *range(7, 24)]
    groups = list(map(str, same))
    one_class = [1] * 12 + [0] * 12
    assert len(found([""] * 24, one_class).look_alikes) == 1
    assert found(groups, one_class).look_alikes == ()
    assert len(found(groups, [0, 1] * 12).look_alikes) == 1  # one recording in two classes


def test_table_of_classes() -> None:
    labels = ("run", "jump", "swim")
    targets = torch.tensor([0, 0, 0, 1, 1])
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 1, 1]), 3).float()
    worst, *others = class_rows(results([f"{i}" for i in range(5)], labels, targets, logits))
    assert (worst.label, worst.num_videos, worst.precision, worst.confused_with, worst.num_confused) == (
        "run", 3, 1.0, "jump", 2,
    )  # fmt: skip
    assert worst.recall == pytest.approx(1 / 3)
    assert [(row.label, row.recall, row.precision) for row in others] == [("jump", 1.0, 0.5), ("swim", None, None)]
