"""``quovadis extract``: extract features of videos into files."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.models.spec import Backend
from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.extract import ExtractJob, ExtractorSettings, ExtractResult
    from quovadis.inference.feature_presets import FeaturePreset
    from quovadis.inference.features import FeatureExtractor
    from quovadis.models.spec import StreamKind


@dataclass(frozen=True)
class Extract:
    """Extract features of videos, the input of a network's classifier, for windows or for the whole video.

    Writes VIDEO_rgb.npy and VIDEO_flow.npy, float32 (rows, 1024), or the files of the preset, each with a .json sidecar
    that records the weights, the settings and the time of every row. Existing files are skipped, so an interrupted
    command can be repeated.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of videos (their subfolders are kept), or .txt files with one path per line."""
    out: Path
    """Output folder."""
    weights: tuple[str, ...] = ()
    """Published names or files of networks: one for RGB, one for flow, or both. Defaults to the official Kinetics-400
    RGB network, which is downloaded once."""
    preset: str = "quovadis"
    """quovadis, video-features, pytorch-i3d, ms-tcn, actionformer or ten-crop. The options below override it."""
    streams: tuple[Literal["rgb", "flow"], ...] = ()
    """Streams to extract. Defaults to those of the preset that have a network."""
    window: int | None = None
    """Number of frames of a window. Defaults to that of a training clip (64)."""
    stride: int | None = None
    """Number of frames from one window to the next. Defaults to the length of a window."""
    whole: bool = False
    """Extract features of the whole video instead of windows: one row every 8 frames."""
    fps: float | None = None
    """Frame rate to resample to; 0 for the frames of the file."""
    crop: Literal["center", "ten"] | None = None
    """center: the center square. ten: the corners and the center, and the same mirrored."""
    padding: Literal["none", "edge"] | None = None
    """edge: center a window on every frame, with the first and last frames repeated beyond the ends."""
    short: Literal["loop", "error"] | None = None
    """What to do with videos shorter than a window."""
    damaged: Literal["use", "refuse"] = "use"
    """use: extract the features of the part of a damaged file that decodes, with a note. refuse: report an error."""
    batch_frames: int = 512
    """Maximum number of frames in a network at a time. Limits memory use."""
    flow_method: FlowMethod = "tvl1"
    """Optical flow method; use that of the training."""
    flow_folder: Path | None = None
    """Folder written by quovadis flow, with the flow of every video. By default, flow next to a video is used, or
    estimated if there is none."""
    backend: Backend = "torch"
    """Backend of the networks. compile needs a C++ compiler, openvino the extra of that name."""
    devices: tuple[str, ...] = ()
    """One or more devices, such as cuda:0 cuda:1, that process different videos. Defaults to a GPU if there is one."""
    ray: str | None = None
    """Run on a Ray cluster with shared storage: its address, "auto", or "local" (needs the extra cluster)."""
    overwrite: bool = False
    """Replace existing files, even those with other settings."""
    dry_run: bool = False
    """Decode the videos and print how many rows each will have, and the expected time, without running the network."""
    json: bool = False
    """Print JSON, one object per line."""


def main(args: list[str]) -> None:
    """Run the command. Exit with code 1 if a video cannot be used; it is reported and the others are processed."""
    from quovadis.cli._arguments import reorder_arguments

    args = reorder_arguments(Extract, args)
    options = tyro.cli(Extract, args=args, prog="quovadis extract", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.datasets.video_inputs import list_videos
    from quovadis.errors import InvalidInputError
    from quovadis.inference.extract import plan_jobs

    if not options.videos:
        raise InvalidInputError("name at least one video: quovadis extract VIDEO ... --out DIR")
    settings = _settings(options)
    videos = list_videos(options.videos)
    extractors = [s.build() for s in settings]
    streams = _streams(options, extractors[0])
    jobs, results = plan_jobs(videos, options.out, extractors[0], streams, overwrite=options.overwrite)
    failed = sum(_print_result(result, options) for result in results)
    if options.dry_run:
        failed += _print_plan(jobs, extractors[0], options)
    else:
        failed += _run(jobs, extractors, settings[0], options)
    if failed:
        print(f"{failed} of {len(videos)} videos have no features", file=sys.stderr)
        sys.exit(1)


def _settings(options: Extract) -> "list[ExtractorSettings]":
    """Settings of one extractor per device."""
    from quovadis.flow.source import FlowSource
    from quovadis.inference.extract import ExtractorSettings
    from quovadis.weights.default import default_weights

    preset = _preset(options)
    root = options.videos[0] if options.videos[0].is_dir() else None
    flow = FlowSource(options.flow_method, options.flow_folder, root)
    weights = options.weights or (default_weights(),)
    return [
        ExtractorSettings(weights, preset, options.batch_frames, flow, device, options.backend, options.damaged)
        for device in options.devices or (None,)
    ]


def _streams(options: Extract, extractor: "FeatureExtractor") -> "tuple[StreamKind, ...]":
    """Streams that are requested and have a network."""
    from quovadis.errors import InvalidInputError

    requested = options.streams or extractor.preset.streams
    missing = [s for s in options.streams if s not in extractor.models]
    streams: tuple[StreamKind, ...] = tuple(s for s in ("rgb", "flow") if s in requested and s in extractor.models)
    if missing or not streams:
        absent, given = " and ".join(missing or requested), " and ".join(extractor.models)
        raise InvalidInputError(f"{absent} features need weights of that stream; got {given}")
    lacking = [s for s in extractor.preset.streams if s not in streams]
    preset = extractor.preset
    if preset.joined and preset.shape != "T11D" and lacking and not options.streams:
        raise InvalidInputError(
            f"preset {preset.name!r} joins {' and '.join(preset.streams)} features in one array, and there is no "
            f"network for {' and '.join(lacking)}: name one with --weights, or choose --streams {' '.join(streams)} "
            "for an array without them"
        )
    return streams


def _run(
    jobs: "list[ExtractJob]", extractors: "list[FeatureExtractor]", settings: "ExtractorSettings", options: Extract
) -> int:
    """Run the jobs and return how many failed."""
    from quovadis.inference.extract import extract_all, extract_on_worker
    from quovadis.runtime.console import Console
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar

    failed = 0
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("extracting", total=len(jobs))
        if options.ray is None:
            results = extract_all(jobs, extractors)
        else:
            tasks = [(job, settings) for job in jobs]
            results = (r for _, r in run_jobs(extract_on_worker, tasks, ray_address=options.ray))
        for result in results:
            failed += _print_result(result, options)
            bar.advance(task)
    return failed


def _preset(options: Extract) -> "FeaturePreset":
    from quovadis.errors import InvalidInputError
    from quovadis.inference.feature_presets import WHOLE, find_feature_preset

    preset = find_feature_preset(options.preset)
    if options.whole:
        if options.window is not None or options.stride is not None:
            raise InvalidInputError("--whole has the stride of the network: leave out --window and --stride")
        return preset.whole().with_options(fps=_rate(options.fps), crop=options.crop, short=options.short)
    if options.window == WHOLE:
        raise InvalidInputError("--window must be at least 1 frame; for the whole video use --whole")
    return preset.with_options(
        window=options.window,
        stride=options.stride,
        fps=_rate(options.fps),
        crop=options.crop,
        padding=options.padding,
        short=options.short,
    )


def _rate(fps: float | None) -> float | str | None:
    return "file" if fps == 0 else fps


def _print_result(result: "ExtractResult", options: Extract) -> int:
    """Print the result of a video; return 1 if it failed."""
    if result.error:
        print(f"error: {result.error}", file=sys.stderr)
        return 1
    for note in result.notes:
        print(f"note: {result.video}: {note}", file=sys.stderr)
    if options.json:
        files = {path: list(shape) for path, shape in result.shapes.items()}
        row = {"video": str(result.video), "files": files, "done_before": result.done_before}
        print(json.dumps({**row, "notes": list(result.notes)}), flush=True)
    elif result.done_before:
        print(f"{result.video}: done before", file=sys.stderr)
    else:
        for path, shape in result.shapes.items():
            print(f"{path}: {' x '.join(map(str, shape))}", flush=True)
    return 0


def _print_plan(jobs: "list[ExtractJob]", extractor: "FeatureExtractor", options: Extract) -> int:
    """Print how many rows each video will have and the expected time; return how many cannot be used."""
    from quovadis.errors import VideoError
    from quovadis.inference.extract import count_rows
    from quovadis.runtime.console import Console
    from quovadis.runtime.durations import describe_duration
    from quovadis.runtime.progress import progress_bar

    failed = num_noted = total = 0
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("decoding", total=len(jobs))
        for job in jobs:
            try:
                rows, notes = count_rows(job, extractor)
            except VideoError as error:
                print(f"error: {error}", file=sys.stderr)
                failed += 1
            else:
                total += rows
                num_noted += bool(notes)
                _print_rows(job, rows, notes, options)
            bar.advance(task)
    if not options.json and total:
        noted = f", {num_noted} with notes" if num_noted else ""
        expected = describe_duration(total * extractor.seconds_per_row())
        print(
            f"total: {total:,} rows of {len(jobs) - failed} videos{noted}; the networks need about {expected} on this "
            "machine, without decoding and optical flow",
            file=sys.stderr,
        )
    return failed


def _print_rows(job: "ExtractJob", rows: int, notes: tuple[str, ...], options: Extract) -> None:
    files = [str(file.path) for file in job.files]
    if options.json:
        print(json.dumps({"video": str(job.video), "rows": rows, "files": files, "notes": list(notes)}), flush=True)
        return
    for note in notes:
        print(f"note: {job.video}: {note}", file=sys.stderr)
    print(f"{job.video}: {rows} row{'s' * (rows != 1)} into {', '.join(files)}", flush=True)
