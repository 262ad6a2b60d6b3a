"""Logistic regression on frozen features."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.datasets.manifest import VideoRecord
from quovadis.errors import InvalidInputError, TrainingError
from quovadis.models.zoo import build_model
from quovadis.training.frozen_features import Features
from quovadis.training.logistic import fit_head, fit_logistic


def clusters(num: int, dim: int = 6, num_classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian clusters with very different scales of the features; the last one is constant."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(num) % num_classes
    x = torch.randn(num, dim, generator=generator) + torch.eye(num_classes, dim)[targets] * 1.5
    x = x * 10.0 ** torch.arange(dim) + 3
    x[:, -1] = 7.0
    return x, targets


def test_gradient_of_the_objective_is_zero_at_the_solution() -> None:
    """The objective is convex, so this is the definition of the solution; written without the code under test."""
    x, targets = clusters(60)
    l2 = 0.7
    weight, bias = fit_logistic(x, targets, 3, l2=l2)
    mean, std = x.double().mean(0), x.double().std(0, correction=0).clamp(min=1e-9)
    std[-1] = 1.0
    w = (weight * std).requires_grad_()
    b = (bias + weight @ mean).requires_grad_()
    z = (x.double() - mean) / std
    (F.cross_entropy(z @ w.T + b, targets, reduction="sum") + l2 / 2 * (w**2).sum()).backward()
    assert w.grad is not None
    assert b.grad is not None
    assert w.grad.abs().max() < 1e-4
    assert b.grad.abs().max() < 1e-4
    assert w.detach().abs().max() > 0.1
    assert (weight[:, -1] == 0).all(), "a constant feature has no weight"


def test_two_classes_in_one_dimension_match_the_closed_form() -> None:
    """At x = -1 and +1 the difference d of the two logits solves 2 sigmoid(-d) = l2 d / 2 for d = 2 w."""
    x, targets = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    weight, bias = fit_logistic(x, targets, 2, l2=0.5)
    d = float(weight[1, 0] - weight[0, 0])
    assert 2 / (1 + torch.tensor(d).exp().item()) == pytest.approx(0.5 * d / 2, rel=1e-6)
    assert bias.tolist() == pytest.approx([0.0, 0.0], abs=1e-8)


def test_predictions_are_invariant_to_feature_scaling() -> None:
    x, targets = clusters(60)
    scale = torch.tensor([5.0, 0.01, 1.0, 3.0, 100.0, 1.0])
    first = fit_logistic(x, targets, 3, l2=1.0)
    second = fit_logistic(x * scale, targets, 3, l2=1.0)
    a, b = x.double() @ first[0].T + first[1], (x * scale).double() @ second[0].T + second[1]
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("row", "match"), [(float("nan"), "NaN"), (float("inf"), "NaN or infinite")])
def test_non_finite_features_are_rejected(row: float, match: str) -> None:
    x, targets = clusters(6)
    x[2, 1] = row
    with pytest.raises(InvalidInputError, match=match):
        fit_logistic(x, targets, 3, l2=1.0)


def test_class_without_a_sample_is_rejected() -> None:
    x, targets = clusters(6)
    with pytest.raises(InvalidInputError, match=r"none of class \[3\]"):
        fit_logistic(x, targets, 4, l2=1.0)


def features(num_videos: int, seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    targets = [i % 2 for i in range(num_videos)]
    values = torch.randn(num_videos, 2, 3, 256, generator=generator)
    values[..., :50] += torch.tensor([3.0 if t else -3.0 for t in targets])[:, None, None, None]
    records = tuple(VideoRecord(Path(f"{i}.mp4"), t, "train") for i, t in enumerate(targets))
    return Features(records, ("",) * num_videos, values)


def test_network_head_holds_the_regression() -> None:
    model = build_model("i3d_tiny", num_classes=5)
    trunk = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("head.")}
    train, val = features(40, 0), features(20, 1)
    fit = fit_head(model, ("left", "right"), train, val, strengths=(1e6, 1.0))
    assert (fit.l2, fit.val_accuracy) == (1.0, 1.0)
    assert model.labels == ("left", "right")
    weight, bias = fit_logistic(train.values.mean(2).flatten(0, 1), train.targets.repeat_interleave(2), 2, l2=1.0)
    expected = (val.values.mean((1, 2)).double() @ weight.T + bias).float()
    with torch.no_grad():
        got = torch.stack([model.classify(clips).mean(0) for clips in val.values])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, trunk[k]) for k, v in model.state_dict().items() if k in trunk)


def test_network_with_two_classifiers_is_rejected() -> None:
    with pytest.raises(TrainingError, match="two_stream_tiny does not have a single linear classifier"):
        fit_head(build_model("two_stream_tiny", num_classes=2), ("a", "b"), features(4, 0), features(4, 1))
