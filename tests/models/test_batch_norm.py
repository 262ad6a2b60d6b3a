"""Batch norm over several processes compared with PyTorch's batch norm on the whole batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quovadis.errors import InvalidInputError
from quovadis.models.batch_norm import batch_norm, pooled_statistics, recompute_running_statistics
from quovadis.models.layers import BatchNorm2d, BatchNorm3d, ShiftBatchNorm, StepBatchNorm, choose_batch_norm
from quovadis.runtime import distributed
from tests.launch import launch

CASES = {
    "video": ((7, 3, 2, 3, 5), False, True),
    "images": ((5, 4, 3, 3), True, True),
    "vectors": ((3, 6), True, False),
}
"""Shape of the whole batch, presence of a scale, presence of a shift."""


def case(name: str) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor | None], list[torch.Tensor]]:
    """Input, gradient of the output, scale and shift, running averages: float64, far from zero mean."""
    shape, scale, shift = CASES[name]
    generator = torch.Generator().manual_seed(len(shape))
    x = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 100
    grad = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight, bias = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2))
    return x, grad, [weight if scale else None, bias if shift else None], [torch.zeros(shape[1]).double() + 2] * 2


def outcome(name: str, part: slice, **options: object) -> dict[str, torch.Tensor]:
    """Output, gradients and running averages for a part of the batch."""
    x, grad, learnt, running = case(name)
    x = x[part].requires_grad_()
    learnt = [None if t is None else t.requires_grad_() for t in learnt]
    mean, variance = (t.clone() for t in running)
    y = batch_norm(x, mean, variance, *learnt, training=True, momentum=0.3, eps=1e-3, **options)  # type: ignore[misc]
    y.backward(grad[part])
    found = {"y": y.detach(), "x": x.grad, "mean": mean, "variance": variance}
    found |= {key: t.grad for key, t in zip(("weight", "bias"), learnt, strict=True) if t is not None}
    return found


def shares(name: str) -> list[slice]:
    """Slices of the batch for three processes: one vector each, or two clips, one clip and the rest."""
    first = 1 if name == "vectors" else 2
    return [slice(0, first), slice(first, first + 1), slice(first + 1, None)]


_SCRIPT = """
import torch
from quovadis.runtime import distributed
from tests.models.test_batch_norm import CASES, outcome, shares
with distributed.process_group():
    found = {{}}
    for name in CASES:
        own = shares(name)[distributed.rank()]
        found[name] = outcome(name, own, statistics="synchronized")
    torch.save(found, {folder!r} + f"/{{distributed.rank()}}.pt")
distributed.shutdown()
"""


@pytest.mark.slow
def test_synchronized_statistics_equal_one_large_batch(tmp_path: Path) -> None:
    """Three processes with different numbers of clips, one of them with a single vector."""
    for ended in launch(_SCRIPT.format(folder=str(tmp_path)), 3):
        assert (ended.code, ended.stderr) == (0, "")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for name in CASES:
        x, grad, learnt, running = case(name)
        x.requires_grad_()
        weight, bias = (None if t is None else t.requires_grad_() for t in learnt)
        mean, variance = (t.clone() for t in running)
        F.batch_norm(x, mean, variance, weight, bias, True, 0.3, 1e-3).backward(grad)
        with torch.no_grad():
            y = F.batch_norm(x, None, None, weight, bias, True, 0.3, 1e-3)
        close = {"atol": 1e-9, "rtol": 1e-9}
        torch.testing.assert_close(torch.cat([p[name]["y"] for p in parts]), y, **close)
        torch.testing.assert_close(torch.cat([p[name]["x"] for p in parts]), x.grad, **close)
        for key, tensor in (("weight", weight), ("bias", bias)):
            if tensor is not None:
                torch.testing.assert_close(sum(p[name][key] for p in parts), tensor.grad, **close)
        for p in parts:
            torch.testing.assert_close(p[name]["mean"], mean, **close)
            torch.testing.assert_close(p[name]["variance"], variance, **close)
            assert torch.equal(p[name]["variance"], parts[0][name]["variance"]), "all have the same bits"


def pretend_a_second_process(monkeypatch: pytest.MonkeyPatch, shift: float = 0.0) -> None:
    """Simulate a second process with the same batch and ``shift`` added to each value."""

    def all_gather(rows: list[torch.Tensor], own: torch.Tensor) -> None:
        channels = (len(own) - 1) // 2  # means, variances, number of values
        rows[0].copy_(own)
        rows[1].copy_(own)
        rows[1][:channels] += shift

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda sums: sums.mul_(2))


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one_batch_of_double_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated in one process; a slow test launches real processes."""
    x, grad, learnt, running = case(name)
    twice = torch.cat([x, x]).requires_grad_()
    weight, bias = (None if t is None else t.requires_grad_() for t in learnt)
    mean, variance = (t.clone() for t in running)
    y = F.batch_norm(twice, mean, variance, weight, bias, True, 0.3, 1e-3)
    y.backward(torch.cat([grad, grad]))
    pretend_a_second_process(monkeypatch)
    found = outcome(name, slice(None), statistics="synchronized")
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(found["y"], y.detach()[: len(x)], **close)
    torch.testing.assert_close(found["x"], twice.grad[: len(x)], **close)
    torch.testing.assert_close(found["mean"], mean, **close)
    torch.testing.assert_close(found["variance"], variance, **close)
    for key, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            torch.testing.assert_close(2 * found[key], tensor.grad, **close)


def test_two_processes_with_one_vector_each_have_a_variance(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_a_second_process(monkeypatch, shift=4.0)
    found = outcome("vectors", slice(0, 1), statistics="synchronized")
    x = case("vectors")[0][0]
    torch.testing.assert_close(found["mean"], 0.7 * 2 + 0.3 * (x + 2))
    torch.testing.assert_close(found["variance"], torch.full_like(x, 0.7 * 2 + 0.3 * 8))  # (4 + 4) / (2 - 1)


@pytest.mark.parametrize("name", CASES)
def test_synchronized_equals_per_process_with_one_process(name: str) -> None:
    alone, together = (outcome(name, slice(None), statistics=s) for s in ("per-process", "synchronized"))
    assert all(torch.equal(alone[key], together[key]) for key in alone)


@pytest.mark.parametrize("name", CASES)
def test_frozen_statistics_use_but_do_not_update_running_averages(name: str) -> None:
    found = outcome(name, slice(None), statistics="frozen")
    x, grad, (weight, bias), running = case(name)
    shape = (1, -1, *[1] * (x.ndim - 2))
    normal = (x - 2) / (2 + 1e-3) ** 0.5
    expected = normal * (1 if weight is None else weight.view(shape)) + (0 if bias is None else bias.view(shape))
    torch.testing.assert_close(found["y"], expected)
    over = [0, *range(2, x.ndim)]
    if bias is not None:
        torch.testing.assert_close(found["bias"], grad.sum(over))
    if weight is not None:
        torch.testing.assert_close(found["weight"], (grad * normal).sum(over))
    assert torch.equal(found["mean"], running[0])
    assert torch.equal(found["variance"], running[1])


def test_pooled_statistics_of_half_precision_use_float32() -> None:
    x = (torch.randn(4, 2, 50, 50) + 7).bfloat16()
    mean, variance, num_values = pooled_statistics(x)
    assert (mean.dtype, num_values) == (torch.float64, 4 * 50 * 50)
    torch.testing.assert_close(mean, x.double().mean((0, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(variance, x.double().var((0, 2, 3), correction=0), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("ours", "theirs"), [(BatchNorm2d, nn.BatchNorm2d), (BatchNorm3d, nn.BatchNorm3d)])
def test_batch_norm_with_scale_equals_pytorch(ours: type[nn.Module], theirs: type[nn.Module]) -> None:
    a, b = ours(3), theirs(3)
    x = torch.randn(4, 3, *[5] * (2 if ours is BatchNorm2d else 3)) + 2
    assert torch.equal(a(x), b(x))
    assert all(torch.equal(u, v) for u, v in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(a.eval()(x), b.eval()(x))
    assert list(a.state_dict()) == list(b.state_dict())


def test_choose_batch_norm_sets_all_kinds_of_batch_norm() -> None:
    model = nn.Sequential(ShiftBatchNorm(2), nn.Sequential(BatchNorm3d(2), BatchNorm2d(2)), StepBatchNorm(2, 3))
    choose_batch_norm(model, "frozen", 0.25)
    found = {(m.statistics, m.momentum) for m in model.modules() if hasattr(m, "statistics")}
    assert found == {("frozen", 0.25)}
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model[1][0].train()(torch.randn(2, 2, 3, 3, 3))
    model[2].train()(torch.randn(1, 2), step=1)  # one vector is enough where nothing is measured
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


def test_single_value_per_channel_is_rejected_in_training() -> None:
    with pytest.raises(InvalidInputError, match="more than one value per channel"):
        ShiftBatchNorm(4)(torch.zeros(1, 4, 1, 1, 1))


@pytest.mark.parametrize("norm", [ShiftBatchNorm(3), BatchNorm3d(3)], ids=["shift", "scale"])
def test_recomputed_statistics_equal_those_of_all_batches(norm: nn.Module) -> None:
    """The batches have very different means, so the variance between them matters."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(2, 3, 2, 5, 5, generator=generator) + 10 * i for i in range(4)]
    model = nn.Sequential(norm, nn.Dropout(0.5)).eval()
    parameters = [p.detach().clone() for p in model.parameters()]
    recompute_running_statistics(model, ([x] for x in batches))
    whole = torch.cat(batches).transpose(0, 1).flatten(1).double()
    within = torch.stack([x.transpose(0, 1).flatten(1).double().var(1) for x in batches]).mean(0)
    between = torch.stack([x.double().mean((0, 2, 3, 4)) for x in batches]).var(0, correction=0)
    torch.testing.assert_close(norm.running_mean.double(), whole.mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), within + between, atol=1e-4, rtol=1e-5)
    assert not model.training
    assert norm.momentum == type(norm)(1).momentum  # type: ignore[operator]
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))


def test_recomputing_keeps_frozen_statistics_and_restores_state_after_error() -> None:
    frozen, free = ShiftBatchNorm(2), ShiftBatchNorm(2, momentum=0.25)
    frozen.statistics = "frozen"
    model = nn.Sequential(frozen, free)
    recompute_running_statistics(model, [[torch.randn(4, 2) + 5]])
    assert torch.equal(frozen.running_mean, torch.zeros(2))
    before = free.running_mean.clone()
    assert float(before.min()) > 2

    def breaks_off() -> Iterator[list[torch.Tensor]]:
        yield [torch.randn(4, 2)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recompute_running_statistics(model, breaks_off())
    assert torch.equal(free.running_mean, before)
    assert free.momentum == 0.25
    recompute_running_statistics(model, [])
    assert torch.equal(free.running_mean, before)


def test_recomputing_updates_all_steps_of_a_clip() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = StepBatchNorm(2, num_steps=3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.norm(part, step) for step, part in enumerate(x.unbind(1))])

    model = Steps()
    x = torch.randn(5, 2, 2)
    recompute_running_statistics(model, [[x]])
    torch.testing.assert_close(model.norm.running_mean, torch.cat([x.mean(0), torch.zeros(1, 2)]))
    torch.testing.assert_close(model.norm.running_var, torch.cat([x.var(0), torch.ones(1, 2)]))


def test_recomputing_keeps_steps_without_data() -> None:
    norm = StepBatchNorm(64, num_steps=2)
    norm.running_mean.copy_(torch.linspace(-0.5, 0.5, 128).view(2, 64))  # whose squares round in float64
    before = norm.running_mean.clone()

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x, 0)

    x = torch.randn(5, 64)
    recompute_running_statistics(First(), [[x]] * 3)
    torch.testing.assert_close(norm.running_mean[0], x.mean(0))
    assert torch.equal(norm.running_mean[1], before[1])
    assert torch.equal(norm.running_var[1], torch.ones(64))
