"""Classifiers on frozen features: the run folder, the cache of features, folds and splits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import TrainingError, WeightsError
from quovadis.evaluation.evaluator import evaluate, training_notes
from quovadis.inference.extract import ExtractorSettings
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.training.frozen_classifier import train_frozen
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    whole = load_dataset(two_classes)
    return replace(whole, records=tuple(r for split in ("train", "val", "test") for r in whole.split(split)[::2]))


def network(folder: Path, stream: str = "rgb", seed: int = 0) -> Path:
    torch.manual_seed(seed)
    info = WeightsInfo("i3d_tiny", {"stream": stream, "num_classes": 3}, ("a", "b", "c"))
    state = build_model("i3d_tiny", stream=stream, num_classes=3).state_dict()
    return save_weights(folder / f"{stream}-{seed}.safetensors", state, info)


def no_reading(*_: object, **__: object) -> None:
    raise AssertionError("a video was read")


def test_saved_network_reproduces_the_test_result(data: Manifest, tmp_path: Path) -> None:
    run = train_frozen(network(tmp_path), data, tmp_path / "run")
    again = evaluate(Recognizer.load(run.folder), data, protocol="center-clip", num_workers=0)
    torch.testing.assert_close(again.logits, run.result.logits, atol=1e-3, rtol=1e-3)
    assert again.top1 == run.result.top1
    source = load_weights(run.folder / "best.safetensors")[1].source
    assert source["temperature"] == run.temperature
    assert source["recipe"] == "frozen"


def test_an_error_closes_the_loader(data: Manifest, tmp_path: Path, closed_loaders: list[VideoDataLoader]) -> None:
    def stop(step: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyError(step)

    with pytest.raises(KeyError):
        train_frozen(network(tmp_path), data, tmp_path / "run", progress=stop)
    assert len(closed_loaders) == 1


def test_features_are_read_from_the_cache(
    data: Manifest, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = network(tmp_path)
    first = train_frozen(weights, data, tmp_path / "first")
    assert len(list(cache.glob("features/*/*/*.safetensors"))) == len(data.records)
    monkeypatch.setattr("quovadis.evaluation.evaluator.VideoReader", no_reading)
    again = train_frozen(weights, data, tmp_path / "again")
    assert torch.equal(first.result.logits, again.result.logits)
    folds = train_frozen(weights, data, tmp_path / "folds", num_folds=2)
    assert folds.result.num_videos == len(data.records)
    assert folds.result.split == "2 folds by video"
    with pytest.raises(AssertionError, match="a video was read"):
        train_frozen(network(tmp_path, seed=1), data, tmp_path / "other")


def test_out_of_fold_scores_are_divided_by_the_temperature(data: Manifest, tmp_path: Path) -> None:
    run = train_frozen(network(tmp_path), data, tmp_path / "run", num_folds=3)
    assert run.cross_validation is not None
    expected = (run.cross_validation.logits / run.temperature).float()
    torch.testing.assert_close(run.result.logits, expected)
    assert run.result.top1 == pytest.approx(run.cross_validation.accuracy)


@pytest.mark.slow
def test_features_of_the_networks_of_a_run(data: Manifest, tmp_path: Path) -> None:
    sources = [network(tmp_path, stream) for stream in ("rgb", "flow")]
    run = train_frozen(sources, data, tmp_path / "run")
    extractor = ExtractorSettings((str(run.folder),), FEATURE_PRESETS["quovadis"]).build()
    assert list(extractor.models) == ["rgb", "flow"]


def test_evaluation_on_training_videos_is_noted(data: Manifest, tmp_path: Path) -> None:
    run = train_frozen(network(tmp_path), data, tmp_path / "folds", num_folds=2)
    crossed = Recognizer.load(run.folder)
    (note,) = training_notes(crossed, data, "test")
    assert f"was trained on all videos of {data.name}" in note
    assert training_notes(crossed, replace(data, name="other"), "test") == []
    split = Recognizer.load(train_frozen(network(tmp_path), data, tmp_path / "splits").folder)
    assert training_notes(split, data, "test") == []
    assert training_notes(split, data, "train") == [
        "i3d_tiny (rgb) was trained on these videos: evaluate the split test"
    ]


def test_two_networks_make_one_classifier(data: Manifest, tmp_path: Path) -> None:
    sources = [network(tmp_path, seed=0), network(tmp_path, seed=1)]
    run = train_frozen(sources, data, tmp_path / "run")
    recognizer = Recognizer.load(run.folder)
    assert len(recognizer.models) == 2
    result = evaluate(recognizer, data, protocol="center-clip", num_workers=0)
    torch.testing.assert_close(result.logits, run.result.logits, atol=1e-3, rtol=1e-3)
    (run.folder / "networks.json").write_text('["../secret"]')
    with pytest.raises(WeightsError, match=r"networks\.json is damaged"):
        Recognizer.load(run.folder)


def test_unreadable_video_counts_as_wrong(data: Manifest, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    missing = VideoRecord(tmp_path / "missing.mp4", 0, "test")
    records = (*data.records, VideoRecord(tmp_path / "broken.mp4", 1, "test"), missing)
    result = train_frozen(network(tmp_path), replace(data, records=records), tmp_path / "run").result
    assert [bool(v.error) for v in result.videos[-2:]] == [True, True]
    assert result.num_videos == len(data.split("test")) + 2


def test_class_without_a_readable_video_is_rejected(data: Manifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    records = tuple(replace(r, path=broken) if r.label == 1 and r.split == "train" else r for r in data.records)
    other = replace(data, records=tuple(dict.fromkeys(records)))
    with pytest.raises(TrainingError, match=r"right of .* has no readable video in the training split \(.*broken.mp4"):
        train_frozen(network(tmp_path), other, tmp_path / "run")


def test_single_class_is_rejected_before_anything_is_computed(data: Manifest, tmp_path: Path) -> None:
    single = replace(data, labels=data.labels[:1], records=tuple(r for r in data.records if r.label == 0))
    with pytest.raises(TrainingError, match="needs at least two"):
        train_frozen(tmp_path / "absent.safetensors", single, tmp_path / "run")


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_damaged_cache_files_are_computed_again(
    damage: bytes | None, data: Manifest, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = network(tmp_path)
    first = train_frozen(weights, data, tmp_path / "first")
    files = sorted(cache.glob("features/*/*/*.safetensors"))
    files[2].write_bytes(files[2].read_bytes()[:-100] if damage is None else damage)
    again = train_frozen(weights, data, tmp_path / "again")
    assert torch.equal(again.result.logits, first.result.logits)
    monkeypatch.setattr("quovadis.evaluation.evaluator.VideoReader", no_reading)
    train_frozen(weights, data, tmp_path / "complete")


def unfit(data: Manifest, kind: str) -> Manifest:
    if kind == "no training video":
        return replace(data, records=tuple(r for r in data.records if (r.label, r.split) != (1, "train")))
    if kind == "one video":
        rights = [r for r in data.records if r.label == 1]
        return replace(data, records=tuple(r for r in data.records if r not in rights[1:]))
    group_of = {"one group": lambda i, r: f"{r.label}{i if r.label else ''}", "three groups": lambda i, r: f"{i % 3}"}
    records = [replace(r, split="train", group=group_of[kind](i, r)) for i, r in enumerate(data.records)]
    return replace(data, records=tuple(records))


@pytest.mark.parametrize(
    ("kind", "num_folds", "message"),
    [
        ("no training video", 0, r"right of squares has no video in the training split: add videos, or remove"),
        ("one video", 3, r"needs two videos or groups of videos in each class, and right of squares has one: add"),
        ("one group", 3, r"needs two videos or groups of videos in each class, and left of squares has one: add"),
        ("three groups", 4, r"4 folds need at least 4 groups of videos, and squares has 3: use fewer --folds"),
    ],
)
def test_unfit_data_are_rejected_before_anything_is_computed(
    kind: str, num_folds: int, message: str, data: Manifest, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=message):
        train_frozen(tmp_path / "absent.safetensors", unfit(data, kind), tmp_path / "run", num_folds=num_folds)


def test_run_folder_of_another_recipe_is_kept(data: Manifest, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_text("checkpoint")
    with pytest.raises(TrainingError, match="run of another recipe"):
        train_frozen(network(tmp_path), data, tmp_path / "run")
