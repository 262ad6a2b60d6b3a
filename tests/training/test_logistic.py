"""Logistic regression on frozen features."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quovadis.errors import InvalidInputError, TrainingError
from quovadis.models.zoo import build_model
from quovadis.training.logistic import fit_logistic, set_heads


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


def test_balanced_weights_equal_repeated_samples() -> None:
    """Two samples of the rare class, weighted, are as many as six: the other class has six."""
    x, _ = clusters(8, num_classes=2)
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    repeated = torch.cat([x[:6], x[6:], x[6:], x[6:]])
    # The penalty is relative to the sum of all weights: 8 here, 12 there. Standardization differs too, so undo it.
    x, repeated = x[:, :1], repeated[:, :1]
    weight, bias = fit_logistic(x, targets, 2, l2=1e-6, balanced=True)
    other, offset = fit_logistic(repeated, torch.tensor([0] * 6 + [1] * 6), 2, l2=1e-6)
    torch.testing.assert_close(x.double() @ weight.T + bias, x.double() @ other.T + offset, atol=1e-3, rtol=1e-3)
    plain, _ = fit_logistic(x, targets, 2, l2=1e-6)
    assert not torch.allclose(plain, weight, atol=1e-3) or not torch.allclose(bias, _, atol=1e-3)


def test_heads_of_two_networks_add_up_to_the_regression() -> None:
    models = [build_model("i3d_tiny", stream=s, num_classes=5) for s in ("rgb", "flow")]
    trunk = {k: v.clone() for k, v in models[0].state_dict().items() if not k.startswith("head.")}
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(2, 512, generator=generator), torch.randn(2, generator=generator)
    set_heads(models, ("left", "right"), weight, bias)
    features = torch.randn(4, 3, 512, generator=generator)
    with torch.no_grad():
        got = models[0].classify(features[..., :256]) + models[1].classify(features[..., 256:])
    torch.testing.assert_close(got, features.mean(1) @ weight.T + bias, atol=1e-5, rtol=1e-5)
    assert models[1].labels == ("left", "right")
    assert all(torch.equal(v, trunk[k]) for k, v in models[0].state_dict().items() if k in trunk)


@pytest.mark.parametrize("name", ["two_stream_tiny", "convnet_lstm_tiny", "conv3d_tiny"])
def test_network_without_a_linear_classifier_is_rejected(name: str) -> None:
    with pytest.raises(TrainingError, match=f"{name} does not have a linear classifier"):
        set_heads([build_model(name, num_classes=2)], ("a", "b"), torch.zeros(2, 1), torch.zeros(2))
