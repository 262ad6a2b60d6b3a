"""Learning rate schedules: plateau, multi-step and one-cycle."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from quovadis.training.recipes import Recipe


class LearningRateSchedule:
    """The learning rate schedule of a recipe, equal in all processes of a run.

    Args:
        recipe: The recipe.
        optimizer: The optimizer whose learning rate is set.

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
        else:  # eps=0: also reduce very small rates
            self._scheduler = ReduceLROnPlateau(optimizer, factor=choice.factor, patience=choice.patience, eps=0.0)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def has_ended(self) -> bool:
        """Whether the plateau schedule has fallen below its minimum, which completes the run."""
        return self._choice.kind == "plateau" and self.rate < self._choice.min_learning_rate

    def after_step(self) -> None:
        """Step a schedule that depends on the number of steps."""
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()

    def after_validation(self, loss: float) -> None:
        """Step the plateau schedule with the validation loss of all processes."""
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(loss)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._scheduler.load_state_dict(state)

    def _multiple(self, done_steps: int) -> float:
        """Return the factor of the learning rate after a number of steps."""
        return next((factor for step, factor in reversed(self._choice.changes) if step <= done_steps), 1.0)
