"""Which clips batch normalization takes its statistics from in training: this process's, all processes', or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError
from quovadis.runtime import distributed

BatchStatistics = Literal["per-process", "synchronized", "frozen"]
"""per-process: those of the clips in this process, as the authors had it. synchronized: those of all processes' clips.
frozen: the running averages, which then stay as they are, while shift and scale still learn."""


_averages_move = True


@contextmanager
def without_moving_averages() -> Iterator[None]:
    """Batch norm normalizes as in training and leaves its running averages alone: for a pass that repeats one."""
    global _averages_move
    before, _averages_move = _averages_move, False
    try:
        yield
    finally:
        _averages_move = before


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    training: bool,
    momentum: float,
    eps: float,
    statistics: BatchStatistics = "per-process",
) -> Tensor:
    """Normalize every channel of x (B, C, ...), and in training move the running averages, in place.

    As ``torch.nn.functional.batch_norm``; ``torch.nn.SyncBatchNorm``, which does the second of the three kinds of
    statistics, runs on GPUs only and has no layer without scale.

    Raises:
        InvalidInputError: in training, a single value a channel, which has no variance.
    """
    training = training and statistics != "frozen"
    momentum = momentum if _averages_move else 0.0
    if training and statistics == "synchronized" and distributed.world_size() > 1:
        return _synchronized(x, running_mean, running_var, weight, bias, momentum, eps)
    if training and x.numel() == x.shape[1]:
        raise InvalidInputError(
            "batch norm needs more than one value a channel in training; got a batch of one: give two clips or more, "
            "or use model.eval()"
        )
    return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)


def _synchronized(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    with torch.no_grad():
        mean, variance, num_values = pooled_statistics(x)
        unbiased = variance * (num_values / max(num_values - 1, 1))
        mean, variance = mean.to(running_mean.dtype), variance.to(running_var.dtype)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return _Normalize.apply(x, weight, bias, mean, variance, num_values, eps)


def pooled_statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of every channel over all processes, and how many values they stand on.

    Each process gives its own count, mean and variance, and they are pooled by the formula of Chan, Golub and LeVeque
    (1979): no difference of large squares, and all processes have the same bits.

    Args:
        x: (B, C, ...); batch and size may differ between processes.

    Returns:
        float64 (C,), biased variance float64 (C,), and the number of values a channel.

    >>> mean, variance, num_values = pooled_statistics(torch.tensor([[1.0], [3.0]]))
    >>> mean.item(), variance.item(), num_values
    (2.0, 1.0, 2.0)
    """
    variance, mean = torch.var_mean(_exact(x), _all_but_channels(x), correction=0)
    count = mean.new_full((1,), x.numel() / x.shape[1])
    own = torch.cat([mean, variance, count]).double()
    rows = [own]
    if distributed.world_size() > 1:
        rows = [torch.empty_like(own) for _ in range(distributed.world_size())]
        dist.all_gather(rows, own)
    table = torch.stack(rows)
    means, variances, counts = table.split([len(mean), len(mean), 1], 1)
    whole = counts.sum()
    pooled = (counts * means).sum(0) / whole
    squares = (counts * (variances + (means - pooled) ** 2)).sum(0)
    return pooled, squares / whole, float(whole)


@torch.no_grad()
def recompute_running_statistics(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> None:
    """Replace the running statistics of every batch norm by those of given batches under the present weights.

    Running averages lag behind the weights by about 1 / momentum steps. This is precise batch norm (Wu and Johnson
    2021, "Rethinking 'Batch' in BatchNorm", section 3), as in SlowFast: the mean over the batches, and the variance
    within batches plus the variance of their means. Several processes average their moments; all of them must pass
    the same number of batches. A frozen batch norm and one that no batch reaches stay unchanged.

    Args:
        model: any network here; only running statistics change.
        batches: the inputs of the model, one sequence of streams for each batch.

    >>> from quovadis.models.layers import ShiftBatchNorm
    >>> norm = ShiftBatchNorm(1)
    >>> recompute_running_statistics(norm, [[torch.tensor([[0.0], [2.0]])], [torch.tensor([[4.0], [6.0]])]])
    >>> norm.running_mean.item(), norm.running_var.item()  # 2 within each batch, 4 between their means
    (3.0, 6.0)
    """
    norms: list[Any] = [m for m in model.modules() if getattr(m, "statistics", "frozen") != "frozen"]
    before = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]
    sums = [torch.zeros(2, *norm.running_mean.shape, dtype=torch.float64) for norm in norms]
    was_training, num_batches = model.training, 0
    model.train()
    try:
        for norm in norms:
            norm.momentum = 1.0  # the buffers then hold the statistics of one batch
        for streams in batches:
            for norm in norms:
                norm.running_mean.zero_()
                norm.running_var.fill_(-1)  # stays where the batch has no value
            model(*streams)
            num_batches += 1
            for norm, of_norm in zip(norms, sums, strict=True):
                mean, variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu()
                of_norm += torch.stack([mean, variance + mean**2])
    finally:
        model.train(was_training)
        for norm, (mean, variance, momentum) in zip(norms, before, strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.momentum = momentum
    if not num_batches:
        return
    distributed.average_tensors(sums)
    for norm, of_norm in zip(norms, sums, strict=True):
        mean, square = (of_norm / num_batches).to(norm.running_mean.device)
        variance = square - mean**2
        seen = ~(variance <= -1)  # NaN stays NaN
        norm.running_mean.copy_(torch.where(seen, mean, norm.running_mean.double()))
        norm.running_var.copy_(torch.where(seen, variance.clamp_min(0), norm.running_var.double()))


class _Normalize(torch.autograd.Function):
    """``(x - mean) / sqrt(variance + eps) * weight + bias``, where mean and variance are those of all processes' x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        num_values: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.num_values, ctx.eps = num_values, eps
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        shape, over = (1, -1, *[1] * (x.ndim - 2)), _all_but_channels(x)
        grad = _exact(grads[0])
        deviation = _exact(x) - mean.view(shape)
        inverse = (variance + ctx.eps).rsqrt()
        grad_bias, product = grad.sum(over), (grad * deviation).sum(over)
        # The statistics depend on the x of every process, so x is reached by the gradients of every process.
        sums = torch.cat([grad_bias, product]).double()
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / ctx.num_values).to(grad.dtype).chunk(2)
        grad_x = grad - mean_grad.view(shape) - deviation * (mean_product * inverse**2).view(shape)
        grad_x *= (inverse if weight is None else inverse * weight).view(shape)
        return (
            grad_x.to(x.dtype),
            None if weight is None else product * inverse,
            grad_bias if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
            None,
        )


def _exact(x: Tensor) -> Tensor:
    """Sums of many values are taken in float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]
