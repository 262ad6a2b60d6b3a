"""Results on a GPU agree with those on the CPU."""

import copy

import pytest
import torch
from torch import nn

from quovadis.models.cuda_graph import GraphedFeatures
from quovadis.models.layers import conv_same
from quovadis.models.optimization import optimize
from quovadis.models.paired_convolution import convolve_pairs
from quovadis.models.zoo import build_model
from quovadis.video.resize import resize_frames, resize_frames_to

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


@pytest.mark.parametrize("kernel", [3, 4, 5, 7])
@pytest.mark.parametrize("size", [(9, 8, 7), (4, 9, 6), (10, 13, 12)])
@pytest.mark.parametrize("channels", [2, 3])
def test_the_paired_convolution_is_the_plain_one(channels: int, kernel: int, size: tuple[int, int, int]) -> None:
    conv = nn.Conv3d(channels, 4, kernel, 2, bias=False).double()
    x = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
    plain, paired = conv_same(x, conv), convolve_pairs(x, conv.weight)
    torch.testing.assert_close(paired, plain, atol=1e-12, rtol=1e-12)
    of_plain, of_paired = (torch.autograd.grad(y.square().sum(), [x, conv.weight]) for y in (plain, paired))
    torch.testing.assert_close(of_paired, of_plain, atol=1e-11, rtol=1e-11)


@needs_gpu
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("network", ["i3d_tiny", "two_stream_tiny", "convnet_lstm_tiny"])
def test_gradients_are_those_of_the_cpu(network: str, training: bool) -> None:
    model = build_model(network, num_classes=3).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    sizes = [(2, s.channels, s.num_frames, model.spec.size_px, model.spec.size_px) for s in model.spec.streams]
    inputs = [torch.rand(size, dtype=torch.float64) * 2 - 1 for size in sizes]
    grads = []
    for device in ("cpu", "cuda"):
        there = copy.deepcopy(model).to(device).channels_last()
        laid = [x.to(device, memory_format=torch.channels_last_3d) for x in inputs]
        there.loss(there(*laid), torch.tensor([0, 2], device=device)).backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in there.parameters())
        grads.append(torch.cat([p.grad.flatten().cpu() for p in there.parameters() if p.grad is not None]))
    assert float((grads[1] - grads[0]).norm() / grads[0].norm()) < 1e-6


@needs_gpu
def test_frames_are_resized_on_the_gpu_as_on_the_cpu() -> None:
    frames = torch.randint(0, 256, (70, 3, 45, 61), dtype=torch.uint8)
    for resized in (lambda x: resize_frames(x, 32), lambda x: resize_frames_to(x, 50, 40)):
        on_cpu, on_gpu = resized(frames), resized(frames.cuda()).cpu()
        assert on_gpu.dtype == torch.uint8
        assert (on_gpu.int() - on_cpu.int()).abs().max() <= 1


@needs_gpu
@pytest.mark.parametrize("network", ["i3d_tiny", "two_stream_tiny", "convnet_lstm_tiny", "conv3d_tiny"])
def test_a_graph_gives_the_features_of_its_own_input(network: str) -> None:
    fast = optimize(build_model(network, num_classes=3).cuda())
    sizes = [(s.channels, s.num_frames, fast.spec.size_px, fast.spec.size_px) for s in fast.spec.streams]
    batches = [[torch.rand(n, *size, device="cuda") * 2 - 1 for size in sizes] for n in (2, 2, 2, 3, 3)]
    with torch.inference_mode():
        found = [fast.features(*batch) for batch in batches]
    found.append(fast.features(*batches[0]))
    graphed = fast._features
    assert isinstance(graphed, GraphedFeatures)
    assert not graphed._failed
    assert sum(graph is not None for graph in graphed._graphs.values()) == 2
    with torch.no_grad():
        expected = [fast.network.features(*batch) for batch in (*batches, batches[0])]
    for of_graph, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(of_graph, plain, atol=1e-5, rtol=1e-5)
