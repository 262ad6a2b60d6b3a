"""Training of the last blocks on stored activations."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quovadis import transforms
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.evaluation.evaluator import evaluate
from quovadis.evaluation.protocols import find_protocol
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.i3d import I3D
from quovadis.models.zoo import build_model
from quovadis.training.build import freeze_before
from quovadis.training.frozen_classifier import train_frozen
from quovadis.training.frozen_features import read_tensor
from quovadis.training.last_blocks import (
    LastBlocksRecipe,
    LastBlocksResult,
    Tail,
    cached_activations,
    require_i3d,
    tail_logits,
    train_tail,
)
from quovadis.video.read import read_clip
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo

RECIPE = LastBlocksRecipe(num_epochs=2, batch_size=4)
WEIGHT = "trunk.Mixed_5c.Branch_0.Conv3d_0a_1x1.conv.weight"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    whole = load_dataset(two_classes)
    return replace(whole, records=tuple(r for split in ("train", "val", "test") for r in whole.split(split)[::2]))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 3}, ("a", "b", "c"))
    return save_weights(tmp_path / "w.safetensors", build_model("i3d_tiny", num_classes=3).state_dict(), info)


def tiny() -> I3D:
    return require_i3d(build_model("i3d_tiny", num_classes=2).eval(), "Mixed_5b")


def activations(model: I3D, data: Manifest, endpoint: str = "Mixed_5b") -> list[Path]:
    found = cached_activations(
        model,
        data,
        data.records,
        endpoint,
        protocol=find_protocol("center-clip"),
        flow=FlowSource(),
        device=torch.device("cpu"),
    )
    return list(found.files)


def test_gradients_are_those_of_the_network_with_frozen_layers() -> None:
    model = tiny().double()
    clip = torch.rand(2, 3, 16, 64, 64, dtype=torch.float64) * 2 - 1
    before = model.endpoints(clip, names=["Mixed_4f"])["Mixed_4f"].detach()
    tail = Tail(model, "MaxPool3d_5a_2x2")
    tail.eval()(before).square().sum().backward()
    freeze_before(model, "MaxPool3d_5a_2x2")
    model.eval()(clip).square().sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    found = {name: p.grad for name, p in tail.model.named_parameters()}
    trained = {name for name, grad in found.items() if grad is not None}
    assert trained == {name for name, grad in expected.items() if grad is not None}
    assert {name.split(".")[1] for name in trained} == {"Mixed_5b", "Mixed_5c", "weight", "bias"}
    for name in trained:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


def test_stored_activations_and_their_mirror_images(data: Manifest) -> None:
    model = tiny()
    files = activations(model, data)
    clip = read_clip(data.records[0].path, fps=25, transform=lambda f: f)
    protocol = find_protocol("center-clip")
    resized = transforms.resize_short_side(clip, model.spec.short_side_px)
    (view,) = protocol.views(resized, model.spec)
    cropped = transforms.center_crop(view, model.spec.size_px)
    stored = read_tensor(files[0], "activations")
    assert stored.dtype == torch.float16
    for own, frames in zip(stored, (cropped.frames, cropped.frames.flip(3)), strict=True):
        with torch.no_grad():
            expected = model.endpoints(transforms.to_model(frames[None]), names=["MaxPool3d_5a_2x2"])
        torch.testing.assert_close(own.float(), expected["MaxPool3d_5a_2x2"][0], atol=2e-3, rtol=2e-3)


def test_activations_are_computed_once(data: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    files = activations(model, data)
    files[1].write_bytes(b"damaged")
    assert activations(model, data) == files
    assert read_tensor(files[1], "activations").shape == read_tensor(files[0], "activations").shape
    monkeypatch.setattr("quovadis.evaluation.evaluator.VideoReader", None)
    assert activations(model, data) == files
    torch.manual_seed(1)
    with pytest.raises(TypeError):  # other weights have other files
        activations(tiny(), data)


def test_training_fits_the_videos_and_keeps_frozen_layers(tmp_path: Path) -> None:
    model, targets = tiny(), torch.arange(8) % 2
    shape = model.endpoints(torch.zeros(1, 3, 16, 64, 64), names=["MaxPool3d_5a_2x2"])["MaxPool3d_5a_2x2"].shape
    files = [tmp_path / f"{i}.safetensors" for i in range(8)]
    for file, target in zip(files, targets.tolist(), strict=True):
        pattern = torch.rand(shape, generator=torch.Generator().manual_seed(target))
        save_file({"activations": (pattern + 0.1 * torch.rand(2, *shape[1:])).half()}, file)
    tail = Tail(model, "Mixed_5b")
    before = {name: p.clone() for name, p in tail.model.state_dict().items()}
    loss = torch.nn.functional.cross_entropy(tail_logits(tail, files), targets)
    epochs: list[int] = []
    recipe = LastBlocksRecipe(num_epochs=15, batch_size=4, learning_rate=1e-2)
    train_tail(tail, files, targets, recipe, progress=epochs.append)
    assert torch.nn.functional.cross_entropy(tail_logits(tail, files), targets) < loss / 2
    assert epochs == list(range(1, 16))
    changed = {name.split(".")[1] for name, p in tail.model.state_dict().items() if not torch.equal(p, before[name])}
    assert changed == {"Mixed_5b", "Mixed_5c", "weight", "bias"}
    averages = [name for name in before if "moving" in name or "running" in name]
    assert averages
    assert all(torch.equal(tail.model.state_dict()[name], before[name]) for name in averages)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("num_folds", [0, 2])
def test_the_more_accurate_network_is_saved(
    kept: bool, num_folds: int, data: Manifest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LastBlocksResult, "kept", kept)
    run = train_frozen(weights, data, tmp_path / "run", num_folds=num_folds, last_blocks=RECIPE)
    assert run.last_blocks is not None
    state, info = load_weights(run.folder / "best.safetensors")
    assert torch.equal(state[WEIGHT], load_weights(weights)[0][WEIGHT]) != kept
    assert (info.source["last_blocks"] is not None) == kept
    assert info.source["temperature"] == run.temperature
    if num_folds:
        assert run.cross_validation is not None
        expected = run.cross_validation.logits / run.temperature
        assert (run.last_blocks.accuracy if kept else run.last_blocks.frozen_accuracy) == run.cross_validation.accuracy
        torch.testing.assert_close(run.result.logits, expected.float())
    else:
        again = evaluate(Recognizer.load(run.folder), data, protocol="center-clip", num_workers=0)
        torch.testing.assert_close(again.logits, run.result.logits, atol=5e-3, rtol=5e-3)


@pytest.mark.slow
def test_what_cannot_be_trained_is_refused(data: Manifest, weights: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="got 2 networks: train them separately"):
        train_frozen([weights, weights], data, tmp_path / "run", last_blocks=RECIPE)
    with pytest.raises(UnknownNameError, match="Mixed_5b"):
        train_frozen(weights, data, tmp_path / "run", last_blocks=replace(RECIPE, train_from="Mixed_5x"))
    with pytest.raises(TrainingError, match="one clip a video; got 10 clips: use center-clip"):
        train_frozen(weights, data, tmp_path / "run", protocol="ten-clips", last_blocks=RECIPE)
    with pytest.raises(TrainingError, match="the last blocks of convnet_lstm cannot be trained"):
        require_i3d(build_model("convnet_lstm", num_classes=2), "Mixed_5b")


@pytest.mark.slow
def test_an_interrupted_run_continues_at_the_next_fold(
    data: Manifest, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []

    def count(tail: Tail, files: list[Path], *args: object, **options: object) -> None:
        trained.append(len(files))
        if len(trained) == stop_at:
            raise KeyboardInterrupt
        train_tail(tail, files, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("quovadis.training.frozen_last_blocks.train_tail", count)

    def run(name: str) -> object:
        run = train_frozen(weights, data, tmp_path / name, num_folds=3, last_blocks=RECIPE)
        assert not (tmp_path / name / "folds").exists()
        assert run.cross_validation is not None
        return run.cross_validation.logits.tolist()

    stop_at = 0
    whole = run("whole")
    assert len(trained) == 4  # three folds, and all videos
    trained.clear()
    stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        run("parts")
    trained.clear()
    stop_at = 0
    (tmp_path / "parts" / "folds" / "damaged.safetensors").write_bytes(b"no")
    assert run("parts") == whole
    assert len(trained) == 2  # the third fold, and all videos
    trained.clear()
    train_frozen(weights, data, tmp_path / "parts", num_folds=3, last_blocks=replace(RECIPE, learning_rate=1e-5))
    assert len(trained) == 4
