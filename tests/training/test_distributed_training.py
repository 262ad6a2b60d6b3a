"""Training and evaluation in two processes compared with one."""

import json
import re
import signal
import time
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import Tensor

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import OtherProcessError, TrainingError
from quovadis.evaluation.dump import read_dump
from quovadis.evaluation.evaluator import evaluate_streams
from quovadis.inference.recognizer import Recognizer
from quovadis.models.batch_norm import BatchStatistics
from quovadis.models.layers import choose_batch_norm
from quovadis.models.safe_convolution import BF16_TOLERANCE, bf16_error
from quovadis.models.zoo import build_model
from quovadis.paper.transfer_settings import TransferRecipes, transfer
from quovadis.runtime import distributed
from quovadis.training.build import average_gradients
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.experiment import SCORES
from quovadis.training.loop import step_seed, train
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe, find_recipe
from quovadis.training.run_folder import RunFolder, read_log
from quovadis.transforms import to_model
from quovadis.weights.files import load_weights
from tests.launch import launch, torchrun
from tests.models.settled import settled
from tests.training.precision import float64

pytestmark = pytest.mark.slow

NETWORKS: list[tuple[str, BatchStatistics]] = [
    ("i3d_tiny", "synchronized"),
    ("i3d_tiny", "frozen"),
    ("convnet_lstm_tiny", "synchronized"),
]
RECIPE = Recipe(
    name="test",
    max_steps=4,
    validate_every=2,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.5, dropout=0.0, batch_norm="synchronized"),
    optimizer=OptimizerConfig(learning_rate=0.01),
    data=DataConfig(batch_size=2, num_workers=0),
)
CLI = "--max-steps 6 --validate-every 2 --data.batch-size 2 --data.num-workers 0 --model.batch-norm synchronized"
CLI += " --optimizer.learning-rate 0.001"
"""A short run of the recipe tiny."""


def gradients(name: str, statistics: BatchStatistics) -> dict[str, Tensor]:
    """Of this process's part of a batch of 8, averaged over the processes; and the running averages. In float64."""
    torch.manual_seed(0)
    model = settled(build_model(name, num_classes=3, dropout=0.0)).double().train()
    choose_batch_norm(model, statistics, 0.25)
    generator = torch.Generator().manual_seed(1)
    stream, frames = model.spec.streams[0], model.spec.min_frames + 2
    x = torch.randn(8, stream.channels, frames, 64, 64, generator=generator).double()
    labels = torch.arange(8) % 3
    own = slice(
        distributed.rank() * 8 // distributed.world_size(), (distributed.rank() + 1) * 8 // distributed.world_size()
    )
    exchanging = average_gradients(model, torch.device("cpu"))  # to be kept as long as gradients are exchanged
    model.loss(exchanging(x[own]), labels[own]).backward()
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return found | dict(model.named_buffers())


def measure(root: Path, broken: Path) -> list[dict[str, Any]]:
    """Two random models and both together on seven videos, of which one is none."""
    data = load_dataset(root)
    data = replace(data, records=(*data.records, VideoRecord(broken, 1, "test")))
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(settled(build_model("i3d_tiny", num_classes=2)))
    return [r.to_dict() for r in evaluate_streams(Recognizer(models, ("left", "right")), data, num_workers=0)]


def transferred(source: Path, data: Manifest, out: Path) -> dict[str, Any]:
    """What transfer leaves."""
    recipes = TransferRecipes(fixed=ClassifierRecipe(max_steps=5, validate_every=5, batch_size=4))
    row = transfer([source], [data], out, settings=["fixed"], recipes=recipes)[0]
    features = sorted(path.name for path in (out / "features").glob("*/*/*.safetensors"))
    scores = read_dump(row.folders[0] / SCORES)
    return {**row.to_dict(), "features": features, "logits": scores.logits.tolist()}


class Noting(NullProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[int] = []

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        self.steps.append(row["step"])

    def note(self, message: str) -> None:
        self.notes.append(message)


def work(data_root: str, out: str) -> None:
    """What the two processes of the fixture do."""
    root, folder = Path(data_root), Path(out)
    data, rank = load_dataset(root), distributed.rank()
    with distributed.process_group():
        grads = {f"{name} {kind}": gradients(name, kind) for name, kind in NETWORKS}
        torch.save(grads, folder / f"gradients{rank}.pt")
        figures = measure(root, folder / "broken.mp4")
        (folder / f"figures{rank}.json").write_text(json.dumps(figures))
        noting = Noting()
        with float64():
            train(RECIPE, data, folder / "synchronized", progress=noting)
            train(replace(RECIPE, max_steps=2), data, folder / "half")
            own_statistics = replace(RECIPE.model, batch_norm="per-process", batch_norm_clips=0)
            per_process = replace(RECIPE, max_steps=2, model=own_statistics)
            train(per_process, data, folder / "per-process")
            (folder / f"seed{rank}").write_text(str(torch.initial_seed()))
        assert noting.steps == ([1, 2, 3, 4] if rank == 0 else [])
        train(replace(per_process, max_steps=1, validate_every=1), data, folder / "first")
        transferred(folder / "first", data, folder / "transfer")
        if bf16_error() < BF16_TOLERANCE:
            train(replace(RECIPE, max_steps=1, validate_every=1, precision="bf16"), data, folder / "bf16")
        fewer = replace(data, records=[r for r in data.records if r != data.split("train")[0]])
        try:
            train(RECIPE, fewer if rank else data, folder / "other")
        except TrainingError as error:
            (folder / "refused.txt").write_text(str(error))
        except OtherProcessError:
            pass
    distributed.shutdown()


@pytest.fixture(scope="module")
def two(two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "broken.mp4").write_text("no video")
    script = f"""
from quovadis.runtime import distributed
from tests.training.test_distributed_training import work
distributed.initialize()
work({str(two_classes)!r}, {str(folder)!r})
"""
    for ended in launch(script, 2):
        assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    return folder


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    return load_dataset(two_classes)


def losses(root: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(root / "log.jsonl") if "loss" in row}


def val_losses(root: Path) -> dict[int, float]:
    return {row["step"]: row["val_loss"] for row in read_log(root / "log.jsonl") if "val_loss" in row}


def test_transfer_in_two_processes_equals_one(two: Path, data: Manifest, tmp_path: Path) -> None:
    both = transferred(two / "first", data, two / "transfer")  # it is done: nothing is computed here
    alone = transferred(two / "first", data, tmp_path)
    assert both == alone
    assert len(both["features"]) > 3
    assert len(list((two / "transfer").rglob("scores.npz"))) == 1


@pytest.mark.parametrize(("name", "statistics"), NETWORKS)
def test_gradients_of_two_processes_equal_one(two: Path, name: str, statistics: BatchStatistics) -> None:
    alone = gradients(name, statistics)
    for rank in range(2):
        together = torch.load(two / f"gradients{rank}.pt")[f"{name} {statistics}"]
        assert together.keys() == alone.keys()
        for key, expected in alone.items():
            scale = float(expected.abs().max()) + 1e-6
            torch.testing.assert_close(
                together[key], expected, atol=1e-9 * scale, rtol=1e-9, msg=lambda m, k=key: k + m
            )


def test_metrics_of_two_processes_equal_one(two: Path, two_classes: Path) -> None:
    """To the last bit: top-1, top-5, loss, the probabilities of every video, and which one was unreadable."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = measure(two_classes, two / "broken.mp4")
    finally:
        torch.set_num_threads(threads)
    assert [result["num_unreadable"] for result in alone] == [1, 1, 1]
    for rank in range(2):
        assert json.loads((two / f"figures{rank}.json").read_text()) == json.loads(json.dumps(alone))


def test_two_processes_train_like_one_with_the_joint_batch(two: Path, data: Manifest, tmp_path: Path) -> None:
    with float64():
        one = train(replace(RECIPE, data=replace(RECIPE.data, batch_size=4)), data, tmp_path)
    assert losses(two / "synchronized") == pytest.approx(losses(one.root), rel=1e-6)
    assert val_losses(two / "synchronized") == pytest.approx(val_losses(one.root), rel=1e-6)
    rows = [list(read_log(root / "log.jsonl")) for root in (two / "synchronized", one.root)]
    assert [r.get("accuracy") for r in rows[0]] == [r.get("accuracy") for r in rows[1]]
    together, alone = (load_weights(RunFolder(root).last)[0] for root in (two / "synchronized", one.root))
    for key in alone:
        torch.testing.assert_close(together[key], alone[key], atol=1e-7, rtol=1e-6)


def test_number_of_processes_may_change_with_equal_effective_batch(two: Path, data: Manifest, tmp_path: Path) -> None:
    """Two steps in two processes, then two in one: with the whole batch at once, or in parts."""
    with pytest.raises(TrainingError, match=r"differs in data.effective_batch_size \(4 there, 2 here\)"):
        train(RECIPE, data, two / "half")
    noting = Noting()
    whole = replace(RECIPE, data=replace(RECIPE.data, batch_size=4))
    with float64():
        train(whole, data, two / "half", progress=noting)
    assert noting.steps == [3, 4]
    assert not any("batch norm now normalizes" in note for note in noting.notes)
    assert losses(two / "half") == pytest.approx(losses(two / "synchronized"), rel=1e-6)
    in_parts = replace(RECIPE, max_steps=5, data=replace(RECIPE.data, effective_batch_size=4))
    train(in_parts, data, two / "half", progress=noting)
    assert any("batch norm now normalizes 2 clips together, before it was 4" in note for note in noting.notes)


def test_per_process_statistics_depend_on_the_batch_only(two: Path, data: Manifest, tmp_path: Path) -> None:
    """Two processes with one batch each take the steps of one with two batches."""
    model = replace(RECIPE.model, batch_norm="per-process", batch_norm_clips=0)
    parts = replace(RECIPE, max_steps=2, model=model, data=replace(RECIPE.data, accumulate_steps=2))
    with float64():
        one = train(parts, data, tmp_path)
    assert losses(two / "per-process") == pytest.approx(losses(one.root), rel=1e-6)
    assert losses(two / "per-process")[1] != pytest.approx(losses(two / "synchronized")[1], rel=1e-6)


def test_dropout_seed_differs_between_processes_and_steps(two: Path) -> None:
    found = [int((two / f"seed{rank}").read_text()) for rank in range(2)]
    assert found == [step_seed(RECIPE.seed, 2, rank) for rank in range(2)]
    assert found[0] != found[1]


def test_saved_running_averages_are_the_mean_over_processes(two: Path, data: Manifest) -> None:
    """After one step, by hand: each batch of four gives its own statistics, half of which goes into the averages."""
    torch.manual_seed(RECIPE.seed)
    model = build_model("i3d_tiny", num_classes=2, dropout=0.0)
    choose_batch_norm(model, "per-process", 0.5)
    clips = ClipDataset(data.split("train"), model.spec, seed=RECIPE.seed)
    averages = []
    for batch in islice(EpochBatchSampler(len(clips), 2, seed=RECIPE.seed), 2):
        own = deepcopy(model)
        own(to_model(torch.stack([clips[key]["streams"][0] for key in batch])))
        averages.append(dict(own.named_buffers()))
    saved = load_weights(RunFolder(two / "first").last)[0]
    for key in averages[0]:
        assert not torch.allclose(averages[0][key], averages[1][key])
        torch.testing.assert_close(saved[key], (averages[0][key] + averages[1][key]) / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(bf16_error() >= BF16_TOLERANCE, reason="this CPU computes wrong gradients in bfloat16")
def test_mixed_precision_in_two_processes(two: Path) -> None:
    exact, mixed = losses(two / "synchronized")[1], losses(two / "bf16")[1]
    assert mixed == pytest.approx(exact, rel=0.1)
    assert mixed != exact
    assert {t.dtype for t in load_weights(RunFolder(two / "bf16").last)[0].values()} == {torch.float32}


def test_processes_with_different_data_are_rejected(two: Path) -> None:
    text = (two / "refused.txt").read_text()
    assert re.match(r"the processes have different data: 12 \+ 4 videos of \w+, 11 \+ 4 videos of \w+; give", text)


def test_run_with_a_killed_process_can_be_resumed(two_classes: Path, tmp_path: Path) -> None:
    """The launcher ends the other one; the same command again makes the steps of a run that nothing stopped."""
    killed = tmp_path / "killed"
    command = ["train", "tiny", "--data", str(two_classes), "--out", str(killed), *CLI.split()]
    run = torchrun(command, 2)
    deadline = time.monotonic() + 120
    while len(losses(killed)) < 3:  # past the checkpoint of step 2
        assert time.monotonic() < deadline
        assert run.poll() is None, run.stdout.read() if run.stdout else ""
        time.sleep(0.005)
    workers = {p.environ()["RANK"]: p for p in psutil.Process(run.pid).children() if "RANK" in p.environ()}
    workers["1"].send_signal(signal.SIGKILL)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert not any(p.is_running() for p in workers.values())
    again = torchrun(command, 2)
    output = again.communicate(timeout=120)[0]
    assert again.returncode == 0, output
    assert output.count("from step") == 1, "only the main process prints"
    tiny = find_recipe("tiny")
    recipe = replace(
        tiny,
        max_steps=6,
        validate_every=2,
        model=replace(tiny.model, batch_norm="synchronized"),
        optimizer=replace(tiny.optimizer, learning_rate=0.001),
        data=replace(tiny.data, batch_size=2, num_workers=0),
    )
    script = f"""
from quovadis.training.loop import train
from quovadis.datasets.load import load_dataset
from quovadis.training.recipes import *
train({recipe!r}, load_dataset({str(two_classes)!r}), {str(tmp_path / "whole")!r})
"""
    assert [ended.stderr for ended in launch(script, 2)] == ["", ""]
    assert losses(killed) == losses(tmp_path / "whole")
    assert val_losses(killed) == val_losses(tmp_path / "whole")
    assert list(losses(killed)) == list(range(1, 7))
