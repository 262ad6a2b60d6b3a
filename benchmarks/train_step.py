"""How much time and memory does a training step of each network take?

    python -m benchmarks.train_step [--device cuda]

There is no peer; see :mod:`benchmarks.network` for training steps of a PyTorch port. Each network is measured in a new
process on a few generated videos, prepared as by ``quovadis prepare``, with flow if the network needs it:

- input: time to decode, read flow and crop a batch in one process; median
- step: time from uint8 on the host to the end of the optimizer step, as in :mod:`quovadis.training.loop`; median
- memory: peak memory of the GPU, or of the process on a CPU
- waiting: fraction of the time that the device waits for input from ``--num-workers`` processes

By default, the tiny networks are measured on a CPU and the networks of the paper on a GPU.
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

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler, clip_extent, collate
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.motions import MotionsConfig, motions_clip
from quovadis.datasets.preparation import PrepareSettings, prepare
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
    """Measurements of one network."""

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
        single = iter(loader(clips, options.batch_size, 0))
        batch = next(single)
        input_seconds = median_seconds(lambda: next(single), options.steps)
        step(batch)
        step_seconds = median_seconds(lambda: step(batch), options.steps)
        batches = iter(loader(clips, options.batch_size, options.num_workers))
        step(next(batches))
        start, waited = time.perf_counter(), 0.0
        for _ in range(options.steps):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            step(batch)
        waiting = waited / (time.perf_counter() - start)
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
    """Return a training step that synchronizes with the device."""

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
    """Prepare a few videos of the network's input size that are slightly longer than a training clip."""
    seconds = (clip_extent(spec)[2] + 10) / spec.fps / 0.8  # lengths of motions vary by a fifth
    config = MotionsConfig(size_px=round(spec.short_side_px / 0.9), seconds=seconds)
    records = []
    for index in range(NUM_VIDEOS):
        clip = motions_clip(config, "train", index, 0)
        fps = round((len(clip) - 1) / float(clip.pts_seconds[-1]))
        path = write_video(folder / "raw" / f"{index}.mp4", clip.frames, fps=fps, options={"preset": "veryfast"})
        records.append(VideoRecord(path, index, "train"))
    raw = Manifest("motions", folder / "raw", config.labels, tuple(records))
    settings = PrepareSettings(
        fps=spec.fps, short_side_px=spec.short_side_px, flow_method=flow_method if spec.needs_flow else None
    )
    return prepare(raw, folder / "prepared", settings).split("train")


def loader(clips: ClipDataset, batch_size: int, num_workers: int) -> DataLoader[Any]:
    batches = EpochBatchSampler(len(clips), batch_size)
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
    parser.add_argument("--steps", type=int, default=5, help="number of timed steps")
    parser.add_argument("--num-workers", type=int, default=1, help="number of decoding processes")
    parser.add_argument("--precision", choices=("no", "bf16"), default="no")
    parser.add_argument("--flow-method", default="tvl1")
    options = parser.parse_args()
    size = options.size or ("tiny" if options.device == "cpu" else "full")
    print(
        f"{options.device}, batches of {options.batch_size}, precision {options.precision}, "
        f"flow {options.flow_method}, {options.num_workers} workers, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}\n"
    )
    print("| network | parameters | input s | step s | clips/s | waiting | memory MB |")
    print("| --- " * 7 + "|")
    # The peak memory of a process cannot be reset, so each network has a new process.
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
