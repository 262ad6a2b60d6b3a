"""Several streams, one answer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError


def sum_logits(streams: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Add the logits of the streams, with equal weight unless asked otherwise: what the official two-stream I3D does.

    Args:
        streams: logits (..., classes), one tensor a stream, all of one shape.
        weights: a factor for each stream, none below 0 and not all 0; None is 1 for each.

    Raises:
        InvalidInputError: streams of different shapes, or weights that do not fit them.

    Source: google-deepmind/kinetics-i3d, ``evaluate_sample.py``. The paper speaks of averaging predictions; the class
    order is that of averaged logits, the softmax is sharper.

    >>> sum_logits([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])]).tolist()
    [4.0, 3.0]
    >>> sum_logits([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])], [1, 0.5]).tolist()
    [2.5, 2.5]
    """
    stacked = _stacked(streams)
    return stacked.sum(0) if weights is None else torch.tensordot(_factors(weights, stacked), stacked, 1)


def mean_probabilities(streams: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Average the softmax of each stream; returns probabilities, not logits. Arguments are those of `sum_logits`.

    >>> mean_probabilities([torch.tensor([0.0, 0.0]), torch.tensor([0.0, 100.0])]).tolist()
    [0.25, 0.75]
    >>> mean_probabilities([torch.tensor([0.0, 0.0]), torch.tensor([0.0, 100.0])], [3, 1]).tolist()
    [0.375, 0.625]
    """
    probabilities = _stacked(streams).softmax(-1)
    if weights is None:
        return probabilities.mean(0)
    factors = _factors(weights, probabilities)
    return torch.tensordot(factors / factors.sum(), probabilities, 1)


def require_finite(logits: Tensor, model: str, source: str) -> None:
    """Raise unless all logits are finite.

    Args:
        logits: any shape.
        model: the network in words, for the message.
        source: the video that the logits belong to, for the message.

    Raises:
        InvalidInputError: If a logit is NaN or infinite.

    >>> require_finite(torch.tensor([1.0, torch.nan]), "i3d (rgb)", "run.mp4")
    Traceback (most recent call last):
    quovadis.errors.InvalidInputError: 1 of the 2 logits of i3d (rgb) for run.mp4 are NaN or infinite: check the weights
    """
    bad = int((~logits.isfinite()).sum())
    if bad:
        raise InvalidInputError(
            f"{bad} of the {logits.numel()} logits of {model} for {source or 'this clip'} are NaN or infinite: check "
            "the weights"
        )


def _factors(weights: Sequence[float], stacked: Tensor) -> Tensor:
    """The weights of the streams as a tensor."""
    if len(weights) != len(stacked):
        raise InvalidInputError(f"{len(weights)} weights for {len(stacked)} streams: give one weight a stream")
    if not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise InvalidInputError(f"the weights of streams are numbers from 0 on, not all 0; got {list(weights)}")
    return torch.tensor(list(weights), dtype=stacked.dtype)


def _stacked(streams: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(s.shape) for s in streams}
    if len(shapes) != 1:
        raise InvalidInputError(f"streams must have logits of one shape; got {sorted(shapes) or 'no stream'}")
    return torch.stack(list(streams))
