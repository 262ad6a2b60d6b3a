"""Recipes: what they refuse, the batches of a step, and the schedules of the official README."""

from dataclasses import replace

import pytest
import torch

from quovadis.errors import TrainingError
from quovadis.training.recipes import DataChoice, ModelChoice, Recipe, Schedule, find_recipe, kinetics
from quovadis.training.schedule import RateSchedule

PLAIN = Recipe(name="test", max_steps=10, validate_every=5)


def test_the_effective_batch_decides_how_often_is_accumulated() -> None:
    recipe = kinetics()
    found = {n: recipe.for_processes(n).data for n in (1, 2, 16, 64)}
    assert {n: d.accumulate_steps for n, d in found.items()} == {1: 64, 2: 32, 16: 4, 64: 1}
    assert {d.effective_batch_size for d in found.values()} == {384}
    without = replace(PLAIN, data=DataChoice(batch_size=3, accumulate_steps=2)).for_processes(4).data
    assert (without.accumulate_steps, without.effective_batch_size) == (2, 24)


@pytest.mark.parametrize("processes", [3, 5, 7, 128])
def test_an_effective_batch_that_does_not_divide_is_refused(processes: int) -> None:
    recipe = replace(PLAIN, data=DataChoice(batch_size=5, effective_batch_size=64))
    with pytest.raises(TrainingError, match=rf"64 is no multiple of {5 * processes} \({processes} processes x .* 5\)"):
        recipe.for_processes(processes)


def test_the_effective_batch_and_the_accumulation_are_not_both_given() -> None:
    recipe = replace(PLAIN, data=DataChoice(batch_size=4, effective_batch_size=16, accumulate_steps=2))
    with pytest.raises(TrainingError, match="accumulate-steps 2: the second follows from the first, leave it out"):
        recipe.for_processes(2)


def test_frozen_batch_norm_needs_weights() -> None:
    with pytest.raises(TrainingError, match=r"random weights have none: give --model\.weights"):
        replace(PLAIN, model=ModelChoice(batch_norm="frozen"))
    replace(PLAIN, model=ModelChoice(batch_norm="frozen", weights="a.safetensors"))


def test_changes_of_the_rate_that_cannot_be_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"goes with --schedule\.kind multi-step; got 0 changes and multi-step"):
        replace(PLAIN, schedule=Schedule(kind="multi-step"))
    with pytest.raises(TrainingError, match="got 1 changes and plateau"):
        replace(PLAIN, schedule=Schedule(changes=((5, 0.1),)))
    for steps in ((5, 5), (7, 3), (0, 2)):
        with pytest.raises(TrainingError, match="must rise from 1 on"):
            replace(PLAIN, schedule=Schedule(kind="multi-step", changes=tuple((s, 0.1) for s in steps)))


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
def test_the_schedules_of_the_readme(name: str) -> None:
    recipe, (steps, rates) = find_recipe(name), README[name]
    assert (recipe.max_steps, recipe.data.effective_batch_size, recipe.data.batch_size) == (steps, 384, 6)
    optimizer = torch.optim.SGD([torch.zeros(1)])
    schedule = RateSchedule(recipe, optimizer)
    optimizer.step()  # else PyTorch warns that the schedule goes before it
    state = schedule.state_dict()
    for done, rate in rates.items():
        schedule.load_state_dict({**state, "last_epoch": done - 1})
        schedule.after_step()
        assert schedule.rate == pytest.approx(rate), done
