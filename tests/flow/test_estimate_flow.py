"""estimate_flow: conventions, batches, methods, invalid input."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from quovadis.errors import InvalidInputError, InvalidTypeError, MissingExtraError, TooFewFramesError, UnknownNameError
from quovadis.flow import estimate
from quovadis.flow.estimate import estimate_flow, flow_for_clip, to_gray
from quovadis.flow.parameters import METHODS, TVL1Parameters
from quovadis.transforms import flip_left_right
from quovadis.video.clip import Clip
from tests.flow.oracle import waves


def test_channel_0_points_right_and_channel_1_down() -> None:
    flow = estimate_flow(waves(3, 64, 80, (1.5, -0.75)))
    assert flow.shape == (2, 2, 64, 80)
    assert flow.dtype == torch.float32
    inside = flow[:, :, 16:-16, 16:-16].mean((0, 2, 3))
    assert inside.tolist() == pytest.approx([1.5, -0.75], abs=0.05)


def test_mirroring_the_clip_mirrors_its_flow() -> None:
    clip = Clip(waves(3, 48, 64, (2, 1)), torch.arange(3) / 25)
    one = flip_left_right(flow_for_clip(clip)).flow
    other = flow_for_clip(flip_left_right(clip)).flow
    assert (one - other).norm(dim=1).median() < 0.02


def test_last_flow_is_repeated() -> None:
    clip = Clip(waves(3, 32, 40, (1, 0)), torch.arange(3) / 25, source="v.mp4")
    with_flow = flow_for_clip(clip)
    assert torch.equal(with_flow.flow[:2], estimate_flow(clip.frames))
    assert torch.equal(with_flow.flow[2], with_flow.flow[1])
    assert with_flow.source == "v.mp4"


@pytest.mark.parametrize("pairs_per_batch", [1, 2, 3, 64])
def test_clips_share_batches_and_results_do_not_change(pairs_per_batch: int) -> None:
    parameters = TVL1Parameters(num_warps=1)
    clips = [waves(3, 24, 32, (1, 0)), waves(2, 20, 24, (0, 1)), waves(4, 24, 32, (-1, 0.5), seed=1)]
    flows = estimate_flow(clips, parameters=parameters, pairs_per_batch=pairs_per_batch)
    assert [len(flow) for flow in flows] == [2, 1, 3]
    for clip, flow in zip(clips, flows, strict=True):
        assert torch.equal(flow, estimate_flow(clip, parameters=parameters))


def test_pairs_of_many_clips_go_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def count(first: torch.Tensor, second: torch.Tensor, parameters: TVL1Parameters | None) -> torch.Tensor:
        sizes.append(len(first))
        return torch.zeros(len(first), 2, *first.shape[1:])

    monkeypatch.setattr(estimate, "tvl1", count)
    clip = torch.zeros(4, 3, 20, 20, dtype=torch.uint8)
    estimate_flow([clip, clip, clip], pairs_per_batch=8)
    assert sizes == [8, 1]


def test_batches_are_halved_when_the_gpu_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def small_gpu(first: torch.Tensor, second: torch.Tensor, parameters: TVL1Parameters | None) -> torch.Tensor:
        if len(first) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(first))
        return first[:, None].float() + torch.zeros(2, 1, 1)

    monkeypatch.setattr(estimate, "tvl1", small_gpu)
    frames = torch.arange(12, dtype=torch.uint8)[:, None, None, None].expand(12, 3, 16, 16).contiguous()
    with pytest.warns(UserWarning, match="10 frame pairs exceed the memory") as warned:
        flow = estimate_flow(frames, pairs_per_batch=10)
    assert len(warned) == 1
    assert sizes == [2, 2, 2, 2, 2, 1]
    assert flow[:, 0, 0, 0].tolist() == list(range(11))


def test_out_of_memory_for_one_pair_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(first: torch.Tensor, second: torch.Tensor, parameters: TVL1Parameters | None) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(estimate, "tvl1", full)
    with pytest.raises(torch.OutOfMemoryError):
        estimate_flow(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


def test_flow_across_a_scene_cut_is_finite() -> None:
    frames = torch.stack([waves(1, 40, 50, (0, 0), seed=s)[0] for s in range(2)])
    assert estimate_flow(frames).isfinite().all()


def test_gray_is_rounded_bt601() -> None:
    frames = torch.randint(0, 256, (4, 3, 50, 60), dtype=torch.uint8)
    exact = np.einsum("tchw,c->thw", frames.double().numpy(), [0.299, 0.587, 0.114])
    gray = to_gray(frames)
    assert gray.dtype == torch.uint8
    assert np.abs(gray.numpy() - exact).max() < 0.51
    assert to_gray(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).item() == 255


def test_gray_equals_opencv() -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'opencv'")
    frames = torch.randint(0, 256, (3, 3, 60, 70), dtype=torch.uint8)
    for frame, gray in zip(frames, to_gray(frames), strict=True):
        assert np.array_equal(cv2.cvtColor(frame.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY), gray.numpy())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_estimates_a_translation(method: str) -> None:
    if method != "tvl1":
        pytest.importorskip("cv2", reason="needs the extra 'opencv'")
    flow = estimate_flow(waves(2, 64, 80, (1.5, -0.75)), method)
    assert flow.shape == (1, 2, 64, 80)
    assert flow.dtype == torch.float32
    assert flow[0, :, 16:-16, 16:-16].mean((1, 2)).tolist() == pytest.approx([1.5, -0.75], abs=0.15)


def test_opencv_tvl1_uses_the_parameters() -> None:
    pytest.importorskip("cv2", reason="needs the extra 'opencv'")
    frames = waves(2, 48, 64, (1.5, -0.75))
    parameters = TVL1Parameters(
        time_step=0.2, attachment=0.02, tightness=0.4, num_scales=3, scale_step=0.6, num_warps=3,
        num_outer_iterations=4, num_inner_iterations=15, stop_change_px=0.003, median_size_px=3,
    )  # fmt: skip
    ours, theirs = (estimate_flow(frames, method, parameters=parameters) for method in ("tvl1", "opencv-tvl1"))
    near, far = (ours - theirs).norm(dim=1).mean(), (ours - estimate_flow(frames)).norm(dim=1).mean()
    assert near < 0.02
    assert far > 3 * near  # they do change something


def test_missing_opencv_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[opencv\]"):
        estimate_flow(torch.zeros(2, 3, 16, 16, dtype=torch.uint8), "dis")


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        (torch.zeros(2, 3, 20, 20), InvalidTypeError, "float32"),
        (torch.full((2, 3, 20, 20), torch.nan), InvalidTypeError, "NaN"),
        (np.zeros((2, 3, 20, 20), np.uint8), InvalidTypeError, "ndarray"),
        (torch.zeros(2, 20, 20, dtype=torch.uint8), InvalidInputError, "gray"),
        (torch.zeros(2, 1, 20, 20, dtype=torch.uint8), InvalidInputError, "gray"),
        (torch.zeros(2, 20, 20, 3, dtype=torch.uint8), InvalidInputError, "permute"),
        (torch.zeros(1, 3, 20, 20, dtype=torch.uint8), TooFewFramesError, "1 frame;.*at least 2"),
        (torch.zeros(0, 3, 20, 20, dtype=torch.uint8), TooFewFramesError, "0 frames"),
        (torch.zeros(2, 3, 20, 15, dtype=torch.uint8), InvalidInputError, "20x15 are too small"),
        ("video.mp4", InvalidTypeError, "str"),
        ([torch.zeros(3, 20, 20, dtype=torch.uint8), torch.zeros(3, 20, 21, dtype=torch.uint8)], InvalidInputError,
         r"frames\[0\] must have shape"),
    ],
)  # fmt: skip
def test_invalid_frames_are_refused(frames, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_flow(frames)


def test_invalid_arguments_are_refused() -> None:
    frames = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    with pytest.raises(UnknownNameError, match="'tvl1'"):
        estimate_flow(frames, "tvll")
    with pytest.raises(InvalidInputError, match="pairs_per_batch"):
        estimate_flow(frames, pairs_per_batch=0)
    with pytest.raises(TooFewFramesError, match=r"v\.mp4 has 1 frame"):
        flow_for_clip(Clip(frames[:1], torch.zeros(1), source="v.mp4"))


@pytest.mark.slow
def test_kernels_compile_without_a_cache_folder() -> None:
    """Without a writable source or home folder, nothing is cached."""
    code = (
        "import numba.core.caching\n"
        "numba.core.caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from quovadis.flow.tvl1_numba import _cubic_weights\n"
        "print([float(w) for w in _cubic_weights(np.float32(0.5))])\n"
    )
    printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert printed.strip() == "[-0.09375, 0.59375, 0.59375, -0.09375]"
