"""How the learning rate moves: by plateaus of the validation loss, by steps, or in one cycle."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from quovadis.training.recipes import Recipe


class LearningRateSchedule:
    """The learning rate of one run.

    It moves by what all processes have alike, the number of steps and the validation loss of all, so the rate is the
    same in all of them.

    Args:
        recipe: says which schedule.
        optimizer: whose rate moves.

    >>> import torch
    >>> from quovadis.training.recipes import kinetics_rgb
    >>> schedule = LearningRateSchedule(kinetics_rgb(), torch.optim.SGD([torch.zeros(1)]))
    >>> schedule.rate, schedule.has_ended
    (0.1, False)
    """

    def __init__(self, recipe: Recipe, optimizer: Optimizer):
        self._choice = choice = recipe.schedule
        self._optimizer = optimizer
        self._scheduler: LambdaLR | OneCycleLR | ReduceLROnPlateau
        rate = recipe.optimizer.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = rate
        if choice.kind == "one-cycle":
            self._scheduler = OneCycleLR(optimizer, rate, total_steps=recipe.max_steps + 1)
        elif choice.kind == "multi-step":
            self._scheduler = LambdaLR(optimizer, lambda done_steps: self._multiple(done_steps))
        else:  # without eps a small rate would stop falling on its own
            self._scheduler = ReduceLROnPlateau(optimizer, factor=choice.factor, patience=choice.patience, eps=0.0)

    @property
    def rate(self) -> float:
        """Of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def has_ended(self) -> bool:
        """Whether plateaus have brought the rate below where the run ends."""
        return self._choice.kind == "plateau" and self.rate < self._choice.min_learning_rate

    def after_step(self) -> None:
        """A step was made."""
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()

    def after_validation(self, loss: float) -> None:
        """A validation was made; ``loss`` is that of all processes together."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """What going on needs."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._scheduler.load_state_dict(state)

    def _multiple(self, done_steps: int) -> float:
        """What the rate is multiplied by after so many steps."""
        return next((factor for step, factor in reversed(self._choice.changes) if step <= done_steps), 1.0)
