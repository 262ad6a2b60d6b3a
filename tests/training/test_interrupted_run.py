"""An interrupted run saves a checkpoint, and then makes the same steps as an uninterrupted run."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.errors import JobError
from quovadis.runtime import interrupts
from quovadis.training.loop import train
from quovadis.training.precision import Precision
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import DataConfig, ModelConfig, OptimizerConfig, Recipe
from quovadis.training.run_folder import RunFolder, read_log
from quovadis.weights.files import load_weights
from tests.launch import Ended, launch

pytestmark = pytest.mark.usefixtures("on_cpu", "_ctrl_c_raises")

RECIPE = Recipe(
    name="test",
    max_steps=6,
    validate_every=2,
    model=ModelConfig(name="i3d_tiny", batch_norm_momentum=0.1, batch_norm_clips=4),
    optimizer=OptimizerConfig(learning_rate=0.05),
    data=DataConfig(batch_size=2, num_workers=0),
)


@pytest.fixture
def _ctrl_c_raises() -> Iterator[None]:
    """Background shells ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def data(two_classes: Path) -> Manifest:
    return load_dataset(two_classes)


@pytest.fixture(scope="module")
def whole(two_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quovadis.training.precision._device", lambda: torch.device("cpu"))
        return train(RECIPE, load_dataset(two_classes), tmp_path_factory.mktemp("whole"))


class At(NullProgress):
    """Calls a function at one place of a run, the first time it gets there."""

    def __init__(self, place: str, function: Callable[[], None]):
        self.place, self.function = place, function
        self.notes: list[str] = []

    def reach(self, place: str) -> None:
        if place == self.place:
            self.place = ""
            self.function()

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        self.reach(f"step {row['step']}")

    def validation(self, row: dict[str, Any]) -> None:
        self.reach(f"validated {row['step']}")

    def count(self, description: str, done: int, total: int) -> None:
        self.reach(description)

    def note(self, message: str) -> None:
        self.notes.append(message)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def metrics(folder: RunFolder) -> list[dict[str, Any]]:
    times = {"seconds", "seconds_waiting", "clips_per_second"}
    return [{key: value for key, value in row.items() if key not in times} for row in read_log(folder.log)]


def assert_equal_runs(a: RunFolder, b: RunFolder) -> None:
    assert metrics(a) == metrics(b)
    for file in ("best.safetensors", "last.safetensors"):
        ours, theirs = (load_weights(run.root / file) for run in (a, b))
        assert ours[1].source["step"] == theirs[1].source["step"]
        assert ours[0].keys() == theirs[0].keys()
        assert all(torch.equal(ours[0][key], theirs[0][key]) for key in ours[0])
    momenta = [run.load_checkpoint()["optimizer"]["state"] for run in (a, b)]
    assert all(torch.equal(momenta[0][i]["momentum_buffer"], momenta[1][i]["momentum_buffer"]) for i in momenta[0])


@pytest.mark.parametrize(
    ("place", "stopped_after"),
    [
        ("step 1", 1),  # nothing was validated yet
        pytest.param("step 3", 3, marks=pytest.mark.slow),
        pytest.param("step 4", 4, marks=pytest.mark.slow),  # before the validation
        ("batch norm statistics", 2),
        ("validation", 2),
        ("validated 4", 4),
        pytest.param("step 6", 6, marks=pytest.mark.slow),
    ],
)
def test_run_interrupted_anywhere_resumes_with_the_same_steps(
    place: str, stopped_after: int, whole: RunFolder, data: Manifest, tmp_path: Path
) -> None:
    message = f"stopped after step {stopped_after} of 6; run the same command again to continue"
    with pytest.raises(KeyboardInterrupt, match=f"^{message}$"):
        train(RECIPE, data, tmp_path, progress=At(place, interrupt))
    run = RunFolder(tmp_path)
    assert run.load_checkpoint()["step"] == stopped_after
    assert run.best.exists() == (stopped_after > 2 or place == "validated 2")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


def test_step_is_finished_and_announced(
    whole: RunFolder, data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = At("backward 3", interrupt)
    call_in_backward(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 6"):
        train(RECIPE, data, tmp_path, progress=at)
    assert "finishing step 3, then saving; press Ctrl-C again to stop at once" in at.notes
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


def test_weights_files_are_those_of_the_last_validation(data: Manifest, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, data, tmp_path, progress=At("step 3", interrupt))
    run = RunFolder(tmp_path)
    assert load_weights(run.last)[1].source["step"] == 2
    name = "trunk.Mixed_5c.Branch_0.Conv3d_0a_1x1.conv.weight"
    assert not torch.equal(load_weights(run.last)[0][name], run.load_checkpoint()["model"][name])


def test_second_interrupt_stops_at_once(
    whole: RunFolder, data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt_twice() -> None:
        interrupt()
        interrupt()

    at = At("backward 4", interrupt_twice)
    call_in_backward(monkeypatch, at)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        train(RECIPE, data, tmp_path, progress=at)
    assert RunFolder(tmp_path).load_checkpoint()["step"] == 2
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


def call_in_backward(monkeypatch: pytest.MonkeyPatch, at: At) -> None:
    """Call the function of ``at`` in the middle of the step of its place."""
    backward, calls = Precision.backward, iter(range(1, 100))

    def called(self: Precision, loss: torch.Tensor) -> None:
        at.reach(f"backward {next(calls)}")
        backward(self, loss)

    monkeypatch.setattr(Precision, "backward", called)


def test_run_in_another_thread_stops_with_the_command(whole: RunFolder, data: Manifest, tmp_path: Path) -> None:
    raised: list[BaseException] = []

    def work() -> None:
        try:
            train(RECIPE, data, tmp_path, progress=At("step 3", lambda: set_received(signal.SIGTERM)))
        except KeyboardInterrupt as error:
            raised.append(error)

    def set_received(number: int | None) -> None:
        interrupts._received = number  # as the handler in the main thread does

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    set_received(None)
    assert [str(error).partition(";")[0] for error in raised] == ["stopped after step 3 of 6"]
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


def test_lost_workers_after_a_signal_do_not_lose_the_run(
    whole: RunFolder, data: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service manager signals all processes, so that the next batch never arrives."""
    from quovadis.training.loop import _Run

    ask, calls = _Run._next_batch, iter(range(1, 100))

    class Lost:
        def __next__(self) -> dict[str, Any]:
            interrupt()
            raise JobError("a data-loading worker was lost")

    def next_batch(self: _Run, batches: Any, **options: Any) -> dict[str, Any]:
        return ask(self, Lost() if next(calls) == 4 else batches, **options)

    monkeypatch.setattr(_Run, "_next_batch", next_batch)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3 of 6"):
        train(RECIPE, data, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("quovadis.training.precision._device", lambda: torch.device("cpu"))
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


def test_checkpoint_without_the_step_of_the_validation_resumes(
    whole: RunFolder, data: Manifest, tmp_path: Path
) -> None:
    """Written by an earlier version, after a validation."""
    train(replace(RECIPE, max_steps=2), data, tmp_path)
    run = RunFolder(tmp_path)
    state = run.load_checkpoint()
    del state["validated_step"], state["buffers"]
    run.save_checkpoint(state)
    assert_equal_runs(train(RECIPE, data, tmp_path), whole)


_DISTRIBUTED = """
import signal
import torch
from dataclasses import replace
from quovadis.datasets.load import load_dataset
from quovadis.runtime import distributed
from quovadis.training.loop import train
from quovadis.training.precision import Precision
from tests.training.test_interrupted_run import RECIPE
signal.signal(signal.SIGINT, signal.default_int_handler)
recipe = replace(RECIPE, model=replace(RECIPE.model, batch_norm_clips=0), data=replace(RECIPE.data, batch_size=1))
distributed.initialize()
backward, calls = Precision.backward, iter(range(1, 100))
def called(self, loss):
    if next(calls) == {interrupted_step} and distributed.rank() == 1:
        signal.raise_signal(signal.SIGINT)
    backward(self, loss)
Precision.backward = called
try:
    train(recipe, load_dataset({data!r}), {out!r})
except KeyboardInterrupt as error:
    print(error)
else:
    distributed.shutdown()
"""


@pytest.mark.slow
def test_all_processes_stop_after_the_same_step(two_classes: Path, tmp_path: Path) -> None:
    """Only one process is interrupted; the running averages of both are kept."""

    def start(out: str, interrupted_step: int = 0) -> list[Ended]:
        script = _DISTRIBUTED.format(data=str(two_classes), out=str(tmp_path / out), interrupted_step=interrupted_step)
        return launch(script, 2)

    complete = [Ended(0, "", "")] * 2
    assert start("whole") == complete
    stopped = start("parts", 3)
    assert any("stopped after step 3 of 6" in ended.stdout for ended in stopped), stopped
    assert RunFolder(tmp_path / "parts").load_checkpoint()["step"] == 3
    assert start("parts") == complete
    assert_equal_runs(RunFolder(tmp_path / "parts"), RunFolder(tmp_path / "whole"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_command_with_workers_saves_on_a_signal_to_all_processes(name: str, two_classes: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quovadis", "train", "tiny", "--data", str(two_classes), "--max-steps", "400"]
    command += ["--validate-every", "400", "--data.batch-size", "2", "--out", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True, text=True)
    deadline = time.monotonic() + 200
    run = RunFolder(tmp_path)
    while not run.log.exists() or len(list(read_log(run.log))) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, getattr(signal, name))
    errors = process.communicate(timeout=100)[1]
    step = run.load_checkpoint()["step"]
    assert process.returncode == 128 + getattr(signal, name), errors
    assert step >= 3
    assert errors.endswith(f"stopped after step {step} of 400; run the same command again to continue\n")
    assert [row["step"] for row in read_log(run.log)] == list(range(1, step + 1))
