"""Training of the last layers only, ``--model.train-from``."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quovadis.cli import main
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.models.zoo import build_model
from quovadis.training.build import build_model as build_run_model
from quovadis.training.build import freeze_before
from quovadis.training.experiment import Experiment
from quovadis.training.loop import train
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe
from quovadis.training.run_folder import RunFolder, read_log
from quovadis.weights.files import load_weights, save_weights
from quovadis.weights.info import WeightsInfo
from tests.launch import launch

RECIPE = Recipe(
    name="test",
    max_steps=3,
    validate_every=3,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.5, dropout=0.0, train_from="Mixed_5b"),
    optimizer=OptimizerConfig(learning_rate=0.01, weight_decay=0.1),
    data=DataConfig(batch_size=2, num_workers=0),
)
LAST = ("trunk.Mixed_5b.", "trunk.Mixed_5c.", "head.")


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    return load_dataset(two_classes)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A network whose running averages differ from their initial values."""
    model = build_model("i3d_tiny", num_classes=2)
    with torch.no_grad():
        model(torch.rand(2, 3, 16, 64, 64))
    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    return save_weights(tmp_path / "source.safetensors", model.state_dict(), info)


def with_weights(source: Path, recipe: Recipe = RECIPE) -> Recipe:
    return replace(recipe, model=replace(recipe.model, weights=str(source)))


@pytest.mark.parametrize("batch_norm_clips", [0, 4])
@pytest.mark.parametrize("recompute", [False, True])
def test_layers_before_the_endpoint_do_not_change(
    recompute: bool, batch_norm_clips: int, data: Manifest, source: Path, tmp_path: Path
) -> None:
    recipe = replace(with_weights(source), recompute=recompute)
    recipe = replace(recipe, model=replace(recipe.model, batch_norm_clips=batch_norm_clips))
    before, after = (load_weights(path)[0] for path in (source, train(recipe, data, tmp_path / "run").last))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.startswith(LAST)}


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_run_resumes_with_the_same_steps(data: Manifest, source: Path, tmp_path: Path) -> None:
    recipe = with_weights(source)
    whole = train(replace(recipe, max_steps=4, validate_every=2), data, tmp_path / "whole")
    train(replace(recipe, max_steps=2, validate_every=2), data, tmp_path / "parts")
    parts = train(replace(recipe, max_steps=4, validate_every=2), data, tmp_path / "parts")
    ours, theirs = load_weights(parts.last)[0], load_weights(whole.last)[0]
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    with pytest.raises(TrainingError, match=r"differs in .*model.train_from \(Mixed_5b there, Mixed_5c here\)"):
        train(replace(recipe, model=replace(recipe.model, train_from="Mixed_5c")), data, tmp_path / "parts")


@pytest.mark.parametrize("name", ["i3d_tiny", "conv3d_tiny", "convnet_lstm_tiny", "i3d_r50_tiny"])
@pytest.mark.parametrize("position", [0, 1, 4])
def test_frozen_layers_are_those_that_an_endpoint_reads(name: str, position: int) -> None:
    """Against autograd: the parameters that the output of the previous endpoint depends on."""
    if name == "i3d_r50_tiny":
        from quovadis.models.resnet import I3DResNet50

        model = I3DResNet50(num_classes=2, width=1 / 8)
    else:
        model = build_model(name, num_classes=2)
    stream = model.spec.streams[0]
    x = torch.rand(2, stream.channels, max(16, stream.num_frames_in(model.spec.min_frames)), 64, 64)
    if name == "convnet_lstm_tiny":
        x = torch.rand(2, stream.channels, 3, 64, 64)
    names = list(model.endpoints(x))
    endpoint = [key for key in names if key not in ("maxpool", "pool_time")][position]
    expected: set[str] = set()
    if position:
        previous = names[names.index(endpoint) - 1]
        model.endpoints(x, names=[previous])[previous].sum().backward()
        expected = {key for key, p in model.named_parameters() if p.grad is not None}
    freeze_before(model, endpoint)
    frozen = {key for key, p in model.named_parameters() if not p.requires_grad}
    assert frozen == expected


def test_nothing_is_stored_for_frozen_layers(source: Path) -> None:
    model = build_run_model(with_weights(source), ("left", "right")).train()
    output = model.endpoints(torch.rand(2, 3, 16, 64, 64), names=["MaxPool3d_5a_2x2", "Mixed_5b"])
    assert output["MaxPool3d_5a_2x2"].grad_fn is None
    assert output["Mixed_5b"].grad_fn is not None


def test_invalid_uses_are_rejected(data: Manifest, source: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"--model.train-from Mixed_5b keeps .*; set --model.weights"):
        train(RECIPE, data, tmp_path / "run")
    unknown = replace(RECIPE, model=replace(RECIPE.model, train_from="Mixed_5d"))
    with pytest.raises(UnknownNameError, match=r"Mixed_5d.*Mixed_5c"):
        train(with_weights(source, unknown), data, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.json").exists()
    with pytest.raises(TrainingError, match="not supported by two_stream"):
        freeze_before(build_model("two_stream_tiny", num_classes=2), "rgb/Mixed_5c")


def test_option_and_full_fine_tuning_of_an_experiment(
    two_classes: Path, data: Manifest, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["--max-steps", "1", "--model.name", "i3d_tiny", "--data.num-workers", "0", "--data.batch-size", "2"]
    arguments += ["--model.weights", str(source), "--model.train-from", "Mixed_5c", "--out", str(out)]
    main(["train", "finetune", "--data", str(two_classes), *arguments])
    assert [row["step"] for row in read_log(RunFolder(out).log)] == [1, 1]
    before, after = load_weights(source)[0], load_weights(RunFolder(out).last)[0]
    assert torch.equal(
        before["trunk.Mixed_5b.Branch_0.Conv3d_0a_1x1.conv.weight"],
        after["trunk.Mixed_5b.Branch_0.Conv3d_0a_1x1.conv.weight"],
    )
    all_layers = replace(RECIPE, model=replace(RECIPE.model, train_from=None))
    keys = [Experiment("full-ft", recipe, data, source=source).key for recipe in (RECIPE, all_layers)]
    assert keys[0] != keys[1]


def test_folder_names_of_experiments_do_not_change(data: Manifest, source: Path) -> None:
    """The identity of an experiment without the option is that from before the option existed."""
    recipe = replace(RECIPE, model=replace(RECIPE.model, train_from=None))
    assert "train_from" not in str(Experiment("full-ft", recipe, data, source=source)._identity())


_DISTRIBUTED = """
from quovadis.datasets.load import load_dataset
from quovadis.runtime import distributed
from quovadis.training.loop import train
from pathlib import Path
from tests.training.test_train_from import with_weights
distributed.initialize()
train(with_weights(Path({source!r})), load_dataset({data!r}), {out!r})
distributed.shutdown()
"""


@pytest.mark.slow
def test_two_processes_keep_the_frozen_layers(two_classes: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    script = _DISTRIBUTED.format(source=str(source), data=str(two_classes), out=str(out))
    assert [(e.code, e.stderr) for e in launch(script, 2)] == [(0, "")] * 2
    before, after = load_weights(source)[0], load_weights(RunFolder(out).last)[0]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {key for key in before if key.startswith(LAST)}
