"""A new classifier on frozen features: the setting "Fixed" of Table 4."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from quovadis.datasets.clip_dataset import EpochBatches
from quovadis.errors import TrainingError
from quovadis.models.video_model import VideoModel
from quovadis.training.frozen_features import Features
from quovadis.training.recipes import CLASSIFIER_LIMITS, check_numbers


@dataclass(frozen=True)
class ClassifierRecipe:
    """How a classifier is trained on frozen features. The paper says nothing of it, so all of this is our choice.

    The rate rises over the first third of the steps and falls to nothing by the last; of the weights at each
    validation, those with the lowest loss are kept.

    Raises:
        TrainingError: values that cannot make a run.
    """

    max_steps: int = 3_000
    """Optimizer steps."""
    validate_every: int = 100
    """Steps between validations."""
    batch_size: int = 64
    """Clips a step."""
    learning_rate: float = 0.05
    """The highest."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-5
    """On every parameter of the classifier."""
    dropout: float = 0.5
    """Share of features dropped before the classifier."""
    seed: int = 0
    """Of the first weights and of every random choice."""

    def __post_init__(self) -> None:
        check_numbers(self, CLASSIFIER_LIMITS)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def train_classifier(
    model: VideoModel,
    labels: tuple[str, ...],
    train: Features,
    val: Features,
    recipe: ClassifierRecipe,
    *,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Give a network a new classifier and train only that, on features that were computed before.

    Args:
        model: is changed; the rest of it stays as it is, to the bit.
        labels: the new classes.
        train: what to learn from; each clip of each video is a sample.
        val: what chooses the weights.
        recipe: see there.
        on_row: called with each step's and each validation's figures.

    Returns:
        Step, loss and accuracy of the weights that were chosen.

    Raises:
        TrainingError: the loss is no number.
    """
    device = next(model.parameters()).device
    torch.manual_seed(recipe.seed)
    model.reset_head(len(labels))
    model.labels = labels
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = recipe.dropout
    optimizer = torch.optim.SGD(
        model.head.parameters(), recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    rate = OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.max_steps + 1)
    samples = train.values.flatten(0, 1)
    classes = train.targets.repeat_interleave(train.values.shape[1])
    batches = iter(EpochBatches(len(samples), min(recipe.batch_size, len(samples)), seed=recipe.seed))
    best: dict[str, Any] = {}
    best_head = copy.deepcopy(model.head.state_dict())
    for step in range(1, recipe.max_steps + 1):
        chosen = torch.tensor([index for _, index in next(batches)])
        model.train()
        targets = classes[chosen].to(device)
        outputs = model.classify(samples[chosen].to(device))
        loss = model.loss(outputs, targets)
        if not torch.isfinite(loss):
            raise TrainingError(f"the classifier's loss is {loss.item()} at step {step}: use a smaller learning rate")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        right = float((model.answer(outputs).argmax(1) == targets).float().mean())
        _tell(on_row, {"step": step, "loss": loss.item(), "accuracy": right})
        if step % recipe.validate_every == 0 or step == recipe.max_steps:
            row = {"step": step, **_validate(model, val)}
            _tell(on_row, row)
            if not best or row["val_loss"] < best["val_loss"]:
                best, best_head = row, copy.deepcopy(model.head.state_dict())
    model.head.load_state_dict(best_head)
    model.eval()
    return best


@torch.no_grad()
def classify_features(model: VideoModel, features: Features) -> Tensor:
    """Logits of each readable video, float32 (videos, classes): the mean over its clips, as in measuring."""
    model.eval()
    device = next(model.parameters()).device
    return torch.stack([model.classify(clips.to(device)).float().mean(0).cpu() for clips in features.values])


def _validate(model: VideoModel, val: Features) -> dict[str, float]:
    logits, targets = classify_features(model, val), val.targets
    return {
        "val_loss": float(F.cross_entropy(logits, targets)),
        "val_accuracy": float((logits.argmax(1) == targets).float().mean()),
    }


def _tell(on_row: Callable[[dict[str, Any]], None] | None, row: dict[str, Any]) -> None:
    if on_row is not None:
        on_row(row)
