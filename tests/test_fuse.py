import pytest
import torch

from quovadis.errors import InvalidInputError
from quovadis.fuse import mean_probabilities, sum_logits


def test_streams_are_fused_by_the_stated_rules() -> None:
    a, b = torch.randn(4, 7), torch.randn(4, 7)
    assert torch.equal(sum_logits([a, b]), a + b)
    torch.testing.assert_close(mean_probabilities([a, b]), (a.exp() / a.exp().sum(1, True) + b.softmax(1)) / 2)


@pytest.mark.parametrize("streams", [[], [torch.zeros(3), torch.zeros(4)]])
def test_streams_of_other_shapes_are_refused(streams: list[torch.Tensor]) -> None:
    with pytest.raises(InvalidInputError, match="logits of one shape"):
        sum_logits(streams)
