import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.inference.fusion import mean_probabilities, sum_logits


def test_fusion_rules() -> None:
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    assert torch.equal(sum_logits([a, b]), a + b)
    torch.testing.assert_close(mean_probabilities([a, b]), (a.exp() / a.exp().sum(1, True) + b.softmax(1)) / 2)


@pytest.mark.parametrize("streams", [[], [torch.zeros(3), torch.zeros(4)]])
def test_different_shapes_are_refused(streams: list[torch.Tensor]) -> None:
    with pytest.raises(InvalidInputError, match="logits of the same shape"):
        sum_logits(streams)


def test_weighted_fusion() -> None:
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    torch.testing.assert_close(sum_logits([a, b], [2, 0.5]), 2 * a + b / 2)
    torch.testing.assert_close(mean_probabilities([a, b], [3, 1]), 0.75 * a.softmax(1) + 0.25 * b.softmax(1))
    torch.testing.assert_close(mean_probabilities([a, b], [0, 7]), b.softmax(1))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_invalid_weights_are_refused(weights: list[float]) -> None:
    for rule in (sum_logits, mean_probabilities):
        with pytest.raises(InvalidInputError, match="weight"):
            rule([torch.zeros(3), torch.zeros(3)], weights)
