"""How is the time of two-stream inference distributed over decoding, resizing, flow and networks?

    python -m benchmarks.end_to_end [--video FILE]

Each part is timed separately over all windows of the video (10 s each), and then ``Recognizer.predict``, which overlaps
decoding with the networks. Reports medians over the rounds. The weights are random, which does not affect the time. The
default video is generated.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine
from quovadis import transforms
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.inputs import clip_to_streams
from quovadis.models.zoo import build_model
from quovadis.runtime.memory import keep_freed_memory
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.writer import write_video

NUM_CLASSES = 400


def make_video(path: Path, size_px: int, seconds: float) -> Path:
    config = MotionsConfig(size_px=round(size_px / 0.9), seconds=seconds / 0.6)  # lengths and rates of motions vary
    frames = motions_clip(config, "train", 2, 0).frames[: round(25 * seconds)]
    return write_video(path, frames, fps=25, options={"preset": "veryfast"})


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Parts:
    """The parts of one prediction, each for the whole video."""

    def __init__(self, recognizer: Recognizer, path: Path):
        self.recognizer, self.path, self.spec = recognizer, path, recognizer.spec
        self.frames: list[Any] = []
        self.small: list[torch.Tensor] = []
        self.clips: list[Clip] = []

    def decode(self) -> None:
        with VideoReader(self.path) as reader:
            self.frames = [frame for _, frame in reader.resampled_frames(self.spec.fps)]

    def resize(self) -> None:
        shrink = self.recognizer.read_transform()
        self.small = [shrink(frame.pixels[None])[0] for frame in self.frames]

    def flow(self) -> None:
        size = self.spec.test_frames
        self.clips = []
        for start in range(0, len(self.small), size):
            frames = self.small[start : start + size]
            times = torch.arange(start, start + len(frames)).double() / self.spec.fps
            clip = Clip(torch.stack(frames), times, source=str(self.path))
            if len(clip) >= self.spec.min_frames:
                settings = {"fps": self.spec.fps, "short_side_px": self.spec.short_side_px}
                self.clips.append(self.recognizer.flow.add_to(clip, first_frame_index=start, **settings))  # type: ignore[arg-type]

    def network(self, index: int) -> None:
        model, device = self.recognizer.models[index], self.recognizer.device
        with torch.inference_mode():
            for clip in self.clips:
                streams = clip_to_streams(transforms.center_crop(clip, self.spec.size_px), model.spec)
                model(*(transforms.to_model(s[None].to(device)) for s in streams))
        synchronize(device)


def measure_seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path)
    parser.add_argument("--size-px", type=int, default=256, help="short side of the generated video")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the generated video")
    parser.add_argument("--model", default="i3d")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--flow-method", default="tvl1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    keep_freed_memory()  # as the command line does
    torch.manual_seed(0)
    models = [build_model(options.model, stream=stream, num_classes=NUM_CLASSES) for stream in ("rgb", "flow")]
    labels = [str(i) for i in range(NUM_CLASSES)]
    recognizer = Recognizer(models, labels, device=options.device, flow=FlowSource(options.flow_method))
    with tempfile.TemporaryDirectory() as folder:
        path = options.video or make_video(Path(folder) / "video.mp4", options.size_px, options.seconds)
        parts = Parts(recognizer, path)
        work: dict[str, Callable[[], object]] = {
            "decoding": parts.decode,
            "resizing": parts.resize,
            f"flow ({options.flow_method})": parts.flow,
            "RGB network": lambda: parts.network(0),
            "flow network": lambda: parts.network(1),
            "Recognizer.predict": lambda: recognizer.predict(path),
        }
        for part in work.values():
            part()  # compiles kernels, and computes the inputs of the next part
        rounds = [{name: measure_seconds(part) for name, part in work.items()} for _ in range(options.rounds)]
    seconds = len(parts.small) / recognizer.spec.fps
    found = {name: statistics.median(r[name] for r in rounds) for name in work}
    *part_seconds, total = found.values()
    print(f"{describe_machine()}, {torch.get_num_threads()} threads. Video of {seconds:.1f} s.")
    print("\n| part | seconds | ms per frame | fraction |")
    print("| --- | --- | --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:.2f} | {1000 * value / len(parts.small):.2f} | {value / sum(part_seconds):.0%} |")
    print(f"\n{seconds / total:.2f} times real time. Overlap saves {1 - total / sum(part_seconds):.0%} of the sum.")
    if options.json is not None:
        content = {"machine": describe_machine(), "video_seconds": seconds, "seconds": found}
        options.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
