"""Batch normalization with a choice of training statistics: per process, over all processes, or frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError
from quovadis.runtime import distributed

BatchStatistics = Literal["per-process", "synchronized", "frozen"]
"""Statistics that batch norm uses in training.

- ``per-process``: mean and variance of the clips of the current process, as in the official code.
- ``synchronized``: mean and variance of the clips of all processes.
- ``frozen``: the running averages, which are not updated. Shift and scale are still trained.
"""


class BatchNormMixin:
    """Common settings of all batch norm layers of this package."""

    momentum: float | None
    eps: float
    training: bool
    statistics: BatchStatistics = "per-process"
    update_running_averages = True
    """False while activation recomputation repeats a forward pass."""

    def _normalize(
        self, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        assert self.momentum is not None
        return batch_norm(
            x,
            mean,
            variance,
            weight,
            bias,
            training=self.training,
            momentum=self.momentum if self.update_running_averages else 0.0,
            eps=self.eps,
            statistics=self.statistics,
        )


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
    """Normalize each channel of ``x`` and, in training, update the running averages in place.

    Like ``torch.nn.functional.batch_norm``, with a choice of statistics. ``torch.nn.SyncBatchNorm`` is not used for
    synchronized statistics because it requires GPUs and always has a scale.

    Args:
        x: Float (B, C, ...).
        running_mean: (C,).
        running_var: (C,).
        weight: Scale (C,), or None.
        bias: Shift (C,), or None.
        training: Whether to normalize with the statistics of the batch.
        momentum: Weight of the batch in the running averages.
        eps: Value added to the variance.
        statistics: See :data:`BatchStatistics`.

    Raises:
        InvalidInputError: If a channel has a single value in training.
    """
    training = training and statistics != "frozen"
    if training and statistics == "synchronized" and distributed.world_size() > 1:
        return _synchronized(x, running_mean, running_var, weight, bias, momentum, eps)
    if training and x.numel() == x.shape[1]:
        raise InvalidInputError(
            "batch norm needs more than one value per channel in training; got a batch of one. Use at least two clips, "
            "or call model.eval()"
        )
    if weight is None and x.is_cuda:
        weight = torch.ones_like(running_mean)  # without it, PyTorch returns an empty gradient for the bias on a GPU
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
    """Compute the mean and variance of each channel over all processes.

    The counts, means and variances of the processes are combined with the formula of Chan, Golub and LeVeque (1979).
    It avoids cancellation, and all processes get bit-identical results.

    Args:
        x: Float (B, C, ...). Batch size and shape may differ between processes.

    Returns:
        Mean (C,) and biased variance (C,), both float64, and the number of values per channel.

    >>> mean, variance, num_values = pooled_statistics(torch.tensor([[1.0], [3.0]]))
    >>> mean.item(), variance.item(), num_values
    (2.0, 1.0, 2.0)
    """
    variance, mean = torch.var_mean(_at_least_float32(x), _all_but_channels(x), correction=0)
    count = mean.new_full((1,), x.numel() / x.shape[1])
    local = torch.cat([mean, variance, count]).double()
    rows = [local]
    if distributed.world_size() > 1:
        rows = [torch.empty_like(local) for _ in range(distributed.world_size())]
        dist.all_gather(rows, local)
    table = torch.stack(rows)
    means, variances, counts = table.split([len(mean), len(mean), 1], 1)
    total = counts.sum()
    pooled = (counts * means).sum(0) / total
    squares = (counts * (variances + (means - pooled) ** 2)).sum(0)
    return pooled, squares / total, float(total)


@torch.no_grad()
def recompute_running_statistics(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> None:
    """Replace the running statistics of each batch norm by those of the given batches (precise batch norm).

    Running averages lag behind the weights by about 1 / momentum steps. The new mean is the average over the batches;
    the new variance is the variance within batches plus the variance of the batch means. Frozen batch norms and
    statistics that no batch contributes to stay unchanged.

    Args:
        model: Any model of this package. Only running statistics change.
        batches: Inputs of the model: for each batch, one tensor per stream. With several processes, all of them must
            provide the same number of batches; their statistics are averaged.

    Example:
        >>> from quovadis.models.layers import ShiftBatchNorm
        >>> norm = ShiftBatchNorm(1)
        >>> recompute_running_statistics(norm, [[torch.tensor([[0.0], [2.0]])], [torch.tensor([[4.0], [6.0]])]])
        >>> norm.running_mean.item(), norm.running_var.item()  # 2 within each batch plus 4 between their means
        (3.0, 6.0)

    References:
        Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
    """
    norms: list[Any] = [m for m in model.modules() if isinstance(m, BatchNormMixin) and m.statistics != "frozen"]
    before = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]
    sums = [torch.zeros(2, *norm.running_mean.shape, dtype=torch.float64) for norm in norms]
    was_training, num_batches = model.training, 0
    model.train()
    try:
        for norm in norms:
            norm.momentum = 1.0  # the buffers then contain the statistics of the last batch
        for streams in batches:
            for norm in norms:
                norm.running_mean.zero_()
                norm.running_var.fill_(-1)  # marks statistics that the batch does not update
            model(*streams)
            num_batches += 1
            for norm, norm_sums in zip(norms, sums, strict=True):
                mean, variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu()
                norm_sums += torch.stack([mean, variance + mean**2])
    finally:
        model.train(was_training)
        for norm, (mean, variance, momentum) in zip(norms, before, strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.momentum = momentum
    if not num_batches:
        return
    distributed.average_tensors(sums)
    for norm, norm_sums in zip(norms, sums, strict=True):
        mean, square = (norm_sums / num_batches).to(norm.running_mean.device)
        variance = square - mean**2
        updated = ~(variance <= -1)  # keeps NaN
        norm.running_mean.copy_(torch.where(updated, mean, norm.running_mean.double()))
        norm.running_var.copy_(torch.where(updated, variance.clamp_min(0), norm.running_var.double()))


class _Normalize(torch.autograd.Function):
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` with mean and variance over all processes."""

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
        shape, axes = (1, -1, *[1] * (x.ndim - 2)), _all_but_channels(x)
        grad = _at_least_float32(grads[0])
        centered = _at_least_float32(x) - mean.view(shape)
        inverse = (variance + ctx.eps).rsqrt()
        grad_bias, product = grad.sum(axes), (grad * centered).sum(axes)
        # The statistics depend on the inputs of all processes, so the gradient of x sums over all processes.
        sums = torch.cat([grad_bias, product]).double()
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / ctx.num_values).to(grad.dtype).chunk(2)
        grad_x = grad - mean_grad.view(shape) - centered * (mean_product * inverse**2).view(shape)
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


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]
