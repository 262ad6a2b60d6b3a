"""Feature extraction: does memory grow with the video, and how fast is it? ``python -m benchmarks.extract``.

*Memory*: peak resident memory (VmHWM) of fresh processes that extract a video of 1 and of 60 minutes in 720p, one in
windows and one convolved over the whole. The long video is one stretch of ten seconds, its packets repeated. By default
the videos have 5 fps, the network is the tiny one, and 64 frames are in it at a time, so that the short video is many
batches long; ``--fps 25 --model i3d --batch-frames 512`` is the full thing, and takes hours on a CPU.

*Speed*: windows a second of the full network on one 720p video, ours beside the way of video_features, rebuilt here on
the same weights: PIL resizes each frame, padding copies, PyTorch's default layout, one window at a time, each step
after the other. Interleaved, median of the rounds.
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
STRETCH_SECONDS = 10


def moving_picture(num_frames: int) -> Iterator[Tensor]:
    """A smooth picture that drifts, with a disc that runs over it: uint8 (3, 720, 1280) each."""
    rng = np.random.default_rng(0)
    small = torch.from_numpy(rng.random((1, 3, 24, 44), dtype=np.float32))
    large = F.interpolate(small, size=(HEIGHT + 100, WIDTH + 200), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    for t in range(num_frames):
        frame = large[0, :, t % 100 : t % 100 + HEIGHT, t % 200 : t % 200 + WIDTH].clone()
        disc = (rows - 360) ** 2 + (columns - (100 + 11 * t) % WIDTH) ** 2 < 90**2
        frame[:, disc] = torch.tensor([[250], [240], [60]], dtype=torch.uint8)
        yield frame


def write_long(stretch: Path, path: Path, minutes: float) -> None:
    """The packets of a short video again and again, with their times moved on."""
    repeats = round(minutes * 60 / STRETCH_SECONDS)
    with av.open(str(path), "w") as target:
        copy: av.VideoStream | None = None
        for number in range(repeats):
            with av.open(str(stretch)) as source:
                stream = source.streams.video[0]
                copy = copy or target.add_stream_from_template(stream)
                assert stream.time_base is not None
                offset = round(number * STRETCH_SECONDS / stream.time_base)
                for packet in source.demux(stream):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = copy
                    target.mux(packet)


def peak_bytes() -> int:
    """Most memory that this process ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say how much memory a process held")


def child(arguments: argparse.Namespace) -> None:
    """Extract one video, and say how much memory it took."""
    torch.manual_seed(0)
    preset = FEATURE_PRESETS["quovadis"].but(fps=arguments.fps)
    preset = preset.whole() if arguments.whole else preset.but(window=16, stride=arguments.stride)
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
    pictures = moving_picture(round(STRETCH_SECONDS * fps))
    stretch = write_video(folder / "stretch.mp4", pictures, fps=fps, options={"g": "50"})
    videos = {}
    for minutes in arguments.minutes:
        videos[minutes] = folder / f"{minutes:g}.mp4"
        write_long(stretch, videos[minutes], minutes)
    print(f"\nMemory: {WIDTH}x{HEIGHT} at {fps:g} fps, {arguments.model}, batches of {arguments.batch_frames} frames\n")
    print("| what | minutes | rows | seconds | peak MiB | to the first |\n| --- | --- | --- | --- | --- | --- |")
    for whole in (False, True):
        first = 0
        for minutes, path in videos.items():
            command = [sys.executable, "-m", "benchmarks.extract", "--child", str(path), "--model", arguments.model]
            for name in ("fps", "stride", "batch_frames"):
                command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
            command += ["--whole"] if whole else []
            answer = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
            first = first or answer["bytes"]
            name = "whole video" if whole else f"windows of 16, stride {arguments.stride}"
            print(
                f"| {name} | {minutes:g} | {answer['rows']} | {answer['seconds']:.0f} | {answer['bytes'] / 2**20:.0f} "
                f"| {answer['bytes'] / first - 1:+.1%} |",
                flush=True,
            )


def one_at_a_time(model: PlainPort, path: Path, window: int) -> list[Tensor]:
    """The way of video_features."""
    rows, stack = [], []
    with VideoReader(path) as reader, torch.inference_mode():
        for frame in reader.frames():
            picture = Image.fromarray(frame.pixels.permute(1, 2, 0).numpy())
            size = round(picture.width * 256 / picture.height), 256
            picture = picture.resize(size, Image.Resampling.BILINEAR)
            stack.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).float())
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
    print(f"Ours by {arguments.backend}")
    print("\n| windows | | video_features' way | ours | ratio |\n| --- | --- | --- | --- | --- |")
    for window, count in ((64, 3), (16, 10)):
        path = write_video(folder / f"{window}.mp4", moving_picture(window * count + 1), fps=25)
        preset = FEATURE_PRESETS["video-features"].but(window=window, stride=window)
        extractor = FeatureExtractor([ours], preset, device="cpu", backend=arguments.backend)
        ways: dict[str, Callable[[], int]] = {
            "theirs": lambda: len(one_at_a_time(model, path, window)),  # noqa: B023
            "ours": lambda: len(extractor.extract(path)),  # noqa: B023
        }
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, work in ways.items():
                start = time.perf_counter(), time.process_time()
                num_rows = work()
                seconds = time.perf_counter() - start[0], time.process_time() - start[1]
                rates[name].append((num_rows / seconds[0], num_rows / seconds[1]))
                assert num_rows == count
        for column, unit in enumerate(("windows/s by the clock", "windows per CPU-second")):
            theirs, mine = (statistics.median(r[column] for r in rates[name]) for name in ways)
            what = f"{count} of {window} frames"
            print(f"| {what} | {unit} | {theirs:.3f} | {mine:.3f} | {mine / theirs:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 60])
    parser.add_argument("--fps", type=float, default=5.0, help="of the videos of the memory part")
    parser.add_argument("--model", default="i3d_tiny", help="of the memory part")
    parser.add_argument("--stride", type=int, default=16, help="of the windows of the memory part")
    parser.add_argument("--batch-frames", type=int, default=64, help="of the memory part")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--backend", choices=("torch", "compile", "openvino"), default="torch", help="of the speed part"
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
