"""``quovadis flow``: compute and store the optical flow of videos."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.flow.codec import FlowPreset
    from quovadis.flow.source import FlowJob


@dataclass(frozen=True)
class Flow:
    """Compute and store the optical flow of videos, by default as in the paper: 25 fps, short side 256, TV-L1.

    Writes one file NAME.flow.mp4 per video, with both components (clipped to +-20 px, in 256 levels) and the settings.
    Existing files are skipped, so an interrupted command continues when it is started again.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of videos (subfolders are kept below --out), or .txt files with one path per line."""
    out: Path
    """Output folder. Pass it as --flow-folder to train, evaluate and predict."""
    method: FlowMethod = "tvl1"
    """tvl1: the method of the paper. tvl1-fast: TV-L1 with fewer iterations. opencv-tvl1, dis, farneback: methods of
    OpenCV (extra: opencv); dis is about fifty times faster."""
    fps: float = 25.0
    """Resample videos to this frame rate first; must be that of the model."""
    short_side_px: int = 256
    """Resize frames to this short side first; must be that of the model (72 for the tiny models)."""
    jpeg: bool = False
    """Write folders NAME/ of JPEG pairs flow_x_00001.jpg, flow_y_00001.jpg instead, for other tools."""
    images: bool = False
    """Also write folders NAME.images/ of color images."""
    full_color_px: float = 10.0
    """Length of vectors that are fully saturated in the color images."""
    overwrite: bool = False
    """Compute existing files again, including those with other settings."""
    pairs_per_batch: int = 64
    """Maximum number of frame pairs processed at once; limits memory use."""
    num_workers: int = 0
    """Number of processes, each with one thread and one video at a time. 0: one video at a time, with all threads."""
    ray: str | None = None
    """Run on a Ray cluster with a shared file system: its address, "auto", or "local" (extra: cluster)."""
    device: str | None = None
    """Device, such as cpu, cuda or cuda:1. By default a GPU if there is one."""


@dataclass(frozen=True)
class _Plan:
    """A job and its estimated size."""

    job: "FlowJob"
    num_flows: int
    num_bytes: int


def main(args: list[str]) -> None:
    """Run the command. Videos that cannot be processed are reported, and the exit code is 1."""
    options = tyro.cli(Flow, args=args, prog="quovadis flow", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.errors import InvalidInputError, QuovadisError
    from quovadis.flow.codec import preset_for

    if not options.full_color_px > 0:
        raise InvalidInputError(f"--full-color-px must be above 0; got {options.full_color_px}")
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
            print(f"{target}: exists", file=sys.stderr)
        else:
            plans.append(plan)
    _check_space(plans, options.out)
    results = _run_in_processes(plans, options) if options.num_workers or options.ray else _run_in_turn(plans)
    for job, num_flows, error_text in results:
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
    """Map each output file or folder to its video."""
    from quovadis.datasets.video_inputs import list_videos, unique_stems
    from quovadis.errors import InvalidInputError

    if not options.videos:
        raise InvalidInputError("no videos given; usage: quovadis flow VIDEO_OR_FOLDER ... --out DIR")
    videos = list_videos(options.videos)
    suffix = _suffix(options)
    return {options.out / f"{stem}{suffix}": videos[name] for name, stem in unique_stems(videos).items()}


def _suffix(options: Flow) -> str:
    from quovadis.flow.flow_files import FLOW_SUFFIX

    return "" if options.jpeg else FLOW_SUFFIX


def _plan(video: Path, target: Path, options: Flow, preset: "FlowPreset") -> _Plan | None:
    """Plan the job for a video; return None if its outputs exist."""
    from quovadis.flow.flow_files import VideoFingerprint, estimate_bytes, read_header, require_match
    from quovadis.flow.folder import read_folder_header
    from quovadis.flow.source import FlowJob
    from quovadis.video.reader import VideoReader

    fingerprint = VideoFingerprint.of(video)
    image_folder = target.with_name(f"{target.name.removesuffix(_suffix(options))}.images")
    if target.exists() and not options.overwrite:
        header = read_folder_header(target) if options.jpeg else read_header(target)
        if header is not None:
            require_match(target, header, preset, fingerprint)
            if not options.images or read_folder_header(image_folder) is not None:
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
        image_folder=image_folder if options.images else None,
        full_color_px=options.full_color_px,
        pairs_per_batch=options.pairs_per_batch,
        device=options.device,
    )
    return _Plan(job, num_flows, num_bytes * (4 if options.jpeg else 1))


def _check_space(plans: list[_Plan], out: Path) -> None:
    """Print the amount of work, and raise if the disk is too small for it."""
    from quovadis.errors import StorageError

    if not plans:
        return
    num_bytes = sum(plan.num_bytes for plan in plans)
    print(
        f"{len(plans)} video{'s' * (len(plans) != 1)}, about {sum(plan.num_flows for plan in plans)} flows, "
        f"about {num_bytes / 1e6:.1f} MB in {out}",
        file=sys.stderr,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out).free
    except OSError as error:
        raise StorageError(f"cannot write to {out}: {error.strerror}") from error
    if free < num_bytes:
        raise StorageError(
            f"{out} has {free / 1e9:.1f} GB left, but the flow needs about {num_bytes / 1e9:.1f} GB; "
            "choose another --out, or fewer videos"
        )


def _run_in_turn(plans: list[_Plan]) -> Iterator[tuple["FlowJob", int, str]]:
    """Run one job after the other, each with a progress bar."""
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
            raise  # would affect the next video as well
        except QuovadisError as error:
            yield plan.job, 0, str(error)
        else:
            yield plan.job, num_flows, ""


def _run_in_processes(plans: list[_Plan], options: Flow) -> Iterator[tuple["FlowJob", int, str]]:
    """Run several jobs at a time, with one progress bar."""
    from quovadis.flow.source import run_flow_job
    from quovadis.runtime.console import Console
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar

    jobs = [plan.job for plan in plans]
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("flow", total=len(jobs))
        for index, (num_flows, error) in run_jobs(
            run_flow_job, jobs, num_workers=options.num_workers, ray_address=options.ray
        ):
            bar.advance(task)
            yield jobs[index], num_flows, error
