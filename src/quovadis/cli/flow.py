"""``quovadis flow``: optical flow of videos, into files."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.flow.codec import FlowPreset
    from quovadis.flow.source import FlowJob


@dataclass(frozen=True)
class Flow:
    """Compute the optical flow of videos as the paper does: 25 fps, short side 256, TV-L1, +-20 px in 256 levels.

    Each video becomes one file NAME.flow.mp4 that holds both components and says how they were made. What is there
    already is skipped, so a job that was stopped goes on where it was.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, any format that FFmpeg reads, folders of them (the tree is kept below --out), or .txt files with one
    path a line."""
    out: Path
    """The folder to write to; train, evaluate and predict take it as their flow folder."""
    method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """tvl1 is the paper's; tvl1-fast the same with fewer iterations; the others need the optional part opencv (``pip
    install '.[opencv]'`` in the checkout), and dis is about fifty times faster."""
    fps: float = 25.0
    """Frames a second between which flow is computed; what the model sees."""
    short_side_px: int = 256
    """The short side to which frames are resized before; what the model sees: 72 for the tiny ones."""
    jpeg: bool = False
    """Write folders NAME/ of JPEG pairs flow_x_00001.jpg, flow_y_00001.jpg instead."""
    pictures: bool = False
    """Also write folders NAME.pictures/ of color pictures, to look at."""
    picture_px: float = 10.0
    """Length of the vectors that get the full color in the pictures."""
    overwrite: bool = False
    """Compute anew what is there already, also where it was made otherwise."""
    pairs_per_batch: int = 64
    """Pairs of frames at work at a time; bounds the memory."""
    num_workers: int = 0
    """Processes, each with one thread, that each do a whole video; 0 does one video at a time with all threads."""
    ray: str | None = None
    """Do it on a Ray cluster whose machines see the same files: its address, "auto", or "local" (extra: cluster)."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""


@dataclass(frozen=True)
class _Plan:
    """A job and how much work it is."""

    job: "FlowJob"
    num_flows: int
    """About: from the header of the video."""
    num_bytes: int


def main(args: list[str]) -> None:
    """Run the verb; a video that cannot be done is reported, the others go on, and the exit code is 1."""
    options = tyro.cli(Flow, args=args, prog="quovadis flow", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.errors import InvalidInputError, QuovadisError
    from quovadis.flow.codec import preset_for

    if not options.picture_px > 0:
        raise InvalidInputError(f"--picture-px must be above 0; got {options.picture_px}")
    if not options.fps > 0 or options.short_side_px < 1:
        raise InvalidInputError(
            f"--fps and --short-side-px must be above 0; got {options.fps:g} and {options.short_side_px}"
        )
    targets = _targets(options)
    preset = preset_for(options.method, fps=options.fps, short_side_px=options.short_side_px)
    plans, failed = [], 0
    for target, video in targets.items():
        try:
            plan = _plan(video, target, options, preset)
        except QuovadisError as error:
            failed += _report(error)
            continue
        if plan is None:
            print(f"{target}: done before", file=sys.stderr)
        else:
            plans.append(plan)
    _announce(plans, options.out)
    done = _in_processes(plans, options) if options.num_workers or options.ray else _here(plans)
    for job, num_flows, error_text in done:
        if error_text:
            failed += _report(error_text)
        else:
            print(f"{job.target}: {num_flows} flows", flush=True)
    if failed:
        print(f"{failed} of {len(targets)} videos have no flow", file=sys.stderr)
        sys.exit(1)


def _report(error: Exception | str) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 1


def _targets(options: Flow) -> dict[Path, Path]:
    """For each file or folder to be written, the video whose flow it holds."""
    from quovadis.datasets.video_inputs import list_videos, unique_stems
    from quovadis.errors import InvalidInputError

    if not options.videos:
        raise InvalidInputError("no videos to work on: quovadis flow VIDEO_OR_FOLDER ... --out DIR")
    videos = list_videos(options.videos)
    ending = _ending(options)
    return {options.out / f"{stem}{ending}": videos[name] for name, stem in unique_stems(videos).items()}


def _ending(options: Flow) -> str:
    """What comes after the name of a video."""
    from quovadis.flow.flow_files import FILE_ENDING

    return "" if options.jpeg else FILE_ENDING


def _plan(video: Path, target: Path, options: Flow, preset: "FlowPreset") -> _Plan | None:
    """What is to be done for a video; None when it was done before."""
    from quovadis.flow.flow_files import VideoFingerprint, estimate_bytes, read_header, require_match
    from quovadis.flow.folder import read_folder_header
    from quovadis.flow.source import FlowJob
    from quovadis.video.reader import VideoReader

    clip = VideoFingerprint.of(video)
    pictures = target.with_name(f"{target.name.removesuffix(_ending(options))}.pictures")
    if target.exists() and not options.overwrite:
        header = read_folder_header(target) if options.jpeg else read_header(target)
        if header is not None:
            require_match(target, header, preset, clip)
            if not options.pictures or read_folder_header(pictures) is not None:
                return None
    with VideoReader(video) as reader:
        info = reader.info
    seconds = info.duration_seconds or (info.num_frames or 0) / (info.fps or preset.fps)
    num_flows = max(round(seconds * preset.fps) - 1, 1)
    scale = preset.short_side_px / min(info.height, info.width)
    num_bytes = estimate_bytes(num_flows, round(info.height * scale), round(info.width * scale))
    job = FlowJob(
        video,
        target,
        preset,
        jpeg=options.jpeg,
        pictures=pictures if options.pictures else None,
        picture_px=options.picture_px,
        pairs_per_batch=options.pairs_per_batch,
        device=options.device,
    )
    return _Plan(job, num_flows, num_bytes * (4 if options.jpeg else 1))


def _announce(plans: list[_Plan], out: Path) -> None:
    """Say how much it will be, before it begins, and stop where it cannot fit."""
    from quovadis.errors import StorageError

    if not plans:
        return
    num_bytes = sum(plan.num_bytes for plan in plans)
    print(
        f"{len(plans)} video{'s' * (len(plans) != 1)}, about {sum(plan.num_flows for plan in plans)} flows, "
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


def _here(plans: list[_Plan]) -> Iterator[tuple["FlowJob", int, str]]:
    """One video after the other, each with its bar."""
    from quovadis.errors import MissingExtraError, QuovadisError, StorageError
    from quovadis.flow.source import store_flow
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    for number, plan in enumerate(plans, 1):
        num_flows = 0
        try:
            with progress_bar(Console(stderr=True), transient=True) as progress:
                task = progress.add_task(f"{number}/{len(plans)} {plan.job.video.name}", total=plan.num_flows)
                for num_flows in store_flow(plan.job):
                    progress.update(task, completed=num_flows)
        except (StorageError, MissingExtraError):
            raise  # the next video would fail in the same way
        except QuovadisError as error:
            yield plan.job, 0, str(error)
        else:
            yield plan.job, num_flows, ""


def _in_processes(plans: list[_Plan], options: Flow) -> Iterator[tuple["FlowJob", int, str]]:
    """Several videos at a time, with one bar for all."""
    from quovadis.flow.source import finish_flow
    from quovadis.runtime.console import Console
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar

    jobs = [plan.job for plan in plans]
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("flow", total=len(jobs))
        for index, (num_flows, error) in run_jobs(
            finish_flow, jobs, num_workers=options.num_workers, ray_address=options.ray
        ):
            bar.advance(task)
            yield jobs[index], num_flows, error
