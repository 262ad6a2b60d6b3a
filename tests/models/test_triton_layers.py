"""The GPU layers of I3D: on a GPU where there is one, and in Triton's interpreter where there is only Triton."""

import copy
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from quovadis.models.layers import max_pool_same
from quovadis.models.optimization import optimize
from tests.models.test_video_model import unchanged_settled

needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="needs Triton")
needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and find_spec("triton")), reason="needs an NVIDIA GPU and Triton"
)

_IN_THE_INTERPRETER = """
import torch
from torch import nn

from quovadis.models.inception import InceptionBlock
from quovadis.models.layers import ConvUnit, max_pool_same
from quovadis.models.triton_layers import TritonInceptionBlock, TritonStem, max_pool

torch.set_num_threads(1)
torch.set_grad_enabled(False)
for kernel, stride, size in (
    ((3, 3, 3), (1, 1, 1), (9, 2, 3)), ((1, 3, 3), (1, 2, 2), (1, 5, 6)), ((3, 3, 3), (2, 2, 2), (4, 5, 6)),
    ((2, 2, 2), (2, 2, 2), (3, 3, 4)),
):
    x, bias = torch.randn(1, 5, *size) - 3, torch.randn(5) + 3
    plain = max_pool_same(x, kernel, stride)
    assert torch.equal(max_pool(x, kernel, stride), plain)
    assert torch.equal(max_pool(x, kernel, stride, bias), (plain + bias.view(-1, 1, 1, 1)).relu())
x[0, 0] = float("nan")
assert max_pool(x, kernel, stride)[0, 0].isnan().all()


def settle(module):
    for unit in module.modules():
        if isinstance(unit, ConvUnit):
            unit.batch_norm = nn.Identity()
            unit.conv.bias = nn.Parameter(torch.randn(unit.conv.out_channels).double())
    return module.double().eval()


for channels, size in ((3, (9, 8, 7)), (2, (4, 9, 6))):
    unit, x = settle(ConvUnit(3, channels, 4, 7, 2)), torch.randn(1, channels, *size).double()
    assert torch.allclose(TritonStem(unit.conv)(x), unit(x), atol=1e-12)
block, x = settle(InceptionBlock(3, 6, (3, 2, 4, 1, 2, 5))), torch.randn(2, 6, 2, 3, 4).double()
assert torch.allclose(TritonInceptionBlock(block)(x), block(x), atol=1e-12)
print("equal")
"""


@needs_triton
@pytest.mark.slow
def test_kernels_agree_with_the_plain_layers_in_the_interpreter() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _IN_THE_INTERPRETER],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "equal", run.stderr


@needs_gpu
@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("size", [(16, 64, 64), (9, 65, 71)])
def test_every_endpoint_agrees_on_the_gpu(stream: str, size: tuple[int, int, int]) -> None:
    model = copy.deepcopy(unchanged_settled("i3d_tiny", stream))
    x = torch.rand(2, 3 if stream == "rgb" else 2, *size) * 2 - 1
    with torch.no_grad():
        expected = model.double().endpoints(x.double())
    for precision, tolerance in (("float32", 0.02), ("bfloat16", 0.2), ("float16", 0.05)):
        fast = optimize(model.float().cuda(), precision=precision)  # type: ignore[arg-type]
        found = fast.endpoints(x.cuda())
        assert list(found) == list(expected)
        for name, output in expected.items():
            assert found[name].shape == output.shape
            assert float((found[name].cpu() - output).norm() / output.norm()) < tolerance, (name, precision)
        assert torch.equal(fast(x.cuda()), fast(x.cuda()))
        assert float((fast(x.cuda()).cpu() - expected["Logits"]).norm() / expected["Logits"].norm()) < tolerance


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3, 3), (1, 1, 1)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2),) * 2]
)
def test_pooling_on_the_gpu_is_exact(dtype: torch.dtype, kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
    from quovadis.models.triton_layers import max_pool

    for size in ((16, 14, 14), (9, 13, 17), (1, 2, 3)):
        x = (torch.randn(2, 83, *size) - 3).to(dtype)
        expected = max_pool_same(x.float(), kernel, stride).to(dtype)
        assert torch.equal(max_pool(x.cuda(), kernel, stride).cpu(), expected)
