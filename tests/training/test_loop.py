import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.loader import ClipDataset, EpochBatches
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import LossNotFiniteError, StorageError, TrainingError
from quovadis.evaluation.evaluate import evaluate
from quovadis.recognizer import Recognizer
from quovadis.training import run_folder
from quovadis.training.loop import Silent, train
from quovadis.training.recipes import RECIPES, DataChoice, ModelChoice, OptimizerChoice, Recipe, Schedule, find_recipe
from quovadis.training.run_folder import RunFolder, read_log
from quovadis.transforms import to_model
from quovadis.weights.files import load_weights
from quovadis.weights.load import create_model

RECIPE = Recipe(
    name="test",
    max_steps=6,
    validate_every=2,
    model=ModelChoice(name="i3d_tiny", batch_norm_momentum=0.1),
    optimizer=OptimizerChoice(learning_rate=0.05),
    data=DataChoice(batch_size=4, num_workers=0),
)


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    return load_dataset(two_classes)


def losses(root: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(root / "log.jsonl") if "loss" in row}


def test_a_run_leaves_everything_that_it_promises(data: Manifest, tmp_path: Path) -> None:
    folder = train(RECIPE, data, tmp_path / "run")
    rows = list(read_log(folder.log))
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4, 6]
    recipe = json.loads((folder.root / "recipe.json").read_text())
    assert recipe["optimizer"]["learning_rate"] == 0.05
    assert json.loads((folder.root / "data.json").read_text())["identity"] == data.identity
    assert "torch" in json.loads((folder.root / "environment.json").read_text())
    if find_spec("tensorboard"):
        assert list((folder.root / "tensorboard").iterdir())
    _, info = load_weights(folder.best)
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])
    assert (info.model, info.labels) == ("i3d_tiny", ("left", "right"))
    assert info.source["step"] == best["step"]
    assert info.source["data_identity"] == data.identity


def test_a_stopped_run_goes_on_with_the_same_losses(data: Manifest, tmp_path: Path) -> None:
    whole = train(replace(RECIPE, max_steps=8), data, tmp_path / "whole")
    train(replace(RECIPE, max_steps=4), data, tmp_path / "parts")
    parts = train(replace(RECIPE, max_steps=8), data, tmp_path / "parts")
    assert losses(parts.root) == losses(whole.root)
    a, b = load_weights(whole.last)[0], load_weights(parts.last)[0]
    assert all(torch.equal(a[name], b[name]) for name in a)


_SCRIPT = """
import sys, torch
from quovadis.datasets.load import load_dataset
from quovadis.training.loop import Silent, train
from dataclasses import replace
from itertools import islice
sys.path.insert(0, {here!r})
from test_loop import RECIPE
train(replace(RECIPE, max_steps=12), load_dataset({data!r}), {out!r})
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses(two_classes: Path, tmp_path: Path) -> None:
    def start(out: Path) -> subprocess.Popen[bytes]:
        script = _SCRIPT.format(here=str(Path(__file__).parent), data=str(two_classes), out=str(out))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen([sys.executable, "-c", script], env=env)

    assert start(tmp_path / "whole").wait() == 0
    killed = start(tmp_path / "killed")
    deadline = time.monotonic() + 120
    while len(losses(tmp_path / "killed")) < 5:  # past the checkpoint of step 4, in the middle of a step
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert start(tmp_path / "killed").wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert list(losses(tmp_path / "killed")) == list(range(1, 13))


def test_a_step_applies_the_mean_gradient_of_its_batches(data: Manifest, tmp_path: Path) -> None:
    """Against the same step written out by hand: two batches of 4, plain SGD, no dropout."""
    recipe = replace(
        RECIPE,
        max_steps=1,
        validate_every=1,
        model=replace(RECIPE.model, dropout=0.0),
        optimizer=OptimizerChoice(learning_rate=0.05, momentum=0.0, weight_decay=0.0),
        data=DataChoice(batch_size=4, accumulate_steps=2, num_workers=0),
    )
    after = load_weights(train(recipe, data, tmp_path / "run").last)[0]
    torch.manual_seed(recipe.seed)
    model = create_model("i3d_tiny", num_classes=2, dropout=0.0).channels_last()
    clips = ClipDataset(data.split("train"), model.spec, seed=recipe.seed)
    for batch in islice(EpochBatches(len(clips), 4, seed=recipe.seed), 2):
        samples = [clips[key] for key in batch]
        x = to_model(torch.stack([s["streams"][0] for s in samples]))
        logits = model(x.contiguous(memory_format=torch.channels_last_3d))
        (torch.nn.functional.cross_entropy(logits, torch.tensor([s["label"] for s in samples])) / 2).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(after[name], parameter.detach() - 0.05 * parameter.grad, atol=1e-6, rtol=1e-4)


class _StopAt(Silent):
    def __init__(self, last_step: int):
        self.last_step = last_step

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        if row["step"] == self.last_step:
            raise KeyboardInterrupt


def test_one_cycle_rises_and_falls_and_goes_on_where_it_was(data: Manifest, tmp_path: Path) -> None:
    cycle = replace(RECIPE, schedule=Schedule(kind="one-cycle"))
    whole = train(cycle, data, tmp_path / "whole")
    rates = [row["learning_rate"] for row in read_log(whole.log) if "loss" in row]
    assert max(rates) == pytest.approx(0.05, rel=0.2)
    assert rates[0] < 0.01
    assert rates[-1] < 0.01
    with pytest.raises(KeyboardInterrupt):
        train(cycle, data, tmp_path / "parts", progress=_StopAt(5))
    parts = train(cycle, data, tmp_path / "parts")
    assert losses(parts.root) == losses(whole.root)
    assert [row["learning_rate"] for row in read_log(parts.log) if "loss" in row] == rates
    with pytest.raises(TrainingError, match="recipe differs in max_steps"):
        train(replace(cycle, max_steps=7), data, tmp_path / "whole")


def test_the_rate_falls_when_validation_saturates_and_ends_the_run(data: Manifest, tmp_path: Path) -> None:
    still = replace(
        RECIPE,
        max_steps=40,
        validate_every=1,
        optimizer=OptimizerChoice(learning_rate=1e-12),
        schedule=replace(RECIPE.schedule, patience=0, min_learning_rate=1e-13),
        model=replace(RECIPE.model, batch_norm_momentum=0.0),
    )
    notes: list[str] = []
    folder = train(still, data, tmp_path / "run", progress=_Collect(notes))
    rates = [row["learning_rate"] for row in read_log(folder.log) if "loss" in row]
    assert rates[0] == pytest.approx(1e-12)
    assert len(rates) < 40
    assert min(rates) < 2e-13
    assert any("reached its end" in note for note in notes)


class _Collect(Silent):
    def __init__(self, notes: list[str]):
        self.notes = notes

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good(data: Manifest, tmp_path: Path) -> None:
    good = train(RECIPE, data, tmp_path / "run")
    before = good.best.read_bytes(), good.checkpoint.read_bytes()
    state = good.load_checkpoint()
    state["model"]["head.bias"].fill_(float("nan"))
    good.save_checkpoint(state)
    poisoned = good.checkpoint.read_bytes()
    with pytest.raises(LossNotFiniteError, match=r"the loss is nan at step 7, learning rate 0.05; .*best.safetensors"):
        train(replace(RECIPE, max_steps=9), data, tmp_path / "run")
    assert good.best.read_bytes() == before[0]
    assert good.checkpoint.read_bytes() == poisoned


def test_weights_that_a_step_spoiled_are_never_saved(data: Manifest, tmp_path: Path) -> None:
    """A finite loss, a step into infinity, and a validation right after it."""
    good = train(replace(RECIPE, max_steps=2), data, tmp_path / "run")
    state = good.load_checkpoint()
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = 1e38
    good.save_checkpoint(state)
    before = good.checkpoint.read_bytes()
    with pytest.raises(LossNotFiniteError, match="at step 3"):
        train(replace(RECIPE, max_steps=3), data, tmp_path / "run")
    assert good.checkpoint.read_bytes() == before


def test_a_full_disk_keeps_what_was_saved(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(replace(RECIPE, max_steps=2), data, tmp_path / "run")
    before = folder.checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; what was there before stays"):
        train(replace(RECIPE, max_steps=4), data, tmp_path / "run")
    monkeypatch.undo()
    assert folder.checkpoint.read_bytes() == before
    assert not list(folder.root.glob(".*part*"))
    train(replace(RECIPE, max_steps=4), data, tmp_path / "run")
    assert list(losses(folder.root)) == [1, 2, 3, 4]


def test_a_folder_with_another_run_is_refused(data: Manifest, tmp_path: Path) -> None:
    train(replace(RECIPE, max_steps=2), data, tmp_path / "run")
    with pytest.raises(
        TrainingError,
        match=r"recipe differs in max_steps \(2 there, 6 here\), optimizer.learning_rate \(",
    ):
        train(replace(RECIPE, optimizer=OptimizerChoice(learning_rate=1.0)), data, tmp_path / "run")
    fewer = replace(data, records=data.records[:-1])
    with pytest.raises(TrainingError, match="data differs in identity"):
        train(RECIPE, fewer, tmp_path / "run")


def test_a_class_without_training_videos_is_refused(data: Manifest, tmp_path: Path) -> None:
    lonely = replace(data, labels=(*data.labels, "up"))
    with pytest.raises(TrainingError, match=r"1 classes of squares have no training video that exists: up"):
        train(RECIPE, lonely, tmp_path / "run")


def test_unreadable_training_videos_are_counted(data: Manifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    notes: list[str] = []
    more = replace(data, records=(*data.records, VideoRecord(broken, 0, "train")))
    train(replace(RECIPE, max_steps=4), more, tmp_path / "run", progress=_Collect(notes))
    assert any("1 training videos could not be read and were replaced" in note for note in notes)


def test_starting_from_weights_replaces_the_head_where_classes_differ(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(replace(RECIPE, max_steps=2), data, tmp_path / "first")
    renamed = replace(data, labels=("west", "east"))
    still = replace(
        RECIPE,
        max_steps=1,
        model=replace(RECIPE.model, weights=str(first.last)),
        optimizer=OptimizerChoice(learning_rate=0.0),
        schedule=Schedule(min_learning_rate=0.0),
    )
    second = train(still, renamed, tmp_path / "second")
    before, after = load_weights(first.last)[0], load_weights(second.last)[0]
    kernel = "trunk.Mixed_3b.Branch_0.Conv3d_0a_1x1.conv.weight"
    assert torch.equal(before[kernel], after[kernel])
    assert not torch.equal(before["head.weight"], after["head.weight"])
    with pytest.raises(TrainingError, match=r"holds i3d_tiny \(rgb\); the recipe asks for i3d \(rgb\)"):
        train(replace(still, model=replace(still.model, name="i3d")), data, tmp_path / "third")


@pytest.mark.slow
def test_a_flow_stream_trains_and_is_fused_with_rgb(data: Manifest, tmp_path: Path) -> None:
    """Two-stream I3D from files to figures: two runs, their logits added."""
    short = replace(RECIPE, max_steps=2)
    rgb = train(short, data, tmp_path / "rgb")
    flow = train(replace(short, model=replace(RECIPE.model, stream="flow")), data, tmp_path / "flow")
    assert load_weights(flow.best)[1].source["flow_method"] == "tvl1"
    both = Recognizer.load(rgb.root, flow.root)
    assert both.describe() == "i3d_tiny (rgb + flow)"
    results = [evaluate(r, data, num_workers=0) for r in (both, Recognizer.load(rgb.root), Recognizer.load(flow.root))]
    assert [r.num_videos for r in results] == [6, 6, 6]
    path = data.split("test")[0].path
    parts = [Recognizer.load(run.root).predict(path).logits for run in (rgb, flow)]
    torch.testing.assert_close(both.predict(path).logits, parts[0] + parts[1], atol=1e-5, rtol=1e-5)


def test_mixed_precision_keeps_the_weights_in_float32(data: Manifest, tmp_path: Path) -> None:
    short = replace(RECIPE, max_steps=1, validate_every=1, data=replace(RECIPE.data, batch_size=2))
    full, mixed = (train(replace(short, precision=p), data, tmp_path / p) for p in ("no", "bf16"))
    assert losses(mixed.root)[1] == pytest.approx(losses(full.root)[1], rel=0.1)
    assert losses(mixed.root)[1] != losses(full.root)[1]
    assert {t.dtype for t in load_weights(mixed.last)[0].values()} == {torch.float32}


def test_a_broken_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoint.write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"cannot be read as a checkpoint .*remove it to begin again"):
        folder.load_checkpoint()


def test_a_log_that_was_cut_in_the_middle_of_a_line_is_read_up_to_it(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [row["step"] for row in run_folder.read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_a_recipe_that_cannot_run_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"learning-rate 1e-06 is below --schedule.min-learning-rate 1e-05"):
        replace(RECIPE, optimizer=OptimizerChoice(learning_rate=1e-6))
    with pytest.raises(TrainingError, match="max_steps must be at least 1; got 0"):
        replace(RECIPE, max_steps=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, where fp16 runs")
def test_half_precision_without_a_gpu_is_refused(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--precision fp16 needs a GPU, and this runs on the CPU: use bf16 or no"):
        train(replace(RECIPE, precision="fp16"), data, tmp_path / "run")


def test_frozen_batch_norm_keeps_the_averages_of_the_weights(data: Manifest, tmp_path: Path) -> None:
    first = train(replace(RECIPE, max_steps=2), data, tmp_path / "first")
    frozen = replace(RECIPE.model, batch_norm="frozen", weights=str(first.last))
    gentle = OptimizerChoice(learning_rate=1e-4)
    second = train(replace(RECIPE, max_steps=2, model=frozen, optimizer=gentle), data, tmp_path / "second")
    before, after = load_weights(first.last)[0], load_weights(second.last)[0]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert "head.weight" in changed
    assert not any("running" in key for key in changed)


def test_the_rate_changes_after_the_steps_that_were_given(data: Manifest, tmp_path: Path) -> None:
    changes = ((2, 0.1), (3, 0.01), (5, 1.0))
    steps = replace(RECIPE, schedule=Schedule(kind="multi-step", changes=changes))
    expected = [0.05, 0.05, 0.005, 0.0005, 0.0005, 0.05]
    whole = train(steps, data, tmp_path / "whole")
    assert [r["learning_rate"] for r in read_log(whole.log) if "loss" in r] == pytest.approx(expected)
    with pytest.raises(KeyboardInterrupt):
        train(steps, data, tmp_path / "parts", progress=_StopAt(5))
    parts = train(steps, data, tmp_path / "parts")
    assert [r["learning_rate"] for r in read_log(parts.log) if "loss" in r] == pytest.approx(expected)
    assert losses(parts.root) == losses(whole.root)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_what_it_says(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert json.loads(json.dumps(recipe.to_dict()))["model"]["name"] in ("i3d", "i3d_tiny")
    assert recipe.for_processes(2).data.accumulate_steps >= 1
    assert (RECIPES[name].__doc__ or "").strip()


@pytest.mark.parametrize("option", ["recompute", pytest.param("compile", marks=pytest.mark.slow)])
def test_steps_that_save_memory_or_time_are_the_same_steps(option: str, data: Manifest, tmp_path: Path) -> None:
    """The graph is traced as for every compiler; what the C++ one does with it takes minutes."""
    recipe = replace(RECIPE, max_steps=2)
    train(recipe, data, tmp_path / "plain")
    with patch("torch.compile", wraps=partial(torch.compile, backend="eager")) as compiler:
        train(replace(recipe, **{option: True}), data, tmp_path / option)  # type: ignore[arg-type]
    assert compiler.called == (option == "compile")
    assert losses(tmp_path / option) == losses(tmp_path / "plain")
