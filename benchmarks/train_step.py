"""What a step of training costs for each network of the paper: ``python -m benchmarks.train_step``.

For each network, in a process of its own so that its memory is its own, on a few videos of ``motions`` that were
prepared for it as ``quovadis prepare`` does it, with flow where it wants flow:

- input: decoding, reading flow and cropping of a batch in one process, medians;
- step: from bytes on the host to the optimizer's step, as :mod:`quovadis.training.loop` makes it, medians;
- memory: the most that was held, on a GPU of its own memory, else of the process;
- waiting: the share of a run of steps in which the device waits for ``--num-workers`` processes to make the input.

Small by default: the tiny networks on a CPU, the paper's on a GPU. I3D is measured for each of its two streams.
"""

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatches, clip_extent, collate
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.datasets.prepare import PrepareSettings, prepare
from quovadis.flow.source import FlowSource
from quovadis.models.spec import ModelSpec
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from quovadis.transforms import to_model
from quovadis.video.writer import write_video

NETWORKS = (
    ("convnet_lstm", "rgb"),
    ("conv3d", "rgb"),
    ("two_stream", "rgb+flow"),
    ("fused_two_stream", "rgb+flow"),
    ("i3d", "rgb"),
    ("i3d", "flow"),
)
NUM_CLASSES = 400
NUM_VIDEOS = 4


@dataclass(frozen=True)
class Cost:
    """Of one network."""

    parameters: int
    input_seconds: float
    step_seconds: float
    memory_bytes: int
    waiting: float


def measure(name: str, stream: str, options: argparse.Namespace) -> Cost:
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = build_model(name, stream=stream, num_classes=NUM_CLASSES).to(device).channels_last().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    step = make_step(model, optimizer, device, options.precision)
    with tempfile.TemporaryDirectory() as folder:
        records = prepared_videos(Path(folder), model.spec, options.flow_method)
        clips = ClipDataset(records, model.spec, flow=FlowSource(options.flow_method))
        alone = iter(loader(clips, options.batch_size, 0))
        batch = next(alone)
        input_seconds = median_seconds(lambda: next(alone), options.steps)
        step(batch)
        step_seconds = median_seconds(lambda: step(batch), options.steps)
        batches = iter(loader(clips, options.batch_size, options.num_workers))
        step(next(batches))
        begin, waited = time.perf_counter(), 0.0
        for _ in range(options.steps):
            asked = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - asked
            step(batch)
        waiting = waited / (time.perf_counter() - begin)
        del batches
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(parameters, input_seconds, step_seconds, memory, waiting)


def make_step(
    model: VideoModel, optimizer: torch.optim.Optimizer, device: torch.device, precision: str
) -> Callable[[dict[str, Any]], None]:
    """A step as the training loop makes it, waited for to its end."""

    def step(batch: dict[str, Any]) -> None:
        inputs = [to_model(s.to(device, non_blocking=True)) for s in batch["streams"]]
        inputs = [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(model(*inputs), batch["labels"].to(device))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def prepared_videos(folder: Path, spec: ModelSpec, flow_method: str) -> Sequence[VideoRecord]:
    """A few videos as large as the network looks at them, and somewhat longer than a training clip, in a store."""
    seconds = (clip_extent(spec)[2] + 10) / spec.fps / 0.8  # motions vary in length by a fifth
    config = MotionsConfig(size_px=round(spec.short_side_px / 0.9), seconds=seconds)
    records = []
    for number in range(NUM_VIDEOS):
        clip = motions_clip(config, "train", number, 0)
        fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
        path = write_video(folder / "raw" / f"{number}.mp4", clip.frames, fps=fps, options={"preset": "veryfast"})
        records.append(VideoRecord(path, number, "train"))
    raw = Manifest("motions", folder / "raw", config.labels, tuple(records))
    settings = PrepareSettings(
        fps=spec.fps, short_side_px=spec.short_side_px, flow_method=flow_method if spec.needs_flow else None
    )
    return prepare(raw, folder / "store", settings).split("train")


def loader(clips: ClipDataset, batch_size: int, num_workers: int) -> DataLoader[Any]:
    batches = EpochBatches(len(clips), batch_size)
    return DataLoader(clips, batch_sampler=batches, collate_fn=collate, num_workers=num_workers)


def median_seconds(work: Callable[[], object], times: int) -> float:
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=("tiny", "full"), help="default: full on a GPU, tiny elsewhere")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="that are timed")
    parser.add_argument("--num-workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--flow-method", default="tvl1")
    options = parser.parse_args()
    size = options.size or ("tiny" if options.device == "cpu" else "full")
    print(
        f"{options.device}, batches of {options.batch_size}, precision {options.precision}, "
        f"flow {options.flow_method}, {options.num_workers} workers, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}\n"
    )
    print("| network | parameters | input s | step s | clips a second | waiting | memory MB |")
    print("| --- " * 7 + "|")
    # A fresh process for each, because the most memory that a process held never falls.
    processes = multiprocessing.get_context("spawn")
    for name, stream in NETWORKS:
        full_name = f"{name}_tiny" if size == "tiny" else name
        with ProcessPoolExecutor(1, processes) as pool:
            cost = pool.submit(measure, full_name, stream, options).result()
        print(
            f"| {full_name} ({stream}) | {cost.parameters:,} | {cost.input_seconds:.3f} | {cost.step_seconds:.3f} "
            f"| {options.batch_size / cost.step_seconds:.1f} | {cost.waiting:.0%} | {cost.memory_bytes / 1e6:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
