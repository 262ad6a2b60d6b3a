"""The expected time of a run, and advice on how to make it faster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from quovadis.datasets.load import load_dataset
from quovadis.datasets.preparation import PrepareSettings, prepare
from quovadis.training.loop import _Run, train
from quovadis.training.progress import NullProgress
from quovadis.training.recipes import DataConfig, ModelConfig, Recipe
from quovadis.training.run_folder import read_log
from quovadis.training.speed import speed_notes

CPU = torch.device("cpu")


def notes_of(seconds: float, max_steps: int, *, waiting: float = 0.0, device: str = "cpu", videos: Path) -> list[str]:
    row = {"step": 2, "seconds": seconds, "seconds_waiting": waiting}
    return list(speed_notes(row, max_steps, device=torch.device(device), videos=videos, short_side_px=72))


def test_expected_time_is_that_of_the_remaining_steps(tmp_path: Path) -> None:
    assert notes_of(2.0, 302, videos=tmp_path) == [
        "2 s a step, 300 steps: about 10 minutes on this machine, without validations"
    ]
    assert notes_of(2.0, 2, videos=tmp_path) == []


def test_long_runs_on_a_cpu_name_the_faster_way(tmp_path: Path) -> None:
    assert len(notes_of(1.0, 1_802, videos=tmp_path)) == 1
    assert "quovadis train frozen --data" in notes_of(1.1, 1_802, videos=tmp_path)[1]
    assert len(notes_of(1.1, 1_802, videos=tmp_path, device="cuda")) == 1


def test_slow_decoding_names_the_faster_way(tmp_path: Path, two_classes: Path) -> None:
    assert len(notes_of(1.0, 102, waiting=0.4, videos=tmp_path)) == 1
    advice = notes_of(1.0, 102, waiting=0.75, videos=tmp_path)[1]
    assert advice.startswith('75% of a step is waiting for videos to be decoded; faster: "quovadis prepare DATA')
    assert "--short-side-px 72" in advice
    assert len(notes_of(0.1, 102, waiting=0.075, videos=tmp_path)) == 1, "ten seconds do not matter"
    prepare(load_dataset(two_classes), tmp_path / "prepared", PrepareSettings(short_side_px=72), num_workers=0)
    assert "prepare" not in notes_of(1.0, 102, waiting=0.75, videos=tmp_path / "prepared")[1]


def test_waiting_is_measured_and_the_time_is_reported_once(
    two_classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe(
        name="test",
        max_steps=4,
        validate_every=2,
        model=ModelConfig(name="i3d_tiny", batch_norm_clips=0),
        data=DataConfig(batch_size=2, num_workers=0),
    )
    clock = iter(range(0, 10_000, 1_000))  # seconds; each look at the clock is 1,000 seconds after the last one

    class Clock:
        perf_counter = staticmethod(lambda: next(clock))

    monkeypatch.setattr("quovadis.training.loop.time", Clock)
    notes: list[tuple[int, str]] = []

    class Noting(NullProgress):
        step_number = 0

        def step(self, row: dict[str, Any], max_steps: int) -> None:
            self.step_number = row["step"]

        def note(self, message: str) -> None:
            notes.append((self.step_number, message))

    run = train(replace(recipe, max_steps=2), load_dataset(two_classes), tmp_path)
    rows = [row for row in read_log(run.log) if "loss" in row]
    assert [(row["seconds"], row["seconds_waiting"]) for row in rows] == [(3_000, 1_000)] * 2
    clock = iter(range(0, 100_000, 1_000))
    monkeypatch.setattr(_Run, "_validate", lambda run: {"step": run.done_steps, "val_loss": 1.0, "val_accuracy": 0.0})
    train(replace(recipe, max_steps=8), load_dataset(two_classes), tmp_path, progress=Noting())
    expected = [(number, text) for number, text in notes if "a step" in text]
    assert expected == [(4, "50 minutes a step, 4 steps: about 3.3 hours on this machine, without validations")]
