"""L2-regularized multinomial logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, TrainingError
from quovadis.models.video_model import VideoModel
from quovadis.training.classifier import classify_features
from quovadis.training.frozen_features import Features

L2_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


@dataclass(frozen=True)
class LogisticFit:
    """The selected classifier."""

    l2: float
    """Strength of the penalty, see :func:`fit_logistic`."""
    val_loss: float
    """Mean cross-entropy on the validation videos."""
    val_accuracy: float
    """Top-1 accuracy on the validation videos, in [0, 1]."""


def fit_logistic(features: Tensor, targets: Tensor, num_classes: int, *, l2: float) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression.

    Minimizes the sum of cross-entropies plus ``l2 / 2`` times the squared norm of the weights, with L-BFGS in float64.
    The bias is not penalized. The fit uses features standardized by the mean and standard deviation of the samples; the
    returned weights apply to the original features. ``l2`` corresponds to 1 / C in scikit-learn.

    Args:
        features: float (N, D).
        targets: int64 (N,), each class at least once.
        num_classes: Number of classes, at least 2.
        l2: Strength of the penalty, above 0.

    Returns:
        Weights float64 (num_classes, D) and biases float64 (num_classes,).

    Raises:
        InvalidInputError: If a class has no sample, or a feature is not finite.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [4.0], [5.0]])
        >>> weight, bias = fit_logistic(x, torch.tensor([0, 0, 1, 1]), 2, l2=1.0)
        >>> (x.double() @ weight.T + bias).argmax(1).tolist()
        [0, 0, 1, 1]
    """
    missing = sorted(set(range(num_classes)) - set(targets.tolist()))
    if num_classes < 2 or missing:
        raise InvalidInputError(
            f"logistic regression needs at least two classes and a sample of each; got {num_classes} classes, none of "
            f"class {missing}"
        )
    if not features.isfinite().all():
        raise InvalidInputError("the features contain NaN or infinite values; check the weights of the network")
    x = features.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    std = torch.where(std > 1e-12, std, 1.0)  # no division by zero for constant features
    x = (x - mean) / std
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        tolerance_grad=1e-7 * len(x),
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, targets, reduction="sum") + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    scaled = weight.detach() / std
    return scaled, bias.detach() - scaled @ mean


def fit_head(
    model: VideoModel, labels: Sequence[str], train: Features, val: Features, strengths: Sequence[float] = L2_STRENGTHS
) -> LogisticFit:
    """Replace the classifier of a network by a logistic regression on precomputed features.

    The strength of the penalty with the lowest validation loss is chosen.

    Args:
        model: A network whose classifier is one linear layer, such as I3D. Its head and labels are replaced.
        labels: The new classes.
        train: Training features; each clip of each readable video is a sample.
        val: Validation features, which select the strength.
        strengths: Penalties to try, each above 0.

    Returns:
        The selected strength and its validation metrics.

    Raises:
        TrainingError: If the classifier of the network is not a single linear layer.
        InvalidInputError: See :func:`fit_logistic`.
    """
    model.reset_head(len(labels))
    model.labels = tuple(labels)
    head = model.head
    if not isinstance(head, nn.Linear | nn.Conv3d) or head.bias is None:
        raise TrainingError(f"{model.spec.name} does not have a single linear classifier; use i3d or i3d_r50")
    samples = train.values.mean(2)
    targets = train.targets.repeat_interleave(samples.shape[1])
    fits: list[tuple[LogisticFit, Tensor, Tensor]] = []
    for l2 in strengths:
        weight, bias = fit_logistic(samples.flatten(0, 1), targets, len(labels), l2=l2)
        _set_head(head, weight, bias)
        logits = classify_features(model, val).double()
        loss = float(F.cross_entropy(logits, val.targets))
        fits.append((LogisticFit(l2, loss, float((logits.argmax(1) == val.targets).double().mean())), weight, bias))
    best, weight, bias = min(fits, key=lambda fit: fit[0].val_loss)
    _set_head(head, weight, bias)
    model.eval()
    return best


def _set_head(head: nn.Linear | nn.Conv3d, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        head.weight.copy_(weight.reshape(head.weight.shape))
        assert head.bias is not None
        head.bias.copy_(bias)
