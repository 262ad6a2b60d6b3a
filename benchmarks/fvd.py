"""How close is quovadis to other implementations of the Frechet Video Distance, and how fast is it next to them?

    python -m benchmarks.fvd agreement [--common-metrics CHECKOUT]
    python -m benchmarks.fvd speed
    python -m benchmarks.fvd golden --common-metrics CHECKOUT   # writes tests/golden/fvd/peers.json

Peers, with the weights of quovadis in their own format: the package cd-fvd (``pip install cd-fvd``; only its I3D is
used), and a checkout of JunyaoHu/common_metrics_on_video_quality. ``agreement`` compares features and distances on
windows of real clips, and the protocols with each other. ``speed`` embeds the same videos with cd-fvd and quovadis in
turns, from uint8 frames to features. ``golden`` writes the numbers of the peers for synthetic weights and videos.
"""

import quovadis  # noqa: F401, I001  sets the thread policy before torch is imported

import argparse
import contextlib
import importlib
import io
import json
import lzma
import math
import shutil
import statistics
import sys
import tempfile
import time
import types
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.machine import describe_machine
from quovadis.errors import QuovadisError
from quovadis.fvd.distance import frechet_video_distance
from quovadis.fvd.embed import VideoEmbedder
from quovadis.fvd.protocols import FVD_PROTOCOLS
from quovadis.video.reader import VideoReader
from quovadis.weights.catalog import DEFAULT_WEIGHTS
from quovadis.weights.conversion import convert
from quovadis.weights.load import load_model

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "clips"
GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.datasets", "torchvision.datasets.video_utils")

Videos = NDArray[np.uint8]


def import_cd_fvd() -> Any:
    """Import the module ``cdfvd.fvd``; without torchvision, which only its file reader and VideoMAE use."""
    missing = [] if find_spec("torchvision") else list(TORCHVISION)
    for name in missing:
        placeholder = types.ModuleType(name)
        placeholder.transforms = placeholder.VideoClips = None  # type: ignore[attr-defined]
        sys.modules[name] = placeholder
    try:
        return importlib.import_module("cdfvd.fvd")
    finally:
        for name in missing:
            del sys.modules[name]


class CdFvd:
    """cd-fvd with the I3D setting on the CPU."""

    def __init__(self, weights: Path):
        self._module = import_cd_fvd()
        self._weights = str(weights)
        self._peer = self._load()

    def _load(self) -> Any:
        with contextlib.redirect_stdout(io.StringIO()):
            return self._module.cdfvd("i3d", ckpt_path=self._weights, device="cpu", n_fake="full", compute_feats=True)

    def features(self, videos: Videos) -> NDArray[np.float32]:
        stats = self._module.FeatureStats(capture_all=True, capture_mean_cov=True)
        self._module.get_i3d_logits(stats, self._peer.model, videos, device="cpu")
        features: NDArray[np.float32] = stats.get_all()
        return features

    def distance(self, real: Videos, generated: Videos) -> tuple[float, NDArray[np.float32]]:
        """Distance, and features of the real videos."""
        peer = self._load()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's sqrtm: singular matrix, deprecated argument
            value = float(peer.compute_fvd(real, generated))
        return value, peer.real_stats.get_all()


class CommonMetrics:
    """Method ``videogpt`` or ``styleganv`` of common_metrics_on_video_quality on the CPU.

    The second one ships a scripted network, which is replaced by the network of quovadis: what is compared is the
    preprocessing and the distance.
    """

    def __init__(self, checkout: Path, weights: Path, method: str):
        sys.path.insert(0, str(checkout))
        try:
            self._module = importlib.import_module(f"fvd.{method}.fvd")
        finally:
            sys.path.remove(str(checkout))
        if method == "videogpt":
            shutil.copy(weights, checkout / "fvd" / method / "i3d_pretrained_400.pt")
            with contextlib.redirect_stdout(io.StringIO()):
                self._network = self._module.load_i3d_pretrained()
            self._features = self._module.get_fvd_logits
        else:
            model = load_model(weights)
            self._network = lambda x, **_: model(x)
            self._features = self._module.get_fvd_feats

    def distance(self, real: Videos, generated: Videos) -> tuple[float, NDArray[np.float32]]:
        """Distance, and features of the real videos."""
        features = [
            self._features(torch.from_numpy(videos).permute(0, 4, 1, 2, 3).float() / 255, self._network, "cpu")
            for videos in (real, generated)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = self._module.frechet_distance(
                *(torch.clone(x) if isinstance(x, torch.Tensor) else x for x in features)
            )
        return float(value), np.asarray(features[0])


def clip_windows(folder: Path, height: int, width: int, *, num_frames: int = 16, step: int = 32) -> list[Videos]:
    """Windows of the first 64 frames of every clip, resized with antialiasing and cropped at the center."""
    windows = []
    for path in sorted(folder.iterdir()):
        try:
            with VideoReader(path) as reader:
                frames = torch.stack([frame.pixels for frame, _ in zip(reader.frames(), range(64), strict=False)])
        except QuovadisError:
            continue  # not a video
        scale = max(height / frames.shape[2], width / frames.shape[3])
        size = [math.ceil(scale * side) for side in frames.shape[2:]]
        resized = F.interpolate(frames.float(), size=size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        square = resized[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1).numpy()
        starts = range(0, len(square) - num_frames + 1, step)
        windows.append(np.stack([square[start : start + num_frames] for start in starts]))
    return windows


def clip_sets(folder: Path, height: int, width: int) -> tuple[Videos, Videos]:
    """Two sets without a common clip: windows of every second clip, and of the others."""
    windows = clip_windows(folder, height, width)
    return np.concatenate(windows[::2]), np.concatenate(windows[1::2])


def moving_patterns(count: int, *, generated: bool, num_frames: int = 9, height: int = 40, width: int = 56) -> Videos:
    """Videos in integer arithmetic, equal on every machine: sums of sawtooth waves that move."""
    video, t, y, x, channel = np.ogrid[:count, :num_frames, :height, :width, :3]
    waves = (3 + video) * x + (5 + 2 * video) * y + (11 + 3 * video) * t * (channel + 1)
    if generated:
        waves = waves + 2 * x * t + (video + 1) * y * y // 16
    videos: Videos = (waves % 256).astype(np.uint8)
    return videos


@contextlib.contextmanager
def port_weights() -> Iterator[Path]:
    """The default network in the format of pytorch-i3d."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "i3d_pretrained_400.pt"
        convert(DEFAULT_WEIGHTS, path, to="pytorch-i3d")
        yield path


def agreement(arguments: argparse.Namespace) -> None:
    with port_weights() as weights:
        peers = find_peers(weights, arguments.common_metrics)
        for height, width in ((128, 128), (120, 160)):
            real, generated = clip_sets(arguments.clips, height, width)
            print(
                f"\n{len(real)} and {len(generated)} windows of 16 frames of {height}x{width} from real clips\n",
                flush=True,
            )
            print("| protocol | FVD | to reference |\n| --- | --- | --- |")
            values: dict[str, tuple[float, NDArray[np.float32]]] = {}
            for name, rules in FVD_PROTOCOLS.items():
                if not rules.network or (rules.square and height != width):
                    continue
                embedder = VideoEmbedder(name, device="cpu")
                sets = [embedder.embed(videos, batch_size=16) for videos in (real, generated)]
                values[name] = frechet_video_distance(*sets, num_resamples=0).value, sets[0].features
                change = values[name][0] / values["reference"][0] - 1
                print(f"| `{name}` | {values[name][0]:.2f} | {change:+.2%} |", flush=True)
            print("\n| protocol | features | largest feature | FVD, peer | FVD, quovadis | relative difference |")
            print("| --- | --- | --- | --- | --- | --- |")
            for name, peer in peers.items():
                theirs, features = peer.distance(real, generated)
                ours, own_features = values[name]
                print(
                    f"| `{name}` | {abs(features - own_features).max():.1e} | {abs(features).max():.1f} "
                    f"| {theirs:.6f} | {ours:.6f} | {abs(theirs / ours - 1):.1e} |",
                    flush=True,
                )


def find_peers(weights: Path, common_metrics: Path | None) -> dict[str, Any]:
    """Implementations by the name of their protocol."""
    peers: dict[str, Any] = {"cd-fvd": CdFvd(weights)}
    if common_metrics:
        peers["common-metrics"] = CommonMetrics(common_metrics, weights, "styleganv")
        peers["videogpt"] = CommonMetrics(common_metrics, weights, "videogpt")
    return peers


def golden(arguments: argparse.Namespace) -> None:
    real, generated = (moving_patterns(2, generated=value) for value in (False, True))
    numbers = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "i3d_pretrained_400.pt"
        weights.write_bytes(lzma.decompress((GOLDEN / "i3d" / "pytorch_port" / "rgb.pt.xz").read_bytes()))
        for protocol, peer in find_peers(weights, arguments.common_metrics).items():
            distance, features = peer.distance(real, generated)
            numbers[protocol] = {"distance": distance, "features": features[:, :8].astype(float).round(4).tolist()}
    path = GOLDEN / "fvd" / "peers.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(numbers, indent=2) + "\n")


def speed(arguments: argparse.Namespace) -> None:
    real, _ = clip_sets(arguments.clips, 128, 128)
    videos = real[: arguments.videos]
    with port_weights() as weights:
        peer, embedder = CdFvd(weights), VideoEmbedder("cd-fvd", device="cpu")
        works: dict[str, Callable[[], NDArray[np.float32]]] = {
            "cd-fvd": lambda: peer.features(videos),
            "quovadis": lambda: embedder.embed(videos, batch_size=16).features,
        }
        theirs, ours = (work() for work in works.values())  # also loads the networks
        difference = abs(theirs - ours).max()
        print(f"\n{len(videos)} videos of 16 frames of 128x128; largest difference of the features {difference:.1e}")
        print(
            f"{torch.get_num_threads()} threads, {arguments.rounds} rounds in turns; medians (lowest to highest)\n",
            flush=True,
        )
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for _ in range(arguments.rounds):
            for name, work in works.items():
                start = time.perf_counter(), time.process_time()
                work()
                seconds = time.perf_counter() - start[0], time.process_time() - start[1]
                rates[name].append((len(videos) / seconds[0], len(videos) / seconds[1]))
    print("| | cd-fvd | quovadis | ratio, median | lowest ratio of a round |\n| --- | --- | --- | --- | --- |")
    for column, unit in enumerate(("videos per second", "videos per CPU-second")):
        columns = [[rate[column] for rate in rates[name]] for name in works]
        ratios = [mine / other for other, mine in zip(*columns, strict=True)]
        cells = " | ".join(f"{statistics.median(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns)
        print(f"| {unit} | {cells} | {statistics.median(ratios):.2f} | {min(ratios):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("agreement", "speed", "golden"))
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder of videos")
    parser.add_argument("--common-metrics", type=Path, help="checkout of common_metrics_on_video_quality")
    parser.add_argument("--videos", type=int, default=16, help="number of videos (speed)")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(describe_machine())
    {"agreement": agreement, "speed": speed, "golden": golden}[arguments.part](arguments)


if __name__ == "__main__":
    main()
