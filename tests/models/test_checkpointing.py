"""Activation recomputation: the same gradients with less memory."""

import pytest
import torch
from torch import Tensor

from quovadis.models.checkpointing import recompute_activations
from quovadis.models.layers import choose_batch_norm
from quovadis.models.resnet import I3DResNet50
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from tests.models.settled import settled

NETWORKS = ["i3d_tiny", "conv3d_tiny", "convnet_lstm_tiny", "two_stream_tiny", "fused_two_stream_tiny", "i3d_r50"]


def build(name: str) -> VideoModel:
    if name == "i3d_r50":
        return I3DResNet50(num_classes=3, width=1 / 16, dropout=0.0)
    return build_model(name, num_classes=3, dropout=0.0)


def step(name: str, recompute: bool) -> tuple[dict[str, Tensor], int]:
    """Gradients and buffers after one step in float64, and the number of bytes stored by the forward pass."""
    torch.manual_seed(0)
    model = settled(build(name), size_px=64).double().train()
    choose_batch_norm(model, "per-process", 0.25)
    if recompute:
        assert recompute_activations(model) >= 5
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(2, s.channels, s.num_frames, 64, 64, generator=generator, dtype=torch.float64)
        for s in model.spec.streams
    ]
    stored: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(model(*inputs), torch.tensor([0, 2]))
    loss.backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    return gradients | dict(model.named_buffers()), sum(stored.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_recomputation_keeps_gradients_and_running_averages_and_saves_memory(name: str) -> None:
    expected, stored_plain = step(name, recompute=False)
    found, stored_recomputed = step(name, recompute=True)
    assert expected.keys() == found.keys()
    for key in expected:
        assert torch.equal(expected[key], found[key]), key
    assert stored_recomputed < 0.6 * stored_plain


def test_recomputation_keeps_outputs_and_state_dict_keys() -> None:
    torch.manual_seed(0)
    model = settled(build_model("i3d_tiny", num_classes=3))
    x = torch.randn(1, 3, 16, 64, 64)
    before, names = model(x), list(model.state_dict())
    recompute_activations(model)
    assert torch.equal(model(x), before)
    assert list(model.state_dict()) == names
