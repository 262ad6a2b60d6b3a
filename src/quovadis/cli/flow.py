"""``quovadis flow``: optical flow of videos, into files."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from torch import Tensor

    from quovadis.flow.codec import FlowPreset
    from quovadis.flow.store import ClipIdentity


@dataclass(frozen=True)
class Flow:
    """Compute the optical flow of videos as the paper does: 25 fps, short side 256, TV-L1, +-20 px in 256 levels.

    Each video becomes one file NAME.flow.mp4 that holds both components and says how they were made. What is there
    already is skipped, so a job that was stopped goes on where it was.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, any format that FFmpeg reads."""
    out: Path
    """The folder to write to."""
    method: Literal["tvl1", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """tvl1 is the paper's; the others need quovadis[opencv], and dis is about fifty times faster."""
    jpeg: bool = False
    """Write folders NAME/ of JPEG pairs flow_x_00001.jpg, flow_y_00001.jpg instead."""
    pictures: bool = False
    """Also write folders NAME.pictures/ of colour pictures, to look at."""
    picture_px: float = 10.0
    """Length of the vectors that get the full colour in the pictures."""
    overwrite: bool = False
    """Compute anew what is there already, also where it was made otherwise."""
    pairs_per_batch: int = 64
    """Pairs of frames at work at a time; bounds the memory."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""


@dataclass(frozen=True)
class _Job:
    """One video to be done."""

    video: Path
    clip: "ClipIdentity"
    num_flows: int
    """About: from the header of the video."""
    num_bytes: int


def main(args: list[str]) -> None:
    """Run the verb; a video that cannot be done is reported, the others go on, and the exit code is 1."""
    options = tyro.cli(Flow, args=args, prog="quovadis flow", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.errors import InvalidInputError, MissingExtraError, QuovadisError, StorageError
    from quovadis.flow.codec import PAPER

    if not options.videos:
        raise InvalidInputError("name at least one video: quovadis flow VIDEO ... --out DIR")
    if not options.picture_px > 0:
        raise InvalidInputError(f"--picture-px must be above 0; got {options.picture_px}")
    _require_different_names(options.videos)
    preset = PAPER if options.method == "tvl1" else replace(PAPER, name=options.method, method=options.method)
    jobs, failed = [], 0
    for video in options.videos:
        try:
            job = _plan(video, options, preset)
        except QuovadisError as error:
            failed += _report(error)
            continue
        if job is None:
            print(f"{_target(video, options)}: done before", file=sys.stderr)
        else:
            jobs.append(job)
    _announce(jobs, options.out)
    for number, job in enumerate(jobs, 1):
        try:
            num_flows = _compute(job, options, preset, f"{number}/{len(jobs)} {job.video.name}")
        except (StorageError, MissingExtraError):
            raise  # the next video would fail in the same way
        except QuovadisError as error:
            failed += _report(error)
            continue
        print(f"{_target(job.video, options)}: {num_flows} flows", flush=True)
    if failed:
        print(f"{failed} of {len(options.videos)} videos have no flow", file=sys.stderr)
        sys.exit(1)


def _report(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


def _target(video: Path, options: Flow) -> Path:
    from quovadis.flow.store import FILE_ENDING

    return options.out / (video.stem if options.jpeg else video.stem + FILE_ENDING)


def _require_different_names(videos: tuple[Path, ...]) -> None:
    from quovadis.errors import InvalidInputError

    seen: dict[str, Path] = {}
    for video in videos:
        if video.stem in seen:
            raise InvalidInputError(
                f"{seen[video.stem]} and {video} would be written to one file: give each its own --out"
            )
        seen[video.stem] = video


def _plan(video: Path, options: Flow, preset: "FlowPreset") -> _Job | None:
    """What is to be done for a video; None when it was done before."""
    from quovadis.flow.folder import read_folder_header
    from quovadis.flow.store import ClipIdentity, estimate_bytes, read_header, require_match
    from quovadis.video.reader import VideoReader

    clip = ClipIdentity.of(video)
    target = _target(video, options)
    if target.exists() and not options.overwrite:
        header = read_folder_header(target) if options.jpeg else read_header(target)
        if header is not None:
            require_match(target, header, preset, clip)
            if not options.pictures or read_folder_header(_pictures(video, options)) is not None:
                return None
    with VideoReader(video) as reader:
        info = reader.info
    seconds = info.duration_seconds or (info.num_frames or 0) / (info.fps or preset.fps)
    num_flows = max(round(seconds * preset.fps) - 1, 1)
    scale = preset.short_side_px / min(info.height, info.width)
    num_bytes = estimate_bytes(num_flows, round(info.height * scale), round(info.width * scale))
    return _Job(video, clip, num_flows, num_bytes * (4 if options.jpeg else 1))


def _pictures(video: Path, options: Flow) -> Path:
    return options.out / f"{video.stem}.pictures"


def _announce(jobs: list[_Job], out: Path) -> None:
    """Say how much it will be, before it begins, and stop where it cannot fit."""
    from quovadis.errors import StorageError

    if not jobs:
        return
    num_bytes = sum(job.num_bytes for job in jobs)
    print(
        f"{len(jobs)} video{'s' * (len(jobs) != 1)}, about {sum(job.num_flows for job in jobs)} flows, "
        f"about {num_bytes / 1e6:.1f} MB into {out}",
        file=sys.stderr,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror}") from error
    if free < num_bytes:
        raise StorageError(
            f"{out} has {free / 1e9:.1f} GB left, and the flow needs about {num_bytes / 1e9:.1f} GB: "
            "choose another --out, or do fewer videos at a time"
        )


def _compute(job: _Job, options: Flow, preset: "FlowPreset", name: str) -> int:
    """Flow of one video into its files; returns the number of flows."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from quovadis.flow.estimate import estimate_flow
    from quovadis.flow.folder import FlowFolderWriter
    from quovadis.flow.store import FlowWriter

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    target = _target(job.video, options)
    num_flows = 0
    with Progress(console=Console(stderr=True), transient=True) as progress, ExitStack() as stack:
        task = progress.add_task(name, total=job.num_flows)
        writers: list[FlowWriter | FlowFolderWriter] = [
            FlowFolderWriter(target, job.clip, preset) if options.jpeg else FlowWriter(target, job.clip, preset)
        ]
        if options.pictures:
            pictures = _pictures(job.video, options)
            writers.append(FlowFolderWriter(pictures, job.clip, preset, longest_px=options.picture_px))
        for writer in writers:
            stack.enter_context(writer)
        for frames in _stretches(job.video, preset, options.pairs_per_batch):
            flow = estimate_flow(frames, preset.method, pairs_per_batch=options.pairs_per_batch, device=device)
            for writer in writers:
                writer.write(flow)
            num_flows += len(flow)
            progress.update(task, completed=num_flows)
    return num_flows


def _stretches(video: Path, preset: "FlowPreset", num_pairs: int) -> Iterator["Tensor"]:
    """Resized frames at the preset's rate, uint8 (T, 3, H, W); each stretch begins with the last one's last frame."""
    import torch

    from quovadis.errors import TooFewFramesError, VideoDamagedError
    from quovadis.transforms import resize_short_side
    from quovadis.video.reader import VideoReader

    frames: list[Tensor] = []
    with VideoReader(video) as reader:
        num_frames = 0
        for _, frame in reader.ticks(preset.fps):
            num_frames += 1
            frames.append(resize_short_side(frame.pixels[None], preset.short_side_px))
            if len(frames) == num_pairs + 1:
                yield torch.cat(frames)
                frames = frames[-1:]
        if reader.damage:
            raise VideoDamagedError(f"{video} is damaged: {reader.damage}")
        if num_frames < 2:
            raise TooFewFramesError(f"{video} has {num_frames} frame at {preset.fps:g} fps; optical flow needs 2")
        if len(frames) > 1:
            yield torch.cat(frames)
