"""Protocols of the Frechet Video Distance against the implementations that papers report."""

import json
import lzma
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks.fvd import CdFvd, Videos, import_cd_fvd, moving_patterns, port_weights
from quovadis.fvd.distance import frechet_video_distance
from quovadis.fvd.embed import VideoEmbedder
from quovadis.fvd.inputs import open_videos
from quovadis.fvd.protocols import FVD_PROTOCOLS
from quovadis.fvd.sampling import FrameSampling
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.weights import verify
from quovadis.weights.from_tensorflow import to_official
from quovadis.weights.load import load_model
from tests.synthetic import awake

GOLDEN = Path(__file__).parent.parent / "golden"
PROTOCOLS = ("common-metrics", "videogpt", "cd-fvd")


@pytest.fixture
def accept(monkeypatch: pytest.MonkeyPatch) -> Callable[[VideoModel], VideoModel]:
    """Accept another network as the one of the named protocols."""

    def replace_checksums(model: VideoModel) -> VideoModel:
        sums = {name: verify.masked_crc32c(to_official(name, t)) for name, t in model.state_dict().items()}
        monkeypatch.setattr(verify, "official_checksums", lambda: {"rgb_scratch": sums})
        return model

    return replace_checksums


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_the_peers_for_synthetic_weights(
    protocol: str, accept: Callable[[VideoModel], VideoModel], tmp_path: Path
) -> None:
    expected = json.loads((GOLDEN / "fvd" / "peers.json").read_text())[protocol]
    weights = tmp_path / "rgb.pt"
    weights.write_bytes(lzma.decompress((GOLDEN / "i3d" / "pytorch_port" / "rgb.pt.xz").read_bytes()))
    embedder = VideoEmbedder(protocol, weights=accept(load_model(weights)), num_frames=9, device="cpu")
    real, generated = (embedder.embed(moving_patterns(2, generated=value)) for value in (False, True))
    np.testing.assert_allclose(real.features[:, :8], expected["features"], atol=2e-3)
    tolerance = 3e-4 if protocol == "videogpt" else 2e-5  # VideoGPT computes covariances in float32
    distance = frechet_video_distance(real, generated, num_resamples=0).value
    assert distance == pytest.approx(expected["distance"], rel=tolerance)


def resized_by_torch(videos: Videos, size: tuple[int, int]) -> torch.Tensor:
    """Network inputs (N, 3, T, H, W) before cropping."""
    frames = torch.from_numpy(videos).permute(0, 1, 4, 2, 3).flatten(0, 1) / 255
    resized = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
    return (resized * 2 - 1).unflatten(0, videos.shape[:2]).transpose(1, 2)


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_resizing_and_epsilon(protocol: str, tall: bool, accept: Callable[[VideoModel], VideoModel]) -> None:
    """With 64 pixels: 40x56 becomes 64x90 (89.6 rounded up), cropped from column 13 on, or is stretched."""
    model = accept(awake(build_model("i3d_tiny", num_classes=6)))
    videos = moving_patterns(3, generated=False)
    videos = np.ascontiguousarray(videos.swapaxes(2, 3)) if tall else videos
    embedder = VideoEmbedder(protocol, weights=model, num_frames=9, device="cpu")
    found = embedder.embed(videos)
    rules = FVD_PROTOCOLS[protocol]
    if protocol == "cd-fvd":
        x = resized_by_torch(videos, (64, 64))
    else:
        x = resized_by_torch(videos, (90, 64) if tall else (64, 90))
        x = x[:, :, :, 13:77] if tall else x[..., 13:77]
    if protocol != "common-metrics":  # the same as epsilon 1e-5
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.add_(1e-5 - 1e-3)
    with torch.inference_mode():
        np.testing.assert_allclose(found.features, model(x.contiguous()), atol=1e-3)
    assert (found.card.ddof, found.card.protocol) == (rules.ddof, protocol)
    assert ("center crop" in found.card.resize) == rules.center_crop


def test_resolution_of_cd_fvd_is_antialiased_and_truncated(accept: Callable[[VideoModel], VideoModel]) -> None:
    """From 40x56 to 20x28, whose columns 4 to 23 are kept; checked with Pillow, whose filter is the same."""
    videos = moving_patterns(2, generated=True)
    embedder = VideoEmbedder("cd-fvd", weights=accept(awake(build_model("i3d_tiny"))), num_frames=9, resolution_px=20)
    embedded = embedder.embed(videos)
    assert embedded.card.frame_sizes == {"20x20": 2}
    source = open_videos(videos)
    for index, video in enumerate(videos):
        sampled = source.read(index, embedded.card.sampling, lambda frame: frame)
        assert sampled is not None
        for frame, original in zip(sampled.frames, video, strict=True):
            for channel in range(3):
                plane = Image.fromarray(original[..., channel].astype(np.float32))
                expected = np.asarray(plane.resize((28, 20), Image.Resampling.BILINEAR))[:, 4:24]
                difference = expected - frame[channel].numpy()
                assert difference.min() > -0.01
                assert difference.max() < 1.01


def test_protocols_leave_the_network_unchanged(accept: Callable[[VideoModel], VideoModel]) -> None:
    model = accept(awake(build_model("i3d_tiny", num_classes=6)))
    videos = moving_patterns(2, generated=False)
    features = [VideoEmbedder(p, weights=model).embed(videos).features for p in (*PROTOCOLS[:2], PROTOCOLS[0])]
    assert np.array_equal(features[0], features[2])
    assert not np.allclose(features[0], features[1], atol=1e-4)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.parametrize(("num_frames", "published"), [(10, 569.2296), (16, 152.9175), (30, 151.2565)])
def test_published_numbers_of_common_metrics(pretrained: Path, num_frames: int, published: float) -> None:
    """Black against white videos of 64x64, computed by its authors on a GPU; 151.39 with TensorFlow for 30 frames."""
    black = np.zeros((2, num_frames, 64, 64, 3), np.uint8)
    embedder = VideoEmbedder("common-metrics", weights=pretrained)
    sets = [embedder.embed(videos) for videos in (black, black + 255)]
    assert frechet_video_distance(*sets, num_resamples=0).value == pytest.approx(published, rel=2e-3)


@pytest.mark.skipif(not find_spec("cdfvd"), reason="needs the package cd-fvd")
def test_frames_equal_those_of_the_reader_of_cd_fvd() -> None:
    preprocess = import_cd_fvd().get_dataloader.__globals__["preprocess"]
    for height, width in ((40, 56), (57, 41), (33, 33)):
        (video,) = moving_patterns(1, generated=True, height=height, width=width)
        theirs = (preprocess(torch.from_numpy(video), 32)["video"] * 255).byte()
        ours = open_videos(video[None]).read(0, FrameSampling(resolution_px=32, resampling="bilinear"), lambda f: f)
        assert ours is not None
        assert torch.equal(ours.frames.transpose(0, 1), theirs)


@pytest.mark.pretrained
@pytest.mark.slow
@pytest.mark.skipif(not find_spec("cdfvd"), reason="needs the package cd-fvd")
def test_cd_fvd(pretrained: Path) -> None:
    real, generated = (moving_patterns(3, generated=value, num_frames=16) for value in (False, True))
    with port_weights() as weights:
        expected, features = CdFvd(weights).distance(real, generated)
    embedder = VideoEmbedder("cd-fvd", weights=pretrained, device="cpu")
    sets = [embedder.embed(videos, role="real") for videos in (real, generated)]
    np.testing.assert_allclose(sets[0].features, features, atol=5e-4)
    assert frechet_video_distance(*sets, num_resamples=0).value == pytest.approx(expected, rel=1e-4)
