"""Transfer settings: cached features, resumed experiments, reports."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.cli import main
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError, InvalidInputError, TrainingError, WeightsError
from quovadis.evaluation.dump import read_dump
from quovadis.evaluation.evaluator import evaluate
from quovadis.inference.recognizer import Recognizer
from quovadis.models.zoo import build_model
from quovadis.paper.transfer_settings import TransferRecipes, transfer, transfer_grid
from quovadis.training import experiment as experiments
from quovadis.training import frozen_features as frozen
from quovadis.training.classifier import ClassifierRecipe, classify_features, train_classifier
from quovadis.training.experiment import Experiment, run_experiment
from quovadis.training.frozen_features import Features
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import load_model

RECIPE = Recipe(
    name="test",
    max_steps=2,
    validate_every=2,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.5, batch_norm_clips=0),
    optimizer=OptimizerConfig(learning_rate=0.01),
    data=DataConfig(batch_size=2, num_workers=0),
)
CLASSIFIER = ClassifierRecipe(max_steps=4, validate_every=2, batch_size=4)


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    """Half of them: 6 + 2 + 3."""
    whole = load_dataset(two_classes)
    return replace(whole, records=tuple(r for split in ("train", "val", "test") for r in whole.split(split)[::2]))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved("i3d_tiny", tmp_path_factory.mktemp("source"))


def saved(name: str, folder: Path, seed: int = 0) -> Path:
    """A network with random weights and classes of its own."""
    torch.manual_seed(seed)
    info = WeightsInfo(name, {"stream": "rgb", "num_classes": 3}, ("a", "b", "c"))
    return save_weights(
        folder / f"{name}-{seed}.safetensors", build_model(name, stream="rgb", num_classes=3).state_dict(), info
    )


def fixed(data: Manifest, source: Path, **changes: object) -> Experiment:
    spec = load_model(source).spec
    recipe = replace(RECIPE, model=replace(RECIPE.model, name=spec.name, stream="rgb"))
    plain = Experiment("fixed", recipe, data, classifier=CLASSIFIER, source=source, protocol="center-clip")
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["i3d_tiny", "conv3d_tiny", "convnet_lstm_tiny", "two_stream_tiny"])
def test_scores_from_cached_features_equal_the_saved_network(data: Manifest, tmp_path: Path, name: str) -> None:
    """By the paper's protocol, where some networks take a video in pieces; and one video is broken."""
    (tmp_path / "broken.mp4").write_text("no video")
    broken = VideoRecord(tmp_path / "broken.mp4", 1, "test")
    some = replace(data, records=(*data.records[:-2], broken, data.records[-1]))
    weights = saved(name, tmp_path)
    dump, folder = run_experiment(fixed(some, weights, protocol="paper"), tmp_path / "out")
    assert dump.logits[0].isnan().all(1).tolist() == [False, True, False]
    recognizer = Recognizer.load(folder)
    expected = evaluate(recognizer, some, protocol="paper", num_workers=0)
    torch.testing.assert_close(dump.logits[0], expected.logits, equal_nan=True, atol=1e-4, rtol=1e-4)
    assert dump.models == (expected.model,)
    assert dump.protocols == (expected.protocol,)
    assert dump.errors[1] == expected.videos[1].error != ""
    before, after = load_weights(weights)[0], load_weights(folder / "best.safetensors")[0]
    moved = {key for key in before if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])}
    assert moved == {key for key in before if key.startswith("head.")}
    assert load_weights(folder / "best.safetensors")[1].labels == data.labels


def test_features_are_computed_once(
    data: Manifest, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, folder = run_experiment(fixed(data, source), tmp_path)
    (place,) = (tmp_path / "features").iterdir()
    assert json.loads((place / "features.json").read_text())["model"] == "i3d_tiny"

    def no_reading(*_: object, **__: object) -> None:
        raise AssertionError("a video was read")

    monkeypatch.setattr("quovadis.evaluation.evaluator.VideoReader", no_reading)
    again, _ = run_experiment(fixed(data, source), tmp_path)
    assert torch.equal(again.logits, first.logits)
    other = fixed(data, source, classifier=replace(CLASSIFIER, learning_rate=0.5))
    another, other_folder = run_experiment(other, tmp_path)
    assert other_folder != folder
    assert not torch.equal(another.logits, first.logits)
    with pytest.raises(AssertionError, match="a video was read"):
        run_experiment(fixed(data, source, protocol="paper"), tmp_path)
    with pytest.raises(AssertionError, match="a video was read"):
        run_experiment(fixed(data, saved("i3d_tiny", tmp_path, seed=1)), tmp_path)


def test_interrupted_extraction_continues(
    data: Manifest, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = run_experiment(fixed(data, source), tmp_path / "whole")
    read = frozen.ProtocolVideos.__getitem__
    seen: list[int] = []

    def dies(self: frozen.ProtocolVideos, index: int) -> object:
        if len(seen) == 5:
            raise KeyboardInterrupt
        seen.append(index)
        return read(self, index)

    monkeypatch.setattr(frozen.ProtocolVideos, "__getitem__", dies)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(fixed(data, source), tmp_path / "parts")
    seen.clear()
    seen.append(-1)  # of 6 + 2 + 3 videos 5 were kept
    monkeypatch.setattr(
        frozen.ProtocolVideos, "__getitem__", lambda self, index: seen.append(index) or read(self, index)
    )
    parts, _ = run_experiment(fixed(data, source), tmp_path / "parts")
    assert len(seen) == 1 + 6
    assert torch.equal(parts.logits, expected.logits)


def test_protocol_with_variable_length_is_rejected(two_classes: Path, source: Path, tmp_path: Path) -> None:
    from tests.synthetic import write_square

    data = load_dataset(two_classes)
    longer = VideoRecord(write_square(tmp_path / "long.mp4", seed=9, num_frames=60), 0, "train")
    with pytest.raises(InvalidInputError, match="clips of equal length"):
        run_experiment(fixed(replace(data, records=(*data.records, longer)), source, protocol="whole"), tmp_path)


def toy_features(count: int, seed: int) -> Features:
    """Two classes of features that a plane parts, two clips a video, three steps each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    values = torch.randn(count, 2, 3, 256, generator=generator)
    values[:, :, :, 0] = 4.0 * labels[:, None, None] - 2.0
    records = tuple(VideoRecord(Path(f"{i}.mp4"), int(label), "train") for i, label in enumerate(labels))
    return Features(records, ("",) * count, values)


def test_classifier_learns_linearly_separable_classes() -> None:
    model = build_model("i3d_tiny", num_classes=7)
    rows: list[dict[str, float]] = []
    recipe = ClassifierRecipe(max_steps=60, validate_every=20, batch_size=8, dropout=0.0)
    best = train_classifier(model, ("x", "y"), toy_features(40, 1), toy_features(10, 2), recipe, on_row=rows.append)
    assert best["val_accuracy"] == 1.0
    assert best["val_loss"] == min(row["val_loss"] for row in rows if "val_loss" in row)
    held_out = toy_features(30, 3)
    assert torch.equal(classify_features(model, held_out).argmax(1), held_out.targets)
    assert (model.labels, model.num_classes, model.training) == (("x", "y"), 2, False)
    # The mean over clips and steps of a linear map is the map of the mean.
    by_hand = held_out.values.mean((1, 2)) @ model.head.weight.detach()[:, :, 0, 0, 0].T + model.head.bias.detach()
    torch.testing.assert_close(classify_features(model, held_out), by_hand, atol=1e-4, rtol=1e-4)


def test_best_classifier_is_kept() -> None:
    """The validation videos have the opposite classes, so every step away from the start is a loss."""
    model = build_model("i3d_tiny", num_classes=7)
    val = toy_features(10, 2)
    val = replace(val, values=-val.values)
    recipe = ClassifierRecipe(max_steps=30, validate_every=10, batch_size=8, dropout=0.0)
    best = train_classifier(model, ("x", "y"), toy_features(40, 1), val, recipe)
    assert best["step"] == 10
    found = torch.nn.functional.cross_entropy(classify_features(model, val), val.targets)
    assert float(found) == pytest.approx(best["val_loss"])


@pytest.mark.slow
def test_three_settings_on_two_targets(
    data: Manifest, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = replace(
        data,
        name="second",
        records=tuple(replace(r, split={"test": "val", "val": "test"}.get(r.split, r.split)) for r in data.records),
    )
    recipes = TransferRecipes(replace(RECIPE, name="o"), CLASSIFIER, replace(RECIPE, name="f"))
    rows = transfer([source], [data, turned], tmp_path, recipes=recipes, protocol="center-clip")
    assert [(row.setting, row.model, len(row.results)) for row in rows] == [
        (setting, "i3d_tiny (rgb)", 2) for setting in ("original", "fixed", "full-ft")
    ]
    for row in rows:
        top1 = [read_dump(folder / "scores.npz") for folder in row.folders]
        figures = [float((d.logits[0].argmax(1) == d.targets).float().mean()) for d in top1]
        assert [r.top1 for r in row.results] == pytest.approx(figures)
        assert row.mean_top1 == pytest.approx(np.mean(figures))
        assert row.spread_top1 == pytest.approx(np.std(figures, ddof=1))
        assert [r.num_videos for r in row.results] == [3, 2]
    starts = {
        row.setting: json.loads((row.folders[0] / "recipe.json").read_text()).get("model", {}).get("weights")
        for row in rows
    }
    assert starts == {"original": None, "fixed": None, "full-ft": str(source)}
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [row["mean_top1"] for row in kept["rows"]] == [row.mean_top1 for row in rows]
    html = (tmp_path / "report.html").read_text()
    assert all(fingerprint in html for fingerprint in (data.fingerprint, turned.fingerprint, "center-clip"))
    assert "spread" in transfer_grid(rows).to_markdown()

    def no_training(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(experiments, "train", no_training)
    monkeypatch.setattr(experiments, "train_classifier", no_training)
    again = transfer([source], [data, turned], tmp_path, recipes=recipes, protocol="center-clip")
    assert [row.to_dict() for row in again] == [row.to_dict() for row in rows]
    changed = replace(recipes, full_ft=replace(RECIPE, seed=1))
    with pytest.raises(AssertionError, match="trained again"):
        transfer([source], [data], tmp_path, settings=["full-ft"], recipes=changed, protocol="center-clip")
    faster = replace(recipes, full_ft=replace(recipes.full_ft, data=replace(RECIPE.data, num_workers=3)))
    transfer([source], [data], tmp_path, settings=["full-ft"], recipes=faster, protocol="center-clip")


@pytest.mark.slow
def test_streams_are_fused(data: Manifest, source: Path, tmp_path: Path) -> None:
    second = saved("i3d_tiny", tmp_path, seed=1)
    rows = transfer(
        [source, second],
        [data],
        tmp_path,
        settings=["fixed"],
        recipes=TransferRecipes(fixed=CLASSIFIER),
        protocol="center-clip",
    )
    assert [row.model for row in rows] == ["i3d_tiny (rgb)", "i3d_tiny (rgb)", "i3d_tiny (rgb + rgb)"]
    a, b = (row.results[0].logits for row in rows[:2])
    assert not torch.equal(a, b)
    torch.testing.assert_close(rows[2].results[0].logits, a + b)
    assert rows[2].folders == (*rows[0].folders, *rows[1].folders)
    assert rows[2].spread_top1 is None


def test_invalid_inputs_are_rejected(data: Manifest, source: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="fixed needs source weights"):
        replace(fixed(data, source), source=None)
    with pytest.raises(TrainingError, match="original does not use source weights"):
        fixed(data, source, setting="original", classifier=None)
    with pytest.raises(TrainingError, match="needs a classifier recipe"):
        fixed(data, source, classifier=None)
    with pytest.raises(TrainingError, match="needs the weights of a source, a target"):
        transfer([source], [], tmp_path)
    swapped = {"train": "test", "test": "train"}
    leaking = replace(
        data, name="other", records=tuple(replace(r, split=swapped.get(r.split, r.split)) for r in data.records)
    )
    with pytest.raises(DatasetError, match="6 test videos of other were seen in training on squares"):
        transfer([source], [leaking], tmp_path, source_data=data)
    with pytest.raises(TrainingError, match="--max-steps must be an integer, at least 1; got 0"):
        ClassifierRecipe(max_steps=0)
    single = replace(data, labels=data.labels[:1], records=tuple(r for r in data.records if r.label == 0))
    with pytest.raises(TrainingError, match="squares has only the class 'left': add videos"):
        fixed(single, source)
    lacking = replace(data, records=tuple(r for r in data.records if r.split != "train" or r.label == 0))
    with pytest.raises(TrainingError, match="right of squares has no video in the training split"):
        fixed(lacking, source)
    (tmp_path / "broken.mp4").write_text("no video")
    broken = replace(lacking, records=(*lacking.records, VideoRecord(tmp_path / "broken.mp4", 1, "train")))
    with pytest.raises(TrainingError, match="right of squares has no training video that can be read"):
        run_experiment(fixed(broken, source), tmp_path)


@pytest.mark.slow
def test_transfer_command(
    two_classes: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(
        [
            *("transfer", "--weights", str(source), "--data", str(two_classes), "--out", str(tmp_path)),
            *("--settings", "fixed", "full-ft", "--fixed.max-steps", "3", "--full-ft.max-steps", "1"),
            *("--full-ft.data.num-workers", "0", "--full-ft.data.batch-size", "2", "--protocol", "center-clip"),
        ]
    )
    captured = capsys.readouterr()
    assert "full-ft" in captured.out
    assert "i3d_tiny (rgb)" in captured.out
    assert "overlap of test videos with the source's training data is not checked" in captured.err
    for text in ("All metrics", "class mean", "95 % Wilson interval"):
        assert text in captured.out
    runs = re.findall(r"use it: quovadis predict VIDEO --weights (.*)", captured.err)
    assert [Path(run).parent for run in runs] == [tmp_path] * 2
    assert all(Recognizer.load(run).labels == ("left", "right") for run in runs)
    page = (tmp_path / "report.html").read_text()
    assert "Most frequent confusions" in page
    assert "Target: squares: " in page
    assert " train, " in page
    results = json.loads((tmp_path / "results.json").read_text())["rows"]
    low, high = results[0]["targets"][0]["top1_interval"]
    assert low <= results[0]["targets"][0]["top1"] <= high
    with pytest.raises(WeightsError, match=rf"contains 2 run folders; name one:\n  {min(runs)}\n  {max(runs)}"):
        Recognizer.load(tmp_path)
    several = tmp_path / "several"
    several.mkdir()
    (several / "networks.json").write_text("[]")
    with pytest.raises(WeightsError, match=rf"contains 3 run folders; name one:\n  {several}\n"):
        Recognizer.load(tmp_path)
    with pytest.raises(WeightsError, match="several is a run with several networks, but a single one is needed"):
        load_model(several)
    assert {p.name.split("-")[1] for p in tmp_path.iterdir() if p.name.startswith("squares-")} == {"fixed", "full"}
