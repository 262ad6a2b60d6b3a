"""Fuse the logits of several streams."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError


def sum_logits(streams: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Add the logits of several streams, as the official two-stream I3D does.

    Args:
        streams: Logits (..., classes) of each stream, all of the same shape.
        weights: Weight of each stream, at least 0 and not all 0; None for equal weights of 1.

    Raises:
        InvalidInputError: If the shapes differ or the weights do not fit the streams.

    Example:
        >>> sum_logits([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])]).tolist()
        [4.0, 3.0]
        >>> sum_logits([torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0])], [1, 0.5]).tolist()
        [2.5, 2.5]

    References:
        ``evaluate_sample.py`` of https://github.com/google-deepmind/kinetics-i3d. The paper averages predictions:
        averaging logits gives the same order of classes, but smaller differences between probabilities.
    """
    stacked = _stack(streams)
    return stacked.sum(0) if weights is None else torch.tensordot(_weights(weights, stacked), stacked, 1)


def mean_probabilities(streams: Sequence[Tensor], weights: Sequence[float] | None = None) -> Tensor:
    """Average the softmax probabilities of several streams.

    Args:
        streams: Logits (..., classes) of each stream, all of the same shape.
        weights: Weight of each stream, at least 0 and not all 0; None for equal weights.

    Returns:
        Probabilities (..., classes), not logits.

    Raises:
        InvalidInputError: If the shapes differ or the weights do not fit the streams.

    Example:
        >>> mean_probabilities([torch.tensor([0.0, 0.0]), torch.tensor([0.0, 100.0])]).tolist()
        [0.25, 0.75]
        >>> mean_probabilities([torch.tensor([0.0, 0.0]), torch.tensor([0.0, 100.0])], [3, 1]).tolist()
        [0.375, 0.625]
    """
    probabilities = _stack(streams).softmax(-1)
    if weights is None:
        return probabilities.mean(0)
    factors = _weights(weights, probabilities)
    return torch.tensordot(factors / factors.sum(), probabilities, 1)


def require_finite(logits: Tensor, model: str, source: str) -> None:
    """Check that all logits are finite.

    Args:
        logits: Logits of any shape.
        model: Description of the network, for the message.
        source: Path of the video, for the message.

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


def _weights(weights: Sequence[float], stacked: Tensor) -> Tensor:
    if len(weights) != len(stacked):
        raise InvalidInputError(f"{len(weights)} weights for {len(stacked)} streams: give one weight per stream")
    if not all(0 <= w < math.inf for w in weights) or not any(weights):
        raise InvalidInputError(f"weights must be finite, at least 0 and not all 0; got {list(weights)}")
    return torch.tensor(list(weights), dtype=stacked.dtype)


def _stack(streams: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(s.shape) for s in streams}
    if len(shapes) != 1:
        raise InvalidInputError(f"streams must have logits of the same shape; got {sorted(shapes) or 'no stream'}")
    return torch.stack(list(streams))
