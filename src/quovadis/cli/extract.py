"""``quovadis extract``: features of videos, into files."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.extract import Extracted, ExtractJob
    from quovadis.inference.feature_presets import FeaturePreset
    from quovadis.inference.features import FeatureExtractor


@dataclass(frozen=True)
class Extract:
    """Write the features of videos: what the classifier of a network sees, for windows or for the whole video.

    Each video gives VIDEO_rgb.npy and VIDEO_flow.npy, float32 (rows, 1024), or what the preset says, and beside each a
    .json with the weights, the settings and the seconds of every row. What is there already is skipped, so a job that
    was stopped goes on where it was.
    """

    videos: tyro.conf.Positional[tuple[Path, ...]]
    """Video files, folders of them (sub-folders are kept), or .txt files with one path a line."""
    out: Path
    """The folder to write to."""
    weights: tuple[str, ...] = ()
    """Names or files of the networks: one of RGB, one of flow, or both; by default the official Kinetics-400 network
    (RGB), which is downloaded once."""
    preset: str = "quovadis"
    """quovadis, video-features, pytorch-i3d, ms-tcn, actionformer, ten-crop; what follows changes it."""
    streams: tuple[Literal["rgb", "flow"], ...] = ()
    """Which of the networks; by default all that the preset has."""
    window: int | None = None
    """Frames of a window; by default those of a training clip (64)."""
    stride: int | None = None
    """Frames from one window to the next; by default they touch."""
    whole: bool = False
    """The whole video convolutionally instead: a row every 8 frames."""
    fps: float | None = None
    """Frames a second to read at; 0 takes the frames of the file as they are."""
    crop: Literal["center", "ten"] | None = None
    """The middle square, or ten: corners and middle, and mirrored."""
    padding: Literal["none", "edge"] | None = None
    """edge: a window around every frame, the first and last frames repeated beyond the ends."""
    short: Literal["loop", "error"] | None = None
    """What becomes of a video that is shorter than a window."""
    batch_frames: int = 512
    """Frames in a network at a time; bounds the memory."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated; use what the network was trained with."""
    flow_folder: Path | None = None
    """Where quovadis flow stored it; every video must have its flow there. By default stored flow next to a video is
    used, and otherwise computed."""
    backend: Literal["torch", "compile", "openvino"] = "torch"
    """What runs the networks; compile wants a C++ compiler, openvino the extra of that name."""
    devices: tuple[str, ...] = ()
    """cpu, cuda:0 cuda:1 ...: each takes the next video when it is free; by default a GPU if there is one."""
    ray: str | None = None
    """Do it on a Ray cluster whose machines see the same files: its address, "auto", or "local" (extra: cluster)."""
    overwrite: bool = False
    """Make anew what is there, also where it was made otherwise."""
    dry_run: bool = False
    """Only say how many rows each video will give."""
    json: bool = False
    """Print JSON, one object a line."""


def main(args: list[str]) -> None:
    """Run the verb; a video that cannot be done is reported, the others go on, and the exit code is 1."""
    from quovadis.cli._arguments import arrange

    args = arrange(Extract, args)
    options = tyro.cli(Extract, args=args, prog="quovadis extract", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.datasets.video_inputs import list_videos
    from quovadis.errors import InvalidInputError
    from quovadis.flow.source import FlowSource
    from quovadis.inference.extract import ExtractorSettings, extract_all, extract_on_worker, plan_jobs
    from quovadis.runtime.console import Console
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar
    from quovadis.weights.default import default_weights

    if not options.videos:
        raise InvalidInputError("name at least one video: quovadis extract VIDEO ... --out DIR")
    preset = _preset(options)
    videos = list_videos(options.videos)
    root = options.videos[0] if options.videos[0].is_dir() else None
    flow = FlowSource(options.flow_method, options.flow_folder, root)
    weights = options.weights or (default_weights(),)
    settings = [
        ExtractorSettings(weights, preset, options.batch_frames, flow, device, options.backend)
        for device in options.devices or (None,)
    ]
    extractors = [s.build() for s in settings]
    wanted = options.streams or preset.streams
    missing = [s for s in options.streams if s not in extractors[0].models]
    streams = tuple(s for s in ("rgb", "flow") if s in wanted and s in extractors[0].models)
    if missing or not streams:
        there = " and ".join(extractors[0].models)
        raise InvalidInputError(f"{' and '.join(missing or wanted)} features need weights of that stream; got {there}")
    jobs, settled = plan_jobs(videos, options.out, extractors[0], streams, overwrite=options.overwrite)
    failed = sum(_report(result, options) for result in settled)
    if options.dry_run:
        failed += sum(_announce(job, extractors[0], options) for job in jobs)
    else:
        with progress_bar(Console(stderr=True)) as bar:
            task = bar.add_task("extracting", total=len(jobs))
            if options.ray is None:
                results = extract_all(jobs, extractors)
            else:
                tasks = [(job, settings[0]) for job in jobs]
                results = (r for _, r in run_jobs(extract_on_worker, tasks, ray_address=options.ray))
            for result in results:
                failed += _report(result, options)
                bar.advance(task)
    if failed:
        print(f"{failed} of {len(videos)} videos have no features", file=sys.stderr)
        sys.exit(1)


def _preset(options: Extract) -> "FeaturePreset":
    from quovadis.errors import InvalidInputError
    from quovadis.inference.feature_presets import WHOLE, find_feature_preset

    preset = find_feature_preset(options.preset)
    if options.whole:
        if options.window is not None or options.stride is not None:
            raise InvalidInputError("--whole has the stride of the network: leave --window and --stride out")
        return preset.whole().but(fps=_rate(options.fps), crop=options.crop, short=options.short)
    if options.window == WHOLE:
        raise InvalidInputError("a window has at least one frame; for the whole video use --whole")
    return preset.but(
        window=options.window,
        stride=options.stride,
        fps=_rate(options.fps),
        crop=options.crop,
        padding=options.padding,
        short=options.short,
    )


def _rate(fps: float | None) -> float | str | None:
    return "file" if fps == 0 else fps


def _report(result: "Extracted", options: Extract) -> int:
    """Say how a video came out; 1 if it failed."""
    if result.error:
        print(f"error: {result.error}", file=sys.stderr)
        return 1
    if options.json:
        files = {path: list(shape) for path, shape in result.shapes.items()}
        print(json.dumps({"video": str(result.video), "files": files, "done_before": result.done_before}), flush=True)
    elif result.done_before:
        print(f"{result.video}: done before", file=sys.stderr)
    else:
        for path, shape in result.shapes.items():
            print(f"{path}: {' x '.join(map(str, shape))}", flush=True)
    return 0


def _announce(job: "ExtractJob", extractor: "FeatureExtractor", options: Extract) -> int:
    """Say how many rows a video will give; 1 if it cannot be read."""
    from quovadis.errors import VideoError
    from quovadis.inference.extract import count_rows

    try:
        rows = count_rows(job, extractor)
    except VideoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = [str(file.path) for file in job.files]
    if options.json:
        print(json.dumps({"video": str(job.video), "rows": rows, "files": files}), flush=True)
    else:
        print(f"{job.video}: {rows} row{'s' * (rows != 1)} into {', '.join(files)}", flush=True)
    return 0
