"""Less memory, the same gradients."""

import pytest
import torch
from torch import Tensor

from quovadis.models.checkpointing import recompute_activations
from quovadis.models.layers import choose_batch_norm
from quovadis.models.zoo import build_model
from tests.models.settled import settled

NETWORKS = ["i3d_tiny", "conv3d_tiny", "convnet_lstm_tiny", "two_stream_tiny", "fused_two_stream_tiny"]


def step(name: str, recompute: bool) -> tuple[dict[str, Tensor], int]:
    """Gradients and running averages of one step in float64, and the bytes that the forward pass kept."""
    torch.manual_seed(0)
    model = settled(build_model(name, num_classes=3, dropout=0.0)).double().train()
    choose_batch_norm(model, "per-process", 0.25)
    if recompute:
        assert recompute_activations(model) >= 5
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(2, s.channels, s.num_frames, 64, 64, generator=generator, dtype=torch.float64)
        for s in model.spec.streams
    ]
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(model(*inputs), torch.tensor([0, 2]))
    loss.backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return gradients | dict(model.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_running_averages_are_the_same_and_less_is_kept(name: str) -> None:
    plain, kept_plain = step(name, recompute=False)
    again, kept_again = step(name, recompute=True)
    assert plain.keys() == again.keys()
    for key in plain:
        assert torch.equal(plain[key], again[key]), key
    assert kept_again < 0.6 * kept_plain


def test_answers_and_weights_files_are_as_before() -> None:
    torch.manual_seed(0)
    model = settled(build_model("i3d_tiny", num_classes=3))
    x = torch.randn(1, 3, 16, 64, 64)
    before, names = model(x), list(model.state_dict())
    recompute_activations(model)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
