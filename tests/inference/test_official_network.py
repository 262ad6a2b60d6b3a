"""The official network on real videos: predictions, FVD, and agreement of all backends."""

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.pretrained import CLIPS
from quovadis import transforms
from quovadis.export.export import export_model
from quovadis.export.formats import FORMATS
from quovadis.fvd.distance import frechet_video_distance
from quovadis.fvd.embed import VideoEmbedder
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.features import FeatureExtractor
from quovadis.inference.recognizer import Recognizer
from quovadis.models.i3d import I3D
from quovadis.models.optimization import InferenceModel, fold_batch_norm, optimize
from quovadis.models.video_model import VideoModel
from quovadis.video.read import probe, read_clip
from quovadis.video.resize import resize_frames

pytestmark = [pytest.mark.pretrained, pytest.mark.slow]

SMALL_PX = 112
"""Side of the crops of tests that run many frames."""

RECOGNIZED = {name: actions for name, actions in CLIPS.items() if name != "ucf_BaseballPitch_g01_c01.avi"}

NUM_FRAMES = {
    "k400_WUzgd7C1pWA.mp4": 64,
    **dict.fromkeys(("mm_demo.mp4", "k400_R6llTwEh07w.mp4", "k_Kop0sDqOn-c.mp4"), 16),
    **dict.fromkeys(("k_tai_chi.mp4", "k_clean_and_jerk.mp4", "vf_GGSY1Qvo990.mp4"), 16),
}
"""Frames of the clips that need more or fewer than 32."""


@pytest.fixture(scope="module")
def recognizer(official: VideoModel) -> Recognizer:
    return Recognizer([official], official.labels, device="cpu")


@pytest.fixture(scope="module")
def clips(shared: Path) -> Path:
    return shared / "data" / "clips"


@pytest.fixture(scope="module")
def real(clips: Path, recognizer: Recognizer) -> Tensor:
    """Float32 (1, 3, 16, 224, 224): tai chi."""
    clip = read_clip(clips / "k_tai_chi.mp4", start_seconds=5.0, num_frames=16, transform=recognizer.read_transform())
    return transforms.to_model(transforms.center_crop(clip, 224).frames[None])


@pytest.fixture(scope="module")
def expected(official: VideoModel, real: Tensor) -> Tensor:
    with torch.inference_mode():
        return official(real)[0]


@pytest.mark.parametrize(("name", "actions"), RECOGNIZED.items(), ids=RECOGNIZED)
def test_middle_of_a_real_clip_is_recognized(
    recognizer: Recognizer, clips: Path, name: str, actions: tuple[str, ...]
) -> None:
    """Uses as few frames as possible; ``benchmarks.pretrained`` uses the default of ten seconds."""
    num_frames = NUM_FRAMES.get(name, 32)
    start = probe(clips / name).duration_seconds / 2 - num_frames / 50
    clip = read_clip(clips / name, start_seconds=start, num_frames=num_frames, transform=recognizer.read_transform())
    assert recognizer.labels[int(recognizer.logits(clip).argmax())] in actions


@pytest.mark.parametrize(("num_frames", "distance"), [(15, 133.908), (16, 152.902)])
def test_fvd_of_black_and_white_videos(
    official: VideoModel, recognizer: Recognizer, num_frames: int, distance: float
) -> None:
    """The videos of a set are equal, so the distance is the squared distance of two points."""
    black = np.zeros((2, num_frames, 64, 64, 3), np.uint8)
    embedder = VideoEmbedder(weights=official, device="cpu")
    sets = embedder.embed(black, role="real"), embedder.embed(black + 255)
    result = frechet_video_distance(*sets, num_resamples=0)
    (network,) = recognizer.models
    points = network(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 3, num_frames, 224, 224)).double()
    assert result.value == pytest.approx(distance, abs=2e-3)
    assert result.value == pytest.approx(float((points[0] - points[1]).square().sum()), rel=1e-5)


def test_optimize_changes_no_logit(recognizer: Recognizer, real: Tensor, expected: Tensor) -> None:
    (optimized,) = recognizer.models
    assert isinstance(optimized, InferenceModel)
    torch.testing.assert_close(optimized(real)[0], expected, atol=1e-4, rtol=0)


def test_openvino_changes_no_logit(official: VideoModel, real: Tensor, expected: Tensor) -> None:
    pytest.importorskip("openvino")
    found = optimize(official, backend="openvino")(real)[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.skipif(not importlib.util.find_spec("onnxscript"), reason="needs the extra export")
def test_an_onnx_export_gives_the_logits(official: VideoModel, real: Tensor, expected: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "official.onnx"
    export_model(official, path, num_frames=16, dynamic_axes=())
    logits, _ = FORMATS["onnx"].open(path.read_bytes())(real)
    torch.testing.assert_close(logits[0], expected, atol=1e-4, rtol=0)


def rounded(model: VideoModel, dtype: torch.dtype) -> VideoModel:
    """A copy whose convolutions round weights, inputs and outputs: quick and equal on processors without ``dtype``."""
    network = copy.deepcopy(model)
    fold_batch_norm(network)
    for name, conv in network.named_modules():
        if isinstance(conv, nn.Conv3d) and not name.startswith("head"):
            conv.weight.data = conv.weight.data.to(dtype).float()
            conv.register_forward_pre_hook(lambda _, x: (x[0].to(dtype).float(),))
            conv.register_forward_hook(lambda _, __, y: y.to(dtype).float())
    return network


def test_bfloat16_changes_the_answer_for_a_real_clip_little(
    official: VideoModel, real: Tensor, expected: Tensor
) -> None:
    with torch.inference_mode():
        found = rounded(official, torch.bfloat16)(real)[0]
    drift = (found - expected).abs() / expected.std()
    assert 1e-4 < float(drift.max()) < 0.1
    assert float((found.softmax(0) - expected.softmax(0)).abs().max()) < 0.05
    assert found.argmax() == expected.argmax()


@pytest.fixture(scope="module")
def small(official: VideoModel) -> VideoModel:
    """The official weights for crops of 112 pixels, a quarter of the work."""
    model = I3D(spec=replace(official.spec, size_px=SMALL_PX, short_side_px=SMALL_PX + 16))
    model.load_state_dict(official.state_dict())
    return model.eval()


def small_input(model: VideoModel, path: Path, num_frames: int | None = None) -> Tensor:
    """The frames of a video as the small network takes them, float32 (3, T, 112, 112)."""
    clip = read_clip(path, num_frames=num_frames, transform=lambda x: resize_frames(x, model.spec.short_side_px))
    return transforms.to_model(transforms.center_crop(clip, SMALL_PX).frames[None])[0]


def test_features_of_a_real_video_do_not_depend_on_how_it_is_cut(small: VideoModel, clips: Path) -> None:
    """164 frames in memory, and in chunks of 64 new frames; each row depends on 107 frames."""
    path, whole = clips / "ucf_ApplyEyeMakeup_g01_c01.avi", FEATURE_PRESETS["quovadis"].whole()
    found = FeatureExtractor([small], whole, device="cpu", batch_frames=64).extract(path).features["rgb"][:, 0]
    expected = optimize(small).features(small_input(small, path)[None])[0]
    assert found.shape == expected.shape == (20, 1024)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_windows_of_a_real_video_are_those_of_the_video_in_memory(small: VideoModel, clips: Path) -> None:
    path, windows = clips / "hmdb_wave_RATRACE.avi", FEATURE_PRESETS["quovadis"].with_options(window=24, stride=12)
    found = FeatureExtractor([small], windows, device="cpu", batch_frames=50).extract(path).features["rgb"][:, 0]
    x = small_input(small, path)
    inputs = torch.stack([x[:, s : s + 24] for s in range(0, x.shape[1] - 23, 12)])
    expected = optimize(small).features(inputs).mean(1)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_class_maps_of_a_real_clip_pool_to_the_logits(small: VideoModel, clips: Path) -> None:
    """24 frames give three steps, of which the pooling leaves two."""
    x = small_input(small, clips / "k_tai_chi.mp4", num_frames=24)[None]
    with torch.inference_mode():
        maps, logits = small.class_maps(x), small(x)
    assert maps.shape == (1, 400, 3, 4, 4)
    torch.testing.assert_close(small.pool_class_maps(maps), logits, atol=1e-4, rtol=0)
