"""Several streams, one answer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError


def sum_logits(streams: Sequence[Tensor]) -> Tensor:
    """Add the logits of the streams with equal weight: what the official two-stream I3D does.

    Args:
        streams: logits (..., classes), one tensor a stream, all of one shape.

    Source: google-deepmind/kinetics-i3d, ``evaluate_sample.py``. The paper speaks of averaging predictions; the class
    order is that of averaged logits, the softmax is sharper.

    >>> sum_logits([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])]).tolist()
    [4.0, 3.0]
    """
    return _stacked(streams).sum(0)


def mean_probabilities(streams: Sequence[Tensor]) -> Tensor:
    """Average the softmax of each stream; returns probabilities, not logits.

    >>> mean_probabilities([torch.tensor([0.0, 0.0]), torch.tensor([0.0, 100.0])]).tolist()
    [0.25, 0.75]
    """
    return _stacked(streams).softmax(-1).mean(0)


def _stacked(streams: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(s.shape) for s in streams}
    if len(shapes) != 1:
        raise InvalidInputError(f"streams must have logits of one shape; got {sorted(shapes) or 'no stream'}")
    return torch.stack(list(streams))
