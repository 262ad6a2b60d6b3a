"""GPU kernels, on a GPU or in Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

from quovadis.flow.estimate import estimate_flow, to_gray
from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1_reference import tvl1_reference
from tests.flow.oracle import end_point_difference, waves

needs_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() and find_spec("triton")), reason="needs an NVIDIA GPU and Triton"
)

_IN_THE_INTERPRETER = """
import torch
from quovadis.flow.estimate import to_gray
from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1_reference import tvl1_reference
from quovadis.flow.tvl1_triton import tvl1_triton
from tests.flow.oracle import waves

torch.set_num_threads(1)
grays = [to_gray(waves(2, 20, 27, motion, seed)) for seed, motion in enumerate([(1.3, -0.6), (0, 0), (-2, 1)])]
first, second = (torch.stack([gray[t] for gray in grays]) for t in range(2))
for changes in (
    {"num_scales": 2, "num_outer_iterations": 2, "num_inner_iterations": 12},
    {"num_scales": 1, "num_inner_iterations": 5, "positions_per_px": 32},
    {"num_scales": 1, "num_inner_iterations": 5, "median_size_px": 3},
):
    parameters = TVL1Parameters(**{"num_warps": 1, "positions_per_px": 0, **changes})
    ours, plain = (run(first, second, parameters) for run in (tvl1_triton, tvl1_reference))
    assert plain.abs().mean() > 0.1
    assert (ours - plain).abs().max() < 1e-4, (changes, (ours - plain).abs().amax((1, 2, 3)))
    assert ours[1].count_nonzero() == 0
    alone = tvl1_triton(first[2:], second[2:], parameters)
    assert torch.equal(alone[0], ours[2])
print("equal")
"""


@pytest.mark.skipif(not find_spec("triton"), reason="needs Triton")
def test_kernels_agree_with_the_reference_in_the_interpreter() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _IN_THE_INTERPRETER],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == "equal", run.stderr


@needs_gpu
def test_kernels_agree_with_the_reference_on_the_gpu() -> None:
    from quovadis.flow.tvl1_triton import tvl1_triton

    first, second = (gray[None].cuda() for gray in to_gray(waves(2, 96, 120, (1.5, -0.75))))
    close = TVL1Parameters(num_scales=2, num_warps=1, positions_per_px=0)
    assert (tvl1_triton(first, second, close) - tvl1_reference(first, second, close)).abs().max() < 1e-3
    ours, plain = (run(first, second, TVL1Parameters())[0].cpu() for run in (tvl1_triton, tvl1_reference))
    assert end_point_difference(ours, plain).mean() < 0.05


@needs_gpu
def test_on_the_gpu_a_batch_equals_its_parts_and_the_cpu_agrees() -> None:
    clips = [waves(3, 64, 80, motion, seed) for seed, motion in enumerate([(0, 0), (2, 1), (-0.5, 0.3)])]
    together = estimate_flow(clips, device="cuda")
    for clip, flow in zip(clips, together, strict=True):
        assert torch.equal(flow, estimate_flow(clip, device="cuda", pairs_per_batch=1))
        assert (flow - estimate_flow(clip)).norm(dim=1).mean() < 0.05
    assert together[0].count_nonzero() == 0
