"""Train a new classifier on frozen features: the setting "Fixed" of Table 4."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR

from quovadis.datasets.clip_dataset import EpochBatchSampler
from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import LogitDump
from quovadis.inference.recognizer import Recognizer
from quovadis.models.video_model import VideoModel
from quovadis.training.frozen_features import Features
from quovadis.training.recipes import CLASSIFIER_LIMITS, check_numbers


@dataclass(frozen=True)
class ClassifierRecipe:
    """Hyperparameters of a classifier on frozen features. The paper does not specify them.

    The learning rate follows a one-cycle schedule. The weights of the validation with the lowest loss are kept.

    Raises:
        TrainingError: If a value is out of range.
    """

    max_steps: int = 3_000
    """Optimizer steps."""
    validate_every: int = 100
    """Steps between validations."""
    batch_size: int = 64
    """Clips per step."""
    learning_rate: float = 0.05
    """Maximum of the one-cycle schedule."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-5
    """Weight decay of all parameters of the classifier."""
    dropout: float = 0.5
    """Fraction of features dropped before the classifier."""
    seed: int = 0
    """Random seed."""

    def __post_init__(self) -> None:
        check_numbers(self, CLASSIFIER_LIMITS)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
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
    """Replace the classifier of a network and train it on precomputed features.

    Args:
        model: The network. Its classifier and labels are replaced; all other weights are unchanged.
        labels: The new classes.
        train: Training features; each clip of each video is a sample.
        val: Validation features, which select the weights.
        recipe: Hyperparameters.
        on_row: Called with the metrics of each step and validation.

    Returns:
        Step, loss and accuracy of the selected weights.

    Raises:
        TrainingError: If the loss is NaN or infinite.
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
    scheduler = OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.max_steps + 1)
    samples = train.values.flatten(0, 1)
    classes = train.targets.repeat_interleave(train.values.shape[1])
    batches = iter(EpochBatchSampler(len(samples), min(recipe.batch_size, len(samples)), seed=recipe.seed))
    report = on_row or (lambda row: None)
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
        scheduler.step()
        accuracy = float((model.video_logits(outputs).argmax(1) == targets).float().mean())
        report({"step": step, "loss": loss.item(), "accuracy": accuracy})
        if step % recipe.validate_every == 0 or step == recipe.max_steps:
            row = {"step": step, **_validate(model, val)}
            report(row)
            if not best or row["val_loss"] < best["val_loss"]:
                best, best_head = row, copy.deepcopy(model.head.state_dict())
    model.head.load_state_dict(best_head)
    model.eval()
    return best


@torch.no_grad()
def classify_features(model: VideoModel, features: Features) -> Tensor:
    """Compute the logits of each readable video, float32 (videos, classes): the mean over its clips."""
    model.eval()
    device = next(model.parameters()).device
    return torch.stack([model.classify(clips.to(device)).float().mean(0).cpu() for clips in features.values])


def score_features(model: VideoModel, features: Features, data: Manifest, split: str, protocol: str) -> LogitDump:
    """Compute the scores of the videos of a split from their features."""
    readable = torch.tensor([not error for error in features.errors])
    logits = torch.full((len(readable), len(data.labels)), torch.nan)
    logits[readable] = classify_features(model, features)
    return LogitDump(
        dataset=data.name,
        data_fingerprint=data.fingerprint,
        split=split,
        models=tuple(Recognizer([model], data.labels).describe_models()),
        protocols=(protocol,),
        labels=data.labels,
        paths=tuple(data.relative(r) for r in features.records),
        errors=features.errors,
        targets=torch.tensor([r.label for r in features.records]),
        logits=logits[None],
    )


def _validate(model: VideoModel, val: Features) -> dict[str, float]:
    logits, targets = classify_features(model, val), val.targets
    return {
        "val_loss": float(F.cross_entropy(logits, targets)),
        "val_accuracy": float((logits.argmax(1) == targets).float().mean()),
    }
