"""Recipes: validation, effective batch size, and the schedules of the official README."""

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from quovadis.errors import TrainingError
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.recipes import (
    CLASSIFIER_LIMITS,
    RECIPE_LIMITS,
    RECIPES,
    DataConfig,
    Limits,
    ModelConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    find_recipe,
    kinetics,
)
from quovadis.training.schedule import LearningRateSchedule

PLAIN = Recipe(name="test", max_steps=10, validate_every=5)


def test_accumulation_follows_from_the_effective_batch() -> None:
    recipe = kinetics()
    found = {n: recipe.for_processes(n).data for n in (1, 2, 16, 64)}
    assert {n: d.accumulate_steps for n, d in found.items()} == {1: 64, 2: 32, 16: 4, 64: 1}
    assert {d.effective_batch_size for d in found.values()} == {384}
    without = replace(PLAIN, data=DataConfig(batch_size=3, accumulate_steps=2)).for_processes(4).data
    assert (without.accumulate_steps, without.effective_batch_size) == (2, 24)


@pytest.mark.parametrize("processes", [3, 5, 7, 128])
def test_indivisible_effective_batch_is_rejected(processes: int) -> None:
    recipe = replace(PLAIN, data=DataConfig(batch_size=5, effective_batch_size=64))
    with pytest.raises(TrainingError, match=rf"64 is not a multiple of {5 * processes} \({processes} processes x"):
        recipe.for_processes(processes)


def test_effective_batch_with_accumulation_is_rejected() -> None:
    recipe = replace(PLAIN, data=DataConfig(batch_size=4, effective_batch_size=16, accumulate_steps=2))
    with pytest.raises(TrainingError, match="accumulate-steps 2; omit the second, which is derived from the first"):
        recipe.for_processes(2)


def test_frozen_batch_norm_needs_weights() -> None:
    with pytest.raises(TrainingError, match=r"needs the running averages of trained weights; set --model\.weights"):
        replace(PLAIN, model=ModelConfig(batch_norm="frozen"))
    replace(PLAIN, model=ModelConfig(batch_norm="frozen", weights="a.safetensors"))


def test_invalid_schedule_changes_are_rejected() -> None:
    with pytest.raises(TrainingError, match=r"multi-step needs --schedule\.changes, .*got 0 changes and multi-step"):
        replace(PLAIN, schedule=ScheduleConfig(kind="multi-step"))
    with pytest.raises(TrainingError, match="got 1 changes and plateau"):
        replace(PLAIN, schedule=ScheduleConfig(changes=((5, 0.1),)))
    for steps in ((5, 5), (7, 3), (0, 2)):
        with pytest.raises(TrainingError, match="must be increasing and at least 1"):
            replace(PLAIN, schedule=ScheduleConfig(kind="multi-step", changes=tuple((s, 0.1) for s in steps)))


README = {
    "kinetics_rgb": (115_000, {0: 0.1, 96_999: 0.1, 97_000: 0.01, 107_999: 0.01, 108_000: 0.001, 114_999: 0.001}),
    "kinetics_flow": (
        155_000,
        {
            0: 0.1,
            96_999: 0.1,
            97_000: 0.01,
            104_499: 0.01,
            104_500: 0.001,
            114_999: 0.001,
            115_000: 0.1,
            139_999: 0.1,
            140_000: 0.01,
            149_999: 0.01,
            150_000: 0.001,
            154_999: 0.001,
        },
    ),
}
"""Steps, and the rate after so many of them (FACTS 5.2)."""


@pytest.mark.parametrize("name", README)
def test_schedules_match_the_official_readme(name: str) -> None:
    recipe, (steps, rates) = find_recipe(name), README[name]
    assert (recipe.max_steps, recipe.data.effective_batch_size, recipe.data.batch_size) == (steps, 384, 6)
    optimizer = torch.optim.SGD([torch.zeros(1)])
    schedule = LearningRateSchedule(recipe, optimizer)
    optimizer.step()  # else PyTorch warns that the schedule goes before it
    state = schedule.state_dict()
    for done, rate in rates.items():
        schedule.load_state_dict({**state, "last_epoch": done - 1})
        schedule.after_step()
        assert schedule.rate == pytest.approx(rate), done


def numeric_fields(recipe: Any, prefix: str = "") -> set[str]:
    """Dotted names of all fields that hold a number or None for one."""
    found = set()
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if is_dataclass(value):
            found |= numeric_fields(value, f"{prefix}{field.name}.")
        elif {"int", "float"} & set(str(getattr(field.type, "__name__", field.type)).replace("|", " ").split()):
            found.add(prefix + field.name)
    return found


def with_field(recipe: Any, name: str, value: object) -> Any:
    first, _, rest = name.partition(".")
    return replace(recipe, **{first: with_field(getattr(recipe, first), rest, value) if rest else value})


@pytest.mark.parametrize(("recipe", "limits"), [(PLAIN, RECIPE_LIMITS), (ClassifierRecipe(), CLASSIFIER_LIMITS)])
def test_every_numeric_field_is_checked(recipe: Any, limits: dict[str, Limits]) -> None:
    assert set(limits) == numeric_fields(recipe)
    for name, limit in limits.items():
        for value in (limit.minimum - 1, limit.maximum + 1, float("nan"), float("inf"), -float("inf"), "1", True):
            option = "--" + name.replace("_", "-")
            with pytest.raises(TrainingError, match=rf"{option} must be an? \w+, (at least|above) .*; got "):
                with_field(recipe, name, value)
    with pytest.raises(TrainingError, match=r"--data\.batch-size must be an integer, at least 1; got 0"):
        replace(PLAIN, data=DataConfig(batch_size=0))
    with pytest.raises(TrainingError, match=r"--max-steps must be an integer, at least 1; got 2\.5"):
        replace(PLAIN, max_steps=2.5)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=r"multiples in --schedule\.changes must be finite and at least 0; got nan"):
        replace(PLAIN, schedule=ScheduleConfig(kind="multi-step", changes=((5, float("nan")),)))


def test_only_short_runs_recompute_batch_norm_by_default() -> None:
    found = {name: find_recipe(name).for_processes(1).model.batch_norm_clips for name in RECIPES}
    long = dict.fromkeys(("kinetics", "kinetics_rgb", "kinetics_flow", "scratch"), 0)
    assert found == {**long, "finetune": 256, "tiny": 256}
    frozen = ModelConfig(batch_norm="frozen", weights="a.safetensors", batch_norm_clips=9)
    assert replace(PLAIN, model=frozen).for_processes(1).model.batch_norm_clips == 0
    assert replace(PLAIN, model=ModelConfig(batch_norm_clips=7)).for_processes(2).model.batch_norm_clips == 7


def test_plateau_reduces_the_rate_after_patience() -> None:
    """The first validation sets the mark; then ``patience`` ones are let pass and the next one multiplies the rate."""
    choice = ScheduleConfig(patience=2, factor=0.25, min_learning_rate=0.01)
    recipe = replace(PLAIN, optimizer=OptimizerConfig(learning_rate=0.5), schedule=choice)
    schedule = LearningRateSchedule(recipe, torch.optim.SGD([torch.zeros(1)]))
    rates = []
    for _ in range(8):
        schedule.after_validation(1.0)
        rates.append(schedule.rate)
    assert rates == [0.5, 0.5, 0.5, 0.125, 0.125, 0.125, 0.03125, 0.03125]
    assert not schedule.has_ended
    schedule.after_validation(1.0)
    schedule.after_validation(1.0)
    assert schedule.rate == 0.0078125
    assert schedule.has_ended
    state = json.loads(json.dumps(schedule.state_dict()))
    assert state["patience"] == 2
