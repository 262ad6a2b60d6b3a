"""TV-L1 against OpenCV, exact motion and the reference implementation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.flow.estimate import to_gray
from quovadis.flow.parameters import TVL1Parameters
from quovadis.flow.tvl1 import implementation_for, tvl1
from quovadis.flow.tvl1_numba import tvl1_numba
from quovadis.flow.tvl1_reference import tvl1_reference, warp
from tests.flow.oracle import (
    ALL_MOTIONS,
    GOLDEN,
    MOTIONS,
    REAL_PAIRS,
    end_point_difference,
    image,
    opencv_flow,
    true_flow,
    waves,
)

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", [tvl1_numba, tvl1_reference])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread: images are small and the reference runs thousands of steps."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def gray_pair(height: int = 48, width: int = 64, motion: tuple[float, float] = (1.3, -0.6), seed: int = 0):
    first, second = to_gray(waves(2, height, width, motion, seed))
    return first[None], second[None]


def check_against_opencv(implementation, folder: Path, pair: str) -> None:
    first, second = (image(folder, name) for name in pair.split("__"))
    flow = implementation(first, second, TVL1Parameters())[0]
    assert flow.dtype == torch.float32
    difference = end_point_difference(flow, opencv_flow(folder, pair))
    assert difference.mean() <= 0.05
    assert np.percentile(difference, 99) <= 0.3


def check_against_truth(implementation, folder: Path, motion: str) -> None:
    flow = implementation(image(folder, "analytic_0"), image(folder, f"analytic_{motion}"), TVL1Parameters())[0]
    inside = np.s_[16:-16, 16:-16]  # content that enters at the border has no counterpart in the first image
    assert end_point_difference(flow, true_flow(folder, motion))[inside].mean() <= 0.1


@pytest.mark.parametrize("motion", MOTIONS)
def test_agrees_with_opencv(motion: str) -> None:
    check_against_opencv(tvl1_numba, GOLDEN, f"analytic_0__analytic_{motion}")


def test_the_reference_agrees_with_opencv() -> None:
    check_against_opencv(tvl1_reference, GOLDEN, "analytic_0__analytic_rot1.5_zoom1.02")


@pytest.mark.parametrize("motion", MOTIONS)
def test_finds_the_exact_motion(motion: str) -> None:
    check_against_truth(tvl1_numba, GOLDEN, motion)


@pytest.mark.shared
@IMPLEMENTATIONS
@pytest.mark.parametrize("pair", REAL_PAIRS)
def test_agrees_with_opencv_on_real_frames(implementation, pair: str, shared: Path) -> None:
    check_against_opencv(implementation, shared / "oracles/flow", pair)


@pytest.mark.shared
@pytest.mark.parametrize("motion", ALL_MOTIONS)
def test_agrees_with_opencv_on_all_exact_motions(motion: str, shared: Path) -> None:
    check_against_opencv(tvl1_numba, shared / "oracles/flow", f"analytic_0__analytic_{motion}")


@pytest.mark.shared
@pytest.mark.parametrize("motion", ALL_MOTIONS)
def test_finds_all_exact_motions_of_the_oracle(motion: str, shared: Path) -> None:
    check_against_truth(tvl1_numba, shared / "oracles/flow", motion)


@IMPLEMENTATIONS
def test_no_motion_is_exactly_zero(implementation) -> None:
    still = image(GOLDEN, "analytic_t_zero")
    assert torch.equal(image(GOLDEN, "analytic_0"), still)
    noise = torch.randint(0, 256, (2, 40, 50), dtype=torch.uint8)
    for images in (still, noise, torch.zeros(1, 20, 20, dtype=torch.uint8)):
        assert implementation(images, images.clone(), TVL1Parameters()).count_nonzero() == 0


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        ((48, 64), {}),
        ((16, 16), {}),  # the pyramid has one level
        ((23, 71), {"median_size_px": 3}),
        ((33, 50), {"median_size_px": 1, "num_inner_iterations": 7}),
        ((40, 41), {"scale_step": 0.5}),
        ((30, 52), {"stop_change_px": 0.0, "num_outer_iterations": 2}),
        ((36, 44), {"time_step": 0.2, "attachment": 0.05, "tightness": 0.5}),
        ((26, 30), {"positions_per_px": 2, "num_scales": 1, "num_warps": 2}),
        ((20, 360), {}),  # a row is two chunks
        ((18, 712), {}),  # three chunks, the last one narrow
    ],
    ids=str,
)
def test_kernels_agree_with_the_reference(size: tuple[int, int], changes: dict) -> None:
    """With few levels and warps: rounding differs, and every warp amplifies differences at the border."""
    parameters = TVL1Parameters(**{"num_scales": 2, "num_warps": 1, "positions_per_px": 0, **changes})
    first, second = gray_pair(*size)
    fast, plain = tvl1_numba(first, second, parameters), tvl1_reference(first, second, parameters)
    assert plain.abs().mean() > 0.2
    assert (fast - plain).abs().max() < 2e-4


def test_kernels_agree_with_the_reference_as_a_whole() -> None:
    first, second = gray_pair()
    fast, plain = tvl1_numba(first, second, TVL1Parameters()), tvl1_reference(first, second, TVL1Parameters())
    difference = end_point_difference(fast[0], plain[0])
    assert difference.mean() < 0.05
    assert np.median(difference) < 0.02


def test_exact_interpolation_finds_small_motion_better() -> None:
    first, second = gray_pair(80, 96, motion=(0.41, -0.23))
    errors = []
    for positions in (0, 2):
        flow = tvl1_numba(first, second, TVL1Parameters(positions_per_px=positions))[0, :, 16:-16, 16:-16]
        errors.append((flow - torch.tensor([0.41, -0.23])[:, None, None]).norm(dim=0).mean())
    assert errors[0] < errors[1]


def test_warping_is_cubic_at_multiples_of_the_given_step() -> None:
    image = torch.rand(1, 12, 14)

    def warped(across: float, positions_per_px: int) -> torch.Tensor:
        return warp(image, torch.tensor([across, 0.0]).view(1, 2, 1, 1).expand(1, 2, 12, 14), positions_per_px)

    # Halfway between two pixels the weights are -3/32, 19/32, 19/32, -3/32.
    inside = (19 * (image[..., 4:8] + image[..., 5:9]) - 3 * (image[..., 3:7] + image[..., 6:10])) / 32
    assert (warped(0.5, 0)[..., 4:8] - inside).abs().max() < 1e-6
    assert torch.equal(warped(0.51, 32), warped(0.5, 0))
    assert not torch.equal(warped(0.51, 0), warped(0.5, 0))
    assert torch.equal(warped(3.0, 32)[..., :-3], image[..., 3:])
    assert warped(3.0, 32)[..., -3:].count_nonzero() == 0  # outside is 0
    assert warped(1e6, 32).count_nonzero() == 0


@IMPLEMENTATIONS
def test_mirrored_input_mirrors_the_flow(implementation) -> None:
    first, second = gray_pair(motion=(1.5, 0.7))
    flow = implementation(first, second, TVL1Parameters())
    for axis, component in ((2, 0), (1, 1)):
        mirrored = implementation(first.flip(axis), second.flip(axis), TVL1Parameters()).flip(axis + 1)
        mirrored[:, component] *= -1
        difference = end_point_difference(flow[0], mirrored[0])
        # Forward differences see the border on one side only, so mirrors are alike and not equal.
        assert np.median(difference) < 0.02
        assert difference.mean() < 0.05


@IMPLEMENTATIONS
def test_transposed_input_swaps_the_components(implementation) -> None:
    first, second = gray_pair(44, 60, motion=(1.5, -0.7))
    flow = implementation(first, second, TVL1Parameters())[0]
    turned = implementation(first.mT.contiguous(), second.mT.contiguous(), TVL1Parameters())[0].flip(0).mT
    assert end_point_difference(flow, turned).mean() < 0.01


@IMPLEMENTATIONS
def test_a_batch_equals_its_parts(implementation) -> None:
    parameters = TVL1Parameters(num_warps=2)
    motions = [(0.0, 0.0), (2.5, 1.0), (0.2, -0.1)]
    pairs = [gray_pair(26, 34, motion, seed) for seed, motion in enumerate(motions)]
    first, second = (torch.cat(images) for images in zip(*pairs, strict=True))
    together = implementation(first, second, parameters)
    alone = torch.cat([implementation(*pair, parameters) for pair in pairs])
    assert torch.equal(together, alone)


def test_threads_do_not_change_the_result() -> None:
    first, second = (torch.cat([image] * 3) for image in gray_pair(motion=(2, 1)))
    one, three = (tvl1_numba(first, second, TVL1Parameters(), threads) for threads in (1, 3))
    assert torch.equal(one, three)
    assert torch.equal(one[0], one[2])


def test_warping_by_the_flow_aligns_the_images() -> None:
    first, second = gray_pair(64, 80, motion=(3, -2))
    flow = tvl1_numba(first, second, TVL1Parameters())[0]
    grid = torch.stack(torch.meshgrid(torch.arange(80.0), torch.arange(64.0), indexing="xy")) + flow
    grid = 2 * grid / torch.tensor([79.0, 63.0])[:, None, None] - 1
    warped = torch.nn.functional.grid_sample(
        second[None].float(), grid.permute(1, 2, 0)[None], align_corners=True, padding_mode="border"
    )
    inside = np.s_[..., 8:-8, 8:-8]
    before = (second.float() - first.float()).abs()[inside].mean()
    after = (warped[0] - first.float()).abs()[inside].mean()
    assert after < before / 10


def test_invalid_parameters_are_refused() -> None:
    for wrong in (
        {"time_step": 0.3},
        {"attachment": 0.0},
        {"tightness": float("inf")},
        {"scale_step": 1.0},
        {"num_scales": 0},
        {"num_warps": 2.0},
        {"stop_change_px": -1.0},
        {"median_size_px": 4},
        {"positions_per_px": -1},
    ):
        with pytest.raises(InvalidInputError, match=next(iter(wrong))):
            TVL1Parameters(**wrong)


def test_invalid_images_are_refused() -> None:
    good = torch.zeros(1, 20, 30, dtype=torch.uint8)
    with pytest.raises(InvalidTypeError, match="float32"):
        tvl1(good.float(), good)
    with pytest.raises(InvalidInputError, match=r"\(1, 20, 31\)"):
        tvl1(good, torch.zeros(1, 20, 31, dtype=torch.uint8))
    with pytest.raises(InvalidInputError, match="at least 16x16"):
        tvl1(good[:, :15], good[:, :15])
    assert tvl1(good[:0], good[:0]).shape == (0, 2, 20, 30)


def test_fallback_to_torch_without_numba_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quovadis.flow.tvl1.find_spec", lambda name: None)
    implementation_for.cache_clear()
    try:
        with pytest.warns(UserWarning, match="numba is not installed"):
            assert implementation_for("cpu") is tvl1_reference
        assert implementation_for("cpu") is tvl1_reference  # warns only once
    finally:
        implementation_for.cache_clear()
