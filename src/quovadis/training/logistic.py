"""L2-regularized multinomial logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, TrainingError
from quovadis.models.video_model import VideoModel

L2_STRENGTHS = (0.01, 0.1, 1.0, 10.0)


def fit_logistic(
    features: Tensor, targets: Tensor, num_classes: int, *, l2: float, balanced: bool = False
) -> tuple[Tensor, Tensor]:
    """Fit a multinomial logistic regression.

    Minimizes the sum of cross-entropies plus ``l2 / 2`` times the squared norm of the weights, with L-BFGS in float64.
    The bias is not penalized. The fit uses features standardized by the mean and standard deviation of the samples; the
    returned weights apply to the original features. ``l2`` corresponds to 1 / C in scikit-learn.

    Args:
        features: float (N, D).
        targets: int64 (N,), each class at least once.
        num_classes: Number of classes, at least 2.
        l2: Strength of the penalty, above 0.
        balanced: Weight the samples so that all classes have the same total weight.

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
    counts = torch.bincount(targets, minlength=num_classes).double()
    class_weights = len(targets) / (num_classes * counts) if balanced else None
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
        loss = F.cross_entropy(x @ weight.T + bias, targets, class_weights, reduction="sum")
        loss = loss + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    scaled = weight.detach() / std
    return scaled, bias.detach() - scaled @ mean


def set_heads(models: Sequence[VideoModel], labels: Sequence[str], weight: Tensor, bias: Tensor) -> None:
    """Replace the classifiers of networks, whose logits are added, by one linear classifier on all their features.

    Args:
        models: Networks whose classifier is one linear layer, such as I3D. Their heads and labels are replaced.
        labels: The new classes.
        weight: float (classes, D), where D is the sum of the feature dimensions of the networks.
        bias: float (classes,).

    Raises:
        TrainingError: See :func:`require_linear_head`.
    """
    for model in models:
        require_linear_head(model)
    parts = weight.split([model.feature_dim for model in models], 1)
    for model, part, offset in zip(models, parts, [bias, *[torch.zeros_like(bias)] * (len(models) - 1)], strict=True):
        model.reset_head(len(labels))
        model.labels = tuple(labels)
        head = model.head
        assert isinstance(head, nn.Linear | nn.Conv3d)
        assert head.bias is not None
        with torch.no_grad():
            head.weight.copy_(part.reshape(head.weight.shape))
            head.bias.copy_(offset)
        model.eval()


def divide_logits(models: Sequence[VideoModel], temperature: float) -> None:
    """Divide the logits of networks by a temperature, in their classifiers.

    Args:
        models: Networks whose classifier is one linear layer; modified in place.
        temperature: Above 0; see :func:`quovadis.metrics.calibration.fit_temperature`.
    """
    for model in models:
        require_linear_head(model)
        with torch.no_grad():
            for parameter in model.head.parameters():
                parameter.div_(temperature)


def require_linear_head(model: VideoModel) -> None:
    """Raise TrainingError unless the logits of a network are a linear function of its time-averaged features."""
    if not model.has_class_maps or not isinstance(model.head, nn.Linear | nn.Conv3d):
        raise TrainingError(
            f"{model.spec.name} does not have a linear classifier on averaged features; use i3d, i3d_tiny or i3d_r50"
        )
