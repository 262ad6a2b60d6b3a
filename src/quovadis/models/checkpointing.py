"""Activation recomputation (gradient checkpointing): less memory in training for one more forward pass per step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from quovadis.models.batch_norm import BatchNormMixin


class RecomputableModule(nn.Module):
    """A module that can recompute its activations in the backward pass. Subclasses implement :meth:`compute`."""

    recompute_activations = False
    """Whether to store only the input in training; set by :func:`recompute_activations`."""

    def compute(self, x: Tensor) -> Tensor:
        """Compute the output of the module."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output; in training, store only ``x`` if :attr:`recompute_activations` is set."""
        if not (self.recompute_activations and self.training):
            return self.compute(x)
        output: Any = checkpoint(
            self.compute,
            x,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _fixed_running_averages(self)),  # first and second forward pass
        )
        return output


def recompute_activations(model: nn.Module) -> int:
    """Recompute activations in the backward pass instead of storing them.

    In training, each Inception block, residual block and standalone convolution stores only its input. Gradients and
    running averages stay bit-identical: batch norm updates its running averages in the first pass only.

    Args:
        model: Any model of this package. It is modified in place; its state dict keeps its keys.

    Returns:
        Number of modules that recompute their activations.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> recompute_activations(build_model("i3d_tiny"))
        12

    References:
        Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
    """
    modules = list(_outermost(model))
    for module in modules:
        module.recompute_activations = True
    return len(modules)


def _outermost(module: nn.Module) -> Iterator[RecomputableModule]:
    for child in module.children():
        if isinstance(child, RecomputableModule):
            yield child
        else:
            yield from _outermost(child)


@contextmanager
def _fixed_running_averages(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, BatchNormMixin)]
    for norm in norms:
        norm.update_running_averages = False
    try:
        yield
    finally:
        for norm in norms:
            norm.update_running_averages = True
