import json
import os
import shutil
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

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler
from quovadis.datasets.load import load_dataset
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import LossNotFiniteError, StorageError, TrainingError
from quovadis.evaluation.evaluator import evaluate
from quovadis.flow import source as flow_files
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.batch_norm import recompute_running_statistics
from quovadis.models.i3d import I3D
from quovadis.models.video_model import VideoModel
from quovadis.runtime.locks import LOCK_NAME, FolderLock
from quovadis.training import run_folder
from quovadis.training.loop import step_seed, train
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import (
    RECIPES,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    find_recipe,
)
from quovadis.training.run_folder import RunFolder, read_log
from quovadis.transforms import to_model
from quovadis.video.clip import Clip
from quovadis.weights.files import load_weights
from quovadis.weights.load import create_model
from tests.synthetic import with_numbered_flow
from tests.training.precision import float64

RECIPE = Recipe(
    name="test",
    max_steps=6,
    validate_every=2,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.1, batch_norm_clips=0),
    optimizer=OptimizerConfig(learning_rate=0.05),
    data=DataConfig(batch_size=4, num_workers=0),
)


SHORT = replace(RECIPE, max_steps=2, data=replace(RECIPE.data, batch_size=2))


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    return load_dataset(two_classes)


def losses(root: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(root / "log.jsonl") if "loss" in row}


def val_losses(root: Path) -> dict[int, float]:
    return {row["step"]: row["val_loss"] for row in read_log(root / "log.jsonl") if "val_loss" in row}


def test_run_folder_is_complete(data: Manifest, tmp_path: Path) -> None:
    folder = train(RECIPE, data, tmp_path / "run")
    rows = list(read_log(folder.log))
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "val_loss" in row] == [2, 4, 6]
    recipe = json.loads((folder.root / "recipe.json").read_text())
    assert recipe["optimizer"]["learning_rate"] == 0.05
    assert json.loads((folder.root / "data.json").read_text())["fingerprint"] == data.fingerprint
    assert "torch" in json.loads((folder.root / "environment.json").read_text())
    if find_spec("tensorboard"):
        assert list((folder.root / "tensorboard").iterdir())
    _, info = load_weights(folder.best)
    best = min((row for row in rows if "val_loss" in row), key=lambda row: row["val_loss"])
    assert (info.model, info.labels) == ("i3d_tiny", ("left", "right"))
    assert info.source["step"] == best["step"]
    assert info.source["data_fingerprint"] == data.fingerprint


@pytest.mark.usefixtures("on_cpu")
def test_stopped_run_resumes_with_the_same_losses(data: Manifest, tmp_path: Path) -> None:
    recipe = replace(RECIPE, max_steps=3, validate_every=2, model=replace(RECIPE.model, batch_norm_clips=4))
    whole = train(replace(recipe, max_steps=4), data, tmp_path / "whole")
    train(replace(recipe, max_steps=2), data, tmp_path / "parts")
    parts = train(replace(recipe, max_steps=4), data, tmp_path / "parts")
    assert losses(parts.root) == losses(whole.root)
    assert val_losses(parts.root) == val_losses(whole.root)
    a, b = load_weights(whole.last)[0], load_weights(parts.last)[0]
    assert all(torch.equal(a[name], b[name]) for name in a)


_SCRIPT = """
import sys, torch
from quovadis.datasets.load import load_dataset
from quovadis.training.loop import train
from dataclasses import replace
from itertools import islice
sys.path.insert(0, {here!r})
from test_loop import RECIPE
train(replace(RECIPE, max_steps=12), load_dataset({data!r}), {out!r})
"""


@pytest.mark.slow
def test_killed_run_resumes_with_the_same_losses(two_classes: Path, tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_step_applies_the_mean_gradient_of_its_batches(data: Manifest, tmp_path: Path) -> None:
    """Against two steps written out by hand: two batches of 2 each, SGD with momentum and weight decay, no dropout."""
    rate, momentum, decay = 2e-5, 0.5, 10.0  # a small step, after which the network is as well conditioned as before
    recipe = replace(
        RECIPE,
        max_steps=2,
        validate_every=2,
        model=replace(RECIPE.model, dropout=0.0),
        optimizer=OptimizerConfig(learning_rate=rate, momentum=momentum, weight_decay=decay),
        data=DataConfig(batch_size=2, accumulate_steps=2, num_workers=0),
    )
    with float64():
        after = load_weights(train(recipe, data, tmp_path / "run").last)[0]
    torch.manual_seed(recipe.seed)
    model = create_model("i3d_tiny", num_classes=2, dropout=0.0).double().channels_last()
    clips = ClipDataset(data.split("train"), model.spec, seed=recipe.seed)
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    batches = iter(EpochBatchSampler(len(clips), 2, seed=recipe.seed))
    for _ in range(2):
        model.zero_grad()
        for batch in islice(batches, 2):
            samples = [clips[key] for key in batch]
            x = to_model(torch.stack([s["streams"][0] for s in samples])).double()
            logits = model(x.contiguous(memory_format=torch.channels_last_3d))
            (torch.nn.functional.cross_entropy(logits, torch.tensor([s["label"] for s in samples])) / 2).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            velocity[name] = momentum * velocity[name] + parameter.grad + decay * parameter.detach()
            parameter.data -= rate * velocity[name]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(after[name], parameter.detach(), atol=1e-9, rtol=1e-7)


class _StopAt(NullProgress):
    def __init__(self, last_step: int):
        self.last_step = last_step

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        if row["step"] == self.last_step:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_one_cycle_schedule_and_resume(data: Manifest, tmp_path: Path) -> None:
    cycle = replace(RECIPE, schedule=ScheduleConfig(kind="one-cycle"))
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


def test_plateau_reduces_the_rate_and_completes_the_run(data: Manifest, tmp_path: Path) -> None:
    still = replace(
        RECIPE,
        max_steps=40,
        validate_every=1,
        optimizer=OptimizerConfig(learning_rate=1e-12),
        schedule=replace(RECIPE.schedule, patience=0, min_learning_rate=1e-13),
        model=replace(RECIPE.model, batch_norm_momentum=0.0),
    )
    notes: list[str] = []
    folder = train(still, data, tmp_path / "run", progress=_Collect(notes))
    rates = [row["learning_rate"] for row in read_log(folder.log) if "loss" in row]
    assert rates[0] == pytest.approx(1e-12)
    assert len(rates) < 40
    assert min(rates) < 2e-13
    assert any("fell below --schedule.min-learning-rate" in note for note in notes)


class _Collect(NullProgress):
    def __init__(self, notes: list[str]):
        self.notes = notes

    def note(self, message: str) -> None:
        self.notes.append(message)


class Failing(NullProgress):
    def validation(self, row: dict[str, Any]) -> None:
        raise KeyError


def test_an_error_closes_the_loaders_of_training_and_validation(
    data: Manifest, tmp_path: Path, closed_loaders: list[VideoDataLoader]
) -> None:
    with pytest.raises(KeyError):
        train(RECIPE, data, tmp_path / "run", progress=Failing())
    assert len(closed_loaders) == 2


def test_non_finite_loss_stops_and_keeps_the_last_checkpoint(data: Manifest, tmp_path: Path) -> None:
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


def test_non_finite_weights_are_never_saved(data: Manifest, tmp_path: Path) -> None:
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


def test_full_disk_keeps_saved_files(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = train(replace(RECIPE, max_steps=2), data, tmp_path / "run")
    before = folder.checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; an existing file is unchanged"):
        train(replace(RECIPE, max_steps=4), data, tmp_path / "run")
    monkeypatch.undo()
    assert folder.checkpoint.read_bytes() == before
    assert not list(folder.root.glob(".*part*"))
    train(replace(RECIPE, max_steps=4), data, tmp_path / "run")
    assert list(losses(folder.root)) == [1, 2, 3, 4]


def test_folder_with_another_run_is_rejected(data: Manifest, tmp_path: Path) -> None:
    train(replace(RECIPE, max_steps=2), data, tmp_path / "run")
    with pytest.raises(
        TrainingError,
        match=r"recipe differs in max_steps \(2 there, 6 here\), optimizer.learning_rate \(",
    ):
        train(replace(RECIPE, optimizer=OptimizerConfig(learning_rate=1.0)), data, tmp_path / "run")
    fewer = replace(data, records=data.records[:-1])
    with pytest.raises(TrainingError, match="data differs in fingerprint"):
        train(RECIPE, fewer, tmp_path / "run")


def test_class_without_training_videos_is_rejected(data: Manifest, tmp_path: Path) -> None:
    lonely = replace(data, labels=(*data.labels, "up"))
    with pytest.raises(TrainingError, match=r"squares: no training video exists of 'up': add videos"):
        train(RECIPE, lonely, tmp_path / "run")


def test_unreadable_training_videos_are_counted(data: Manifest, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    notes: list[str] = []
    more = replace(data, records=(*data.records, VideoRecord(broken, 0, "train")))
    train(replace(RECIPE, max_steps=4), more, tmp_path / "run", progress=_Collect(notes))
    assert sum(note.startswith(f"{broken} is not a video") for note in notes) == 1
    first = next(note for note in notes if note.startswith(f"{broken} is not a video"))
    assert first.endswith("; another video of its class replaces it in training")
    assert any("1 training videos could not be read and were replaced" in note for note in notes)


@pytest.mark.usefixtures("on_cpu")
def test_unreadable_validation_video_counts_as_wrong(data: Manifest, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    notes = _Collect([])
    more = replace(data, records=(*data.records, VideoRecord(tmp_path / "broken.mp4", 0, "val")))
    recipe = replace(RECIPE, max_steps=1, validate_every=1, data=replace(RECIPE.data, batch_size=2))
    with_broken = train(recipe, more, tmp_path / "more", progress=notes)
    without = train(recipe, data, tmp_path / "run")
    rows = [next(row for row in read_log(f.log) if "val_loss" in row) for f in (with_broken, without)]
    assert rows[0]["val_accuracy"] == rows[1]["val_accuracy"] * 4 / 5
    assert rows[0]["val_loss"] == pytest.approx(rows[1]["val_loss"], rel=1e-4)
    assert notes.notes[0].endswith("it counts as wrong in validation")
    assert "1 validation videos could not be read and counted as wrong: " in notes.notes[1]


@pytest.mark.usefixtures("on_cpu")
def test_missing_validation_video_counts_as_wrong(data: Manifest, tmp_path: Path) -> None:
    records = (VideoRecord(tmp_path / "a.mp4", 0, "val"), VideoRecord(tmp_path / "b.mp4", 0, "train"))
    notes = _Collect([])
    more = replace(data, records=(*data.records, *records))
    recipe = replace(RECIPE, max_steps=1, validate_every=1, data=replace(RECIPE.data, batch_size=2))
    runs = [train(recipe, more, tmp_path / "more", progress=notes), train(recipe, data, tmp_path / "run")]
    rows = [next(row for row in read_log(f.log) if "val_loss" in row) for f in runs]
    assert rows[0]["val_accuracy"] == rows[1]["val_accuracy"] * 4 / 5 > 0
    assert rows[0]["val_loss"] == rows[1]["val_loss"]
    assert notes.notes[:2] == [
        f"1 training videos do not exist: {tmp_path / 'b.mp4'}",
        f"1 validation videos do not exist and count as wrong: {tmp_path / 'a.mp4'}",
    ]


def test_class_whose_validation_videos_are_missing_is_rejected(data: Manifest, tmp_path: Path) -> None:
    records = [
        replace(r, path=tmp_path / "missing.mp4") if (r.split, r.label) == ("val", 1) else r for r in data.records
    ]
    with pytest.raises(TrainingError, match=r"squares: none of the validation videos exists of 'right': add them"):
        train(RECIPE, replace(data, records=tuple(records)), tmp_path / "run")


@pytest.mark.parametrize(("split", "name"), [("train", "training"), ("val", "validation")])
def test_class_without_a_readable_video_is_rejected_before_training(
    split: str, name: str, data: Manifest, tmp_path: Path
) -> None:
    records = [replace(r, path=tmp_path / f"{i}.mp4") for i, r in enumerate(data.split(split)) if r.label == 1]
    for record in records:
        record.path.write_text("no video")
    kept = [r for r in data.records if r.split != split or r.label == 0]
    lonely = replace(data, records=(*kept, *records))
    with pytest.raises(TrainingError, match=rf"squares: no {name} video can be read of 'right' \(.*mp4"):
        train(RECIPE, lonely, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.json").exists()
    gone = replace(data, records=[replace(r, path=Path("no")) if r.split == split else r for r in data.records])
    with pytest.raises(TrainingError, match="exists"):
        train(RECIPE, gone, tmp_path / "run")


@pytest.mark.usefixtures("on_cpu")
def test_weights_are_saved_with_recomputed_statistics(data: Manifest, tmp_path: Path) -> None:
    """Whatever the momentum is; and they are those of the clips of the first batches under the saved weights."""
    found = []
    for momentum in (0.1, 0.9):
        choice = replace(RECIPE.model, batch_norm_momentum=momentum, batch_norm_clips=8, dropout=0.0)
        recipe = replace(RECIPE, max_steps=1, validate_every=1, model=choice)
        found.append(load_weights(train(recipe, data, tmp_path / str(momentum)).last)[0])
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    model = create_model("i3d_tiny", num_classes=2, dropout=0.0)
    model.load_state_dict(found[0])
    clips = ClipDataset(data.split("train"), model.spec, seed=RECIPE.seed)
    batches = [[clips[key]["streams"][0] for key in batch] for batch in islice(EpochBatchSampler(12, 4, seed=0), 2)]
    recompute_running_statistics(model, ([to_model(torch.stack(batch))] for batch in batches))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(found[0][key], value, atol=1e-4, rtol=1e-3)


def test_non_finite_gradient_stops_the_run(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(RECIPE, data=replace(RECIPE.data, batch_size=2))
    loss = VideoModel.loss
    monkeypatch.setattr(I3D, "loss", lambda *args: _ToInfinity.apply(loss(*args)))
    with pytest.raises(
        LossNotFiniteError, match=r"the norm of the gradients is (inf|nan) at step 1, .*nothing was saved"
    ):
        train(recipe, data, tmp_path / "run")


class _ToInfinity(torch.autograd.Function):
    """A finite loss with an infinite gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0] * torch.inf


def test_run_folder_is_locked_and_released_after_an_interrupt(data: Manifest, tmp_path: Path) -> None:
    with FolderLock(tmp_path / "run", "training"):
        with pytest.raises(
            StorageError, match=r"run is in use by process .*training, since .*: wait for it, or stop it"
        ):
            train(RECIPE, data, tmp_path / "run")
        assert not (tmp_path / "run" / "recipe.json").exists()
    quick = replace(RECIPE, data=replace(RECIPE.data, batch_size=2))
    with pytest.raises(KeyboardInterrupt):
        train(quick, data, tmp_path / "run", progress=_StopAt(3))
    assert not (tmp_path / "run" / LOCK_NAME).exists()
    assert RunFolder(tmp_path / "run").load_checkpoint()["step"] == 2
    with FolderLock(tmp_path / "run", "training"):
        pass


def test_step_seed_differs_between_steps_and_processes(data: Manifest, tmp_path: Path) -> None:
    seeds: list[int] = []

    class Seeds(NullProgress):
        def step(self, row: dict[str, Any], max_steps: int) -> None:
            seeds.append(torch.initial_seed())

    recipe = replace(RECIPE, max_steps=2, seed=5, data=replace(RECIPE.data, batch_size=2))
    train(recipe, data, tmp_path / "run", progress=Seeds())
    assert seeds == [step_seed(5, 1, 0), step_seed(5, 2, 0)]
    every = {step_seed(seed, step, rank) for seed in range(4) for step in range(4) for rank in range(4)}
    assert len(every) == 64


def test_stored_flow_is_found_by_relative_path(data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = []
    add_to = FlowSource.add_to

    def add(self: FlowSource, clip: Clip, **options: Any) -> Clip:
        sources.append(self)
        return add_to(replace(self, folder=None), clip, **options)

    monkeypatch.setattr(FlowSource, "add_to", add)
    monkeypatch.setattr(flow_files, "flow_for_clip", with_numbered_flow)
    choice = replace(RECIPE.data, batch_size=2, flow_folder=str(tmp_path / "flow"), flow_method="dis")
    recipe = replace(RECIPE, max_steps=1, model=replace(RECIPE.model, stream="flow"), data=choice)
    train(recipe, data, tmp_path / "run")
    video = data.records[0].path
    expected = tmp_path / "flow" / video.relative_to(data.root).with_suffix(".flow.mp4")
    assert {source.file_of(video) for source in sources} == {expected}
    assert {source.method for source in sources} == {"dis"}


@pytest.fixture(scope="module")
def finished(two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(SHORT, load_dataset(two_classes), folder)
    return folder


DAMAGES = [
    ("recipe.json", b"", r"recipe.json is damaged .*restore it, or start the run again in another folder"),
    ("recipe.json", b"[1]", r"recipe.json must hold a JSON object; got list"),
    ("data.json", b"\xff\xfe{", r"data.json is damaged"),
    ("log.jsonl", b"", r"log.jsonl has no line of step 2, .*delete it"),
    ("log.jsonl", b'{"step": 1}\nnonsense\n{"step": 2}\n', r"log.jsonl, line 2 is damaged"),
    ("log.jsonl", b'{"step": 1}\n{"loss": 1}\n{"step": 2}\n', r"log.jsonl, line 2 is damaged"),
    ("log.jsonl", b'7\n{"step": 2}\n', r"log.jsonl, line 1 is damaged"),
    ("last.pt", b"", r"last.pt cannot be read as a checkpoint"),
    ("last.pt", {"step": 2}, r"last.pt cannot be read as a checkpoint \('model'\); remove it to restart"),
    ("last.pt", [1], r"last.pt cannot be read as a checkpoint \(it holds a list\)"),
    ("last.pt", {"model": {}}, r"last.pt cannot be read as a checkpoint \(Error\(s\) in loading"),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGES, ids=[f"{d[0]}-{i}" for i, d in enumerate(DAMAGES)])
def test_error_names_damaged_files_of_a_run(
    finished: Path, data: Manifest, tmp_path: Path, name: str, content: Any, message: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    if isinstance(content, bytes):
        (run / name).write_bytes(content)
    else:
        torch.save(content, run / name)
    with pytest.raises(TrainingError, match=message):
        train(SHORT, data, run)


def test_run_resumes_after_its_data_folder_was_renamed(finished: Path, two_classes: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(two_classes, tmp_path / "renamed")
    data = load_dataset(tmp_path / "renamed")
    assert data.name == "renamed"
    notes: list[str] = []
    moved_flow = replace(SHORT, data=replace(SHORT.data, flow_folder=str(tmp_path / "renamed")))
    train(moved_flow, data, tmp_path / "run", progress=_Collect(notes))
    assert any("from step 2" in note for note in notes)


def test_initial_weights_keep_all_but_a_different_head(
    data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(replace(RECIPE, max_steps=2), data, tmp_path / "first")
    renamed = replace(data, labels=("west", "east"))
    still = replace(
        RECIPE,
        max_steps=1,
        model=replace(RECIPE.model, weights=str(first.last)),
        optimizer=OptimizerConfig(learning_rate=0.0),
        schedule=ScheduleConfig(min_learning_rate=0.0),
    )
    second = train(still, renamed, tmp_path / "second")
    before, after = load_weights(first.last)[0], load_weights(second.last)[0]
    kernel = "trunk.Mixed_3b.Branch_0.Conv3d_0a_1x1.conv.weight"
    assert torch.equal(before[kernel], after[kernel])
    assert not torch.equal(before["head.weight"], after["head.weight"])
    with pytest.raises(TrainingError, match=r"holds i3d_tiny \(rgb\); the recipe asks for i3d \(rgb\)"):
        train(replace(still, model=replace(still.model, name="i3d")), data, tmp_path / "third")


@pytest.mark.slow
def test_flow_stream_trains_and_is_fused_with_rgb(data: Manifest, tmp_path: Path) -> None:
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


@pytest.mark.usefixtures("on_cpu")
def test_mixed_precision_keeps_the_weights_in_float32(data: Manifest, tmp_path: Path) -> None:
    short = replace(RECIPE, max_steps=1, validate_every=1, data=replace(RECIPE.data, batch_size=2))
    full, mixed = (train(replace(short, precision=p), data, tmp_path / p) for p in ("no", "bf16"))
    assert losses(mixed.root)[1] == pytest.approx(losses(full.root)[1], rel=0.1)
    assert losses(mixed.root)[1] != losses(full.root)[1]
    assert {t.dtype for t in load_weights(mixed.last)[0].values()} == {torch.float32}


def test_broken_checkpoint_error_has_advice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoint.write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=r"cannot be read as a checkpoint .*remove it to restart"):
        folder.load_checkpoint()


def test_incomplete_last_line_of_a_log_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [row["step"] for row in run_folder.read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_invalid_recipe_is_rejected() -> None:
    with pytest.raises(TrainingError, match=r"learning-rate 1e-06 is below --schedule.min-learning-rate 1e-05"):
        replace(RECIPE, optimizer=OptimizerConfig(learning_rate=1e-6))
    with pytest.raises(TrainingError, match="--max-steps must be an integer, at least 1; got 0"):
        replace(RECIPE, max_steps=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, where fp16 runs")
def test_fp16_without_a_gpu_is_rejected(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"--precision fp16 needs a CUDA GPU; got the device cpu\. Use --precision no"
    ):
        train(replace(RECIPE, precision="fp16"), data, tmp_path / "run")


def test_frozen_batch_norm_keeps_running_averages(data: Manifest, tmp_path: Path) -> None:
    first = train(replace(RECIPE, max_steps=2), data, tmp_path / "first")
    frozen = replace(RECIPE.model, batch_norm="frozen", weights=str(first.last))
    gentle = OptimizerConfig(learning_rate=1e-4)
    second = train(replace(RECIPE, max_steps=2, model=frozen, optimizer=gentle), data, tmp_path / "second")
    before, after = load_weights(first.last)[0], load_weights(second.last)[0]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert "head.weight" in changed
    assert not any("running" in key for key in changed)


@pytest.mark.slow
@pytest.mark.usefixtures("on_cpu")
def test_multi_step_schedule_and_resume(data: Manifest, tmp_path: Path) -> None:
    changes = ((2, 0.1), (3, 0.01), (5, 1.0))
    steps = replace(RECIPE, schedule=ScheduleConfig(kind="multi-step", changes=changes))
    expected = [0.05, 0.05, 0.005, 0.0005, 0.0005, 0.05]
    whole = train(steps, data, tmp_path / "whole")
    assert [r["learning_rate"] for r in read_log(whole.log) if "loss" in r] == pytest.approx(expected)
    with pytest.raises(KeyboardInterrupt):
        train(steps, data, tmp_path / "parts", progress=_StopAt(5))
    parts = train(steps, data, tmp_path / "parts")
    assert [r["learning_rate"] for r in read_log(parts.log) if "loss" in r] == pytest.approx(expected)
    assert losses(parts.root) == losses(whole.root)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_is_valid(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name
    assert json.loads(json.dumps(recipe.to_dict()))["model"]["name"] in ("i3d", "i3d_tiny")
    assert recipe.for_processes(2).data.accumulate_steps >= 1
    assert (RECIPES[name].__doc__ or "").strip()


@pytest.mark.parametrize("option", ["recompute", pytest.param("compile", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("on_cpu")
def test_recompute_and_compile_do_not_change_losses(option: str, data: Manifest, tmp_path: Path) -> None:
    """The graph is traced as for every compiler; what the C++ one does with it takes minutes."""
    recipe = replace(RECIPE, max_steps=2)
    train(recipe, data, tmp_path / "plain")
    with patch("torch.compile", wraps=partial(torch.compile, backend="eager")) as compiler:
        train(replace(recipe, **{option: True}), data, tmp_path / option)  # type: ignore[arg-type]
    assert compiler.called == (option == "compile")
    assert losses(tmp_path / option) == losses(tmp_path / "plain")
