"""Training in less memory: activations are computed a second time in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quovadis.models.batch_norm import without_moving_averages
from quovadis.models.inception import InceptionBlock
from quovadis.models.layers import ConvUnit
from quovadis.models.resnet import Bottleneck

_STAGES = (InceptionBlock, Bottleneck, ConvUnit)


def recompute_activations(model: nn.Module) -> int:
    """Make every stage of a network keep its input only, in training; the gradients stay the same, to the last bit.

    A stage is an inception block, a residual block, or a convolution that is in neither. Batch norm moves its running
    averages in the first pass only. Costs about one more forward pass a step.

    Args:
        model: any network here; it is changed.

    Returns:
        How many stages there are.

    >>> from quovadis.models.zoo import build_model
    >>> recompute_activations(build_model("i3d_tiny"))
    12
    """
    stages = list(_outermost(model))
    for stage in stages:
        stage.forward = partial(_forward, stage, stage.forward)
    return len(stages)


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, _STAGES):
            yield child
        else:
            yield from _outermost(child)


def _forward(stage: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if not stage.training:
        return forward(x)
    result: Any = checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False, context_fn=_two_passes)
    return result


def _two_passes() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first pass, and the second."""
    return nullcontext(), without_moving_averages()
