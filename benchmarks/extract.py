"""How fast is feature extraction, and is its memory bounded for long videos?

    python -m benchmarks.extract [--part memory | --part speed]

*Memory*: peak resident memory (VmHWM) of new processes that extract features of 720p videos of 1 and 60 minutes, in
windows and with convolution over the whole video. The long video repeats the packets of a ten-second segment. The
defaults (5 fps, tiny network, batches of 64 frames) make the short video many batches long; ``--fps 25 --model i3d
--batch-frames 512`` takes hours on a CPU.

*Speed*: windows per second of the full network on a 720p video. Peer: the method of video_features, reimplemented here
with the same weights (PIL resizes each frame, paddings are copies, PyTorch's default layout, one window at a time, no
overlap of decoding and network). Interleaved, medians over the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.plain_port import PlainPort
from quovadis import transforms
from quovadis.inference.extract import ExtractJob, extract_video
from quovadis.inference.feature_files import files_for
from quovadis.inference.feature_presets import FEATURE_PRESETS
from quovadis.inference.features import FeatureExtractor
from quovadis.models.i3d import I3D
from quovadis.models.zoo import build_model
from quovadis.video.reader import VideoReader
from quovadis.video.writer import write_video

HEIGHT, WIDTH = 720, 1280
SEGMENT_SECONDS = 10


def moving_images(num_frames: int) -> Iterator[Tensor]:
    """Yield frames of a drifting smooth texture with a moving disc, uint8 (3, 720, 1280)."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((1, 3, 24, 44), dtype=np.float32))
    large = F.interpolate(small, size=(HEIGHT + 100, WIDTH + 200), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    for t in range(num_frames):
        frame = large[0, :, t % 100 : t % 100 + HEIGHT, t % 200 : t % 200 + WIDTH].clone()
        disc = (rows - 360) ** 2 + (columns - (100 + 11 * t) % WIDTH) ** 2 < 90**2
        frame[:, disc] = torch.tensor([[250], [240], [60]], dtype=torch.uint8)
        yield frame


def write_long(segment: Path, path: Path, minutes: float) -> None:
    """Write a long video by repeating the packets of a short one with shifted timestamps."""
    repeats = round(minutes * 60 / SEGMENT_SECONDS)
    with av.open(str(path), "w") as target:
        copy: av.VideoStream | None = None
        for index in range(repeats):
            with av.open(str(segment)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                assert stream.time_base is not None
                offset = round(index * SEGMENT_SECONDS / stream.time_base)
                for packet in source.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = copy
                    target.mux(packet)


def peak_bytes() -> int:
    """Return the peak resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report the peak memory of a process")


def child(arguments: argparse.Namespace) -> None:
    """Extract features of one video, and print the memory and time as JSON."""
    torch.manual_seed(0)
    preset = FEATURE_PRESETS["quovadis"].with_options(fps=arguments.fps)
    preset = preset.whole() if arguments.whole else preset.with_options(window=16, stride=arguments.stride)
    model = build_model(arguments.model, num_classes=400)
    extractor = FeatureExtractor([model], preset, device="cpu", batch_frames=arguments.batch_frames)
    with tempfile.TemporaryDirectory() as folder:
        job = ExtractJob(arguments.child, tuple(files_for(Path(folder), "v", preset, ("rgb",))))
        start = time.perf_counter()
        result = extract_video(job, extractor)
        seconds = time.perf_counter() - start
    assert not result.error, result.error
    (shape,) = result.shapes.values()
    print(json.dumps({"bytes": peak_bytes(), "rows": shape[0], "seconds": seconds}))


def measure_memory(folder: Path, arguments: argparse.Namespace) -> None:
    fps = arguments.fps
    images = moving_images(round(SEGMENT_SECONDS * fps))
    segment = write_video(folder / "segment.mp4", images, fps=fps, options={"g": "50"})
    videos = {}
    for minutes in arguments.minutes:
        videos[minutes] = folder / f"{minutes:g}.mp4"
        write_long(segment, videos[minutes], minutes)
    print(f"\nMemory: {WIDTH}x{HEIGHT} at {fps:g} fps, {arguments.model}, batches of {arguments.batch_frames} frames\n")
    print("| method | minutes | rows | seconds | peak MiB | to the first |\n| --- | --- | --- | --- | --- | --- |")
    for whole in (False, True):
        first = 0
        for minutes, path in videos.items():
            command = [sys.executable, "-m", "benchmarks.extract", "--child", str(path), "--model", arguments.model]
            for name in ("fps", "stride", "batch_frames"):
                command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
            command += ["--whole"] if whole else []
            result = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
            first = first or result["bytes"]
            name = "whole video" if whole else f"windows of 16, stride {arguments.stride}"
            print(
                f"| {name} | {minutes:g} | {result['rows']} | {result['seconds']:.0f} | {result['bytes'] / 2**20:.0f} "
                f"| {result['bytes'] / first - 1:+.1%} |",
                flush=True,
            )


def extract_like_video_features(model: PlainPort, path: Path, window: int) -> list[Tensor]:
    """Extract features with the method of video_features."""
    rows, stack = [], []
    with VideoReader(path) as reader, torch.inference_mode():
        for frame in reader.frames():
            image = Image.fromarray(frame.pixels.permute(1, 2, 0).numpy())
            size = round(image.width * 256 / image.height), 256
            image = image.resize(size, Image.Resampling.BILINEAR)
            stack.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).float())
            if len(stack) == window + 1:
                frames = torch.stack(stack[:-1])
                top, left = (frames.shape[2] - 224) // 2, (frames.shape[3] - 224) // 2
                x = frames[:, :, top : top + 224, left : left + 224] * 2 / 255 - 1
                rows.append(model.features(x.transpose(0, 1)[None].contiguous()))
                stack = stack[window:]
    return rows


def measure_speed(folder: Path, arguments: argparse.Namespace) -> None:
    torch.manual_seed(0)
    ours = I3D(num_classes=400).eval()
    model = PlainPort(ours)
    check = transforms.to_model(torch.randint(0, 256, (16, 3, 224, 224), dtype=torch.uint8))[None]
    with torch.inference_mode():
        torch.testing.assert_close(model.features(check), ours.features(check).mean(1), atol=1e-4, rtol=1e-3)
    print(f"\nSpeed: full network, {WIDTH}x{HEIGHT}, CPU, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print(f"Backend of quovadis: {arguments.backend}")
    print("\n| windows | | method of video_features | quovadis | ratio |\n| --- | --- | --- | --- | --- |")
    for window, count in ((64, 3), (16, 10)):
        path = write_video(folder / f"{window}.mp4", moving_images(window * count + 1), fps=25)
        preset = FEATURE_PRESETS["video-features"].with_options(window=window, stride=window)
        extractor = FeatureExtractor([ours], preset, device="cpu", backend=arguments.backend)
        methods: dict[str, Callable[[], int]] = {
            "theirs": lambda: len(extract_like_video_features(model, path, window)),  # noqa: B023
            "ours": lambda: len(extractor.extract(path)),  # noqa: B023
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
        for _ in range(arguments.rounds):
            for name, work in methods.items():
                start = time.perf_counter(), time.process_time()
                num_rows = work()
                seconds = time.perf_counter() - start[0], time.process_time() - start[1]
                rates[name].append((num_rows / seconds[0], num_rows / seconds[1]))
                assert num_rows == count
        for column, unit in enumerate(("windows per second", "windows per CPU-second")):
            theirs, mine = (statistics.median(r[column] for r in rates[name]) for name in methods)
            windows = f"{count} of {window} frames"
            print(f"| {windows} | {unit} | {theirs:.3f} | {mine:.3f} | {mine / theirs:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60], help="lengths of the videos (memory)")
    parser.add_argument("--fps", type=float, default=5.0, help="frame rate of the videos (memory)")
    parser.add_argument("--model", default="i3d_tiny", help="network (memory)")
    parser.add_argument("--stride", type=int, default=16, help="stride of the windows (memory)")
    parser.add_argument("--batch-frames", type=int, default=64, help="frames per batch (memory)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--backend", choices=("torch", "compile", "openvino"), default="torch", help="backend of quovadis (speed)"
    )
    parser.add_argument("--part", choices=("memory", "speed", "both"), default="both")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        child(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.part != "memory":
            measure_speed(Path(folder), arguments)
        if arguments.part != "speed":
            measure_memory(Path(folder), arguments)


if __name__ == "__main__":
    main()
