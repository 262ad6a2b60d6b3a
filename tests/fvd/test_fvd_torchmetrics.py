import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, TooFewFramesError
from quovadis.fvd import FrechetVideoDistance, KernelVideoDistance, VideoEmbedder, VideoPrecisionRecall
from quovadis.metrics import frechet_distance, kernel_video_distance, precision_recall
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from tests.launch import launch

METRICS: list[type[Any]] = [FrechetVideoDistance, KernelVideoDistance, VideoPrecisionRecall]
each_metric = pytest.mark.parametrize("metric_class", METRICS)


@pytest.fixture(scope="module")
def model() -> VideoModel:
    torch.manual_seed(0)
    return build_model("i3d_tiny", num_classes=3)


@pytest.fixture(scope="module")
def videos() -> tuple[Tensor, Tensor]:
    """Real and generated videos of random patterns of different contrast."""
    rng = np.random.default_rng(0)
    real, generated = (
        np.clip(rng.uniform(0, 255, (n, 1, 1, 1, 3)) + rng.normal(0, s, (n, 9, 32, 32, 3)), 0, 255).astype(np.uint8)
        for n, s in ((9, 30), (8, 60))
    )
    return torch.from_numpy(real), torch.from_numpy(generated)


def values(result: Any) -> list[float]:
    return [float(v) for v in result.values()] if isinstance(result, dict) else [float(result)]


def computed(metric: Any, real: Tensor, generated: Tensor, split: int = 100) -> list[float]:
    for name, part in ((True, real), (False, generated)):
        for batch in part.split(split):
            metric.update(batch, real=name)
    return values(metric.compute())


EXPECTED: dict[type[Any], Callable[[Any, Any], Any]] = {
    FrechetVideoDistance: lambda x, y: [frechet_distance(x, y)],
    KernelVideoDistance: lambda x, y: [kernel_video_distance(x, y)],
    VideoPrecisionRecall: lambda x, y: list(precision_recall(x, y)),
}


@each_metric
def test_any_batch_split_equals_the_function(
    metric_class: type[Any], model: VideoModel, videos: tuple[Tensor, Tensor]
) -> None:
    embedder = VideoEmbedder("own", weights=model, device="cpu")
    features = [embedder.embed(v, batch_size=1).features for v in videos]
    expected = EXPECTED[metric_class](*features)
    for split in (1, 4, 100):
        metric = metric_class("own", weights=model, batch_size=1)
        assert computed(metric, *videos, split) == pytest.approx(expected, rel=1e-9)
        assert metric.compute() is metric.compute()  # cached by torchmetrics


@pytest.mark.filterwarnings("ignore:The ``compute`` method")  # by torchmetrics, before the error
@each_metric
def test_reset_keeps_real_features(metric_class: type[Any], model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    metric = metric_class("own", weights=model, reset_real_features=False)
    before = computed(metric, *videos)
    metric.reset()
    with pytest.raises(InvalidInputError, match="got 9 and 0"):
        metric.compute()
    metric.update(videos[1], real=False)
    assert values(metric.compute()) == pytest.approx(before, rel=1e-9)
    metric.reset_real_features = True
    metric.reset()
    with pytest.raises(InvalidInputError, match="got 0 and 0"):
        metric.compute()


@each_metric
def test_copies_continue(metric_class: type[Any], model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    metric = metric_class("own", weights=model)
    metric.update(videos[0], real=True)
    metric.update(videos[1][:3], real=False)
    restored = metric_class("own", weights=model)
    metric.persistent(True)
    restored.load_state_dict(metric.state_dict())
    copies = [metric.clone(), pickle.loads(pickle.dumps(metric)), restored]
    for copy in (metric, *copies):
        copy.update(videos[1][3:], real=False)
    for copy in copies:
        assert values(copy.compute()) == pytest.approx(values(metric.compute()), rel=1e-9)
    assert not metric_class("own", weights=model).state_dict()


@pytest.mark.parametrize("metric_class", [KernelVideoDistance, VideoPrecisionRecall])
def test_maximum_number_of_videos(metric_class: type[Any], model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    real, generated = videos
    first = computed(metric_class("own", weights=model, batch_size=1), real[:5], generated[:5])
    assert computed(metric_class("own", weights=model, batch_size=1, max_videos=5), real, generated, 3) == first


def test_half_precision_is_close(model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    full, half = (FrechetVideoDistance("own", weights=model, precision=p) for p in ("float32", "bfloat16"))
    (expected,), (found,) = computed(full, *videos), computed(half, *videos)
    assert found != expected
    assert found == pytest.approx(expected, rel=0.1)


def test_errors(model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InvalidInputError, match="at least 4 real and 4 generated videos; got 3 and 8"):
        computed(VideoPrecisionRecall("own", weights=model), videos[0][:3], videos[1])
    with pytest.raises(TooFewFramesError, match="at least 12 frames; got 9"):
        FrechetVideoDistance("own", weights=model, num_frames=12).update(videos[0], real=True)
    with pytest.raises(InvalidInputError, match="precision must be"):
        FrechetVideoDistance("own", weights=model, precision="int8")
    with pytest.raises(InvalidInputError, match="max_videos must be at least 2"):
        KernelVideoDistance("own", weights=model, max_videos=1)


_PROCESS = """
import os, torch
import torch.distributed as dist
from quovadis.fvd import FrechetVideoDistance, KernelVideoDistance, VideoPrecisionRecall
from quovadis.models.zoo import build_model

dist.init_process_group("gloo")
rank = dist.get_rank()
data = torch.load({path!r})
model = build_model("i3d_tiny", num_classes=3)
model.load_state_dict(data["model"])
for metric_class in (FrechetVideoDistance, KernelVideoDistance, VideoPrecisionRecall):
    metric = metric_class("own", weights=model, batch_size=1)
    metric.update(data["real"][rank::2], real=True)
    if rank == 0:  # the other process has no generated videos
        metric.update(data["generated"], real=False)
    result = metric.compute()
    print(*(float(v) for v in (result.values() if isinstance(result, dict) else [result])))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(model: VideoModel, videos: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "data.pt"
    torch.save({"model": model.state_dict(), "real": videos[0], "generated": videos[1]}, path)
    processes = launch(_PROCESS.format(path=str(path)), 2)
    assert [p.code for p in processes] == [0, 0], processes[0].stderr + processes[1].stderr
    expected = [computed(c("own", weights=model, batch_size=1), *videos) for c in METRICS]
    for process in processes:
        lines = [[float(v) for v in line.split()] for line in process.stdout.splitlines()]
        for found, wanted in zip(lines, expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-9)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@each_metric
def test_moves_between_devices(metric_class: type[Any], model: VideoModel, videos: tuple[Tensor, Tensor]) -> None:
    expected = computed(metric_class("own", weights=model), *videos)
    metric = metric_class("own", weights=model).to("cuda")
    assert computed(metric, videos[0].cuda(), videos[1]) == pytest.approx(expected, rel=1e-3)
    assert values(metric.cpu().compute()) == pytest.approx(expected, rel=1e-3)
