"""``quovadis fvd``: compute the Frechet Video Distance of generated videos to real ones."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.fvd.card import VideoEmbeddings
    from quovadis.fvd.distance import FvdResult


@dataclass(frozen=True)
class Fvd:
    """Compute the Frechet Video Distance (FVD) between real and generated videos.

    Each set is a folder of videos, a folder with one subfolder of PNG or JPEG frames per video, a .npy or .npz file
    with a uint8 array (N, T, H, W, 3), or real.npz or generated.npz from an earlier --out, which is not embedded again.
    Lists (.txt) and tensors (.pt) are read as well. Distances of different protocols are not comparable.
    """

    real: tyro.conf.Positional[Path]
    """The real videos."""
    generated: tyro.conf.Positional[Path]
    """The generated videos."""
    protocol: Literal["reference", "stylegan-v", "common-metrics", "videogpt", "cd-fvd", "own"] = "reference"
    """reference: the TensorFlow code of the FVD paper. stylegan-v, common-metrics, videogpt and cd-fvd: the code of
    these projects. own: any network."""
    weights: str | None = None
    """Published name or file of the network. All protocols except own accept only i3d-rgb-kinetics400 and verify it."""
    metrics: str = "fvd"
    """Metrics, separated by commas: fvd, kvd, precision, recall, density, coverage; or all."""
    curve: bool = False
    """Also compute the FVD of random subsets of several sizes."""
    features: str = "logits"
    """With own: logits, features, or an endpoint such as Mixed_5c, averaged over time and space."""
    num_frames: int | None = None
    """Use only the first frames of each video and skip shorter videos. By default all; 16 for stylegan-v and cd-fvd."""
    frame_stride: int = 1
    """Use every n-th frame; not with reference."""
    fps: float | None = None
    """With own: resample files to this frame rate. By default the frames of the file are used."""
    resolution_px: int | None = None
    """With stylegan-v and cd-fvd: first resize and crop frames to squares of this size, usually 256 or 128."""
    layout: Literal["NTHWC", "NTCHW", "NCTHW", "NTHW"] = "NTHWC"
    """Order of the axes of arrays; NTHW for grayscale."""
    value_range: tuple[float, float] | None = None
    """Values of black and white in floating point arrays, for example 0 1 or -1 1."""
    grayscale: bool = False
    """Arrays have one channel."""
    max_videos: int | None = None
    """Use only the first videos of each set."""
    num_resamples: int = 200
    """Number of bootstrap resamples for the interval; 0 for no interval."""
    seed: int = 0
    """Seed of the bootstrap and of the random starts of stylegan-v and cd-fvd."""
    batch_size: int = 8
    """Number of videos in the network at a time."""
    out: Path | None = None
    """Folder for fvd.json with the cards of both sets, and for real.npz and generated.npz."""
    report: Path | None = None
    """Write an HTML page: all metrics, a curve over the number of videos, the generated videos farthest from the real
    ones, and the real ones that no generated video covers."""
    device: str | None = None
    """cpu, cuda, cuda:1 and so on. Defaults to a GPU if there is one."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command. Exit with code 1 if videos could not be read; they are listed and skipped."""
    options = tyro.cli(Fvd, args=args, prog="quovadis fvd", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime.atomic import write_atomically

    result, real, generated = _compute(options)
    if options.report is not None:
        _write_report(options, options.report, result, real, generated)
    text = json.dumps(result.to_dict(), indent=2, allow_nan=False)
    if options.out is not None:
        write_atomically(options.out / "fvd.json", (text + "\n").encode())
    print(text if options.json else _format(result))
    unreadable = result.real.unreadable + result.generated.unreadable
    for line in unreadable:
        print(f"error: {line}", file=sys.stderr)
    if unreadable:
        total = sum(c.num_videos + c.num_short + len(c.unreadable) for c in (result.real, result.generated))
        print(f"{len(unreadable)} of {total} videos could not be read and were skipped", file=sys.stderr)
        sys.exit(1)


def _write_report(
    options: Fvd, path: Path, result: "FvdResult", real: "VideoEmbeddings", generated: "VideoEmbeddings"
) -> None:
    from quovadis.fvd.array_videos import ArrayFormat
    from quovadis.fvd.card import is_embeddings_file
    from quovadis.fvd.inputs import open_videos
    from quovadis.report.fvd_page import write_fvd_page

    form = ArrayFormat(options.layout, options.value_range, options.grayscale)
    real_videos, generated_videos = (
        None if is_embeddings_file(path) else open_videos(path, form) for path in (options.real, options.generated)
    )
    write_fvd_page(
        path,
        result,
        real,
        generated,
        real_videos=real_videos,
        generated_videos=generated_videos,
        seed=options.seed,
    )
    print(f"wrote {path}", file=sys.stderr)


def _compute(options: Fvd) -> "tuple[FvdResult, VideoEmbeddings, VideoEmbeddings]":
    from quovadis.fvd.card import VideoEmbeddings, is_embeddings_file
    from quovadis.fvd.distance import frechet_video_distance
    from quovadis.fvd.embed import Role, VideoEmbedder
    from quovadis.fvd.metric_values import SET_METRICS, require_set_metrics
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar, working
    from quovadis.weights.default import default_weights

    embedder = VideoEmbedder(
        options.protocol,
        weights=options.weights or default_weights(),
        features=options.features,
        num_frames=options.num_frames,
        frame_stride=options.frame_stride,
        fps=options.fps,
        resolution_px=options.resolution_px,
        seed=options.seed,
        device=options.device,
        layout=options.layout,
        value_range=options.value_range,
        grayscale=options.grayscale,
    )
    roles: tuple[tuple[Role, Path], ...] = (("real", options.real), ("generated", options.generated))
    metrics = SET_METRICS if options.metrics == "all" else tuple(filter(None, options.metrics.split(",")))
    require_set_metrics(metrics)
    with working("checking both sets"):
        embedder.require_usable(*((videos, role) for role, videos in roles), max_videos=options.max_videos)
    embeddings = []
    with progress_bar(Console(stderr=True)) as bar:
        for role, videos in roles:
            if is_embeddings_file(videos):
                embeddings.append(VideoEmbeddings.load(videos))
                continue
            task = bar.add_task(f"embedding {videos.name}", total=None)
            embedded = embedder.embed(
                videos,
                role=role,
                max_videos=options.max_videos,
                batch_size=options.batch_size,
                progress=lambda _, done, total, task=task: bar.update(task, completed=done, total=total),  # type: ignore[misc]
            )
            if options.out is not None:
                embedded.save(options.out / f"{role}.npz")
            embeddings.append(embedded)
    real, generated = embeddings
    result = frechet_video_distance(
        real,
        generated,
        metrics=metrics,
        curve=options.curve,
        num_resamples=options.num_resamples,
        seed=options.seed,
    )
    return result, real, generated


def _format(result: "FvdResult") -> str:
    interval = result.interval
    lines = [f"FVD {result.value:.2f}"]
    if interval is not None:
        lines[0] += f"  ({interval.low:.2f} to {interval.high:.2f}, {interval.confidence:.0%} bootstrap interval)"
    lines += [f"{metric.name:<10} {str(metric).removeprefix(metric.name).strip()}" for metric in result.metrics]
    if result.halves is not None:
        halves = result.halves
        lines.append(
            f"halves     {halves.mean:.2f} ± {halves.std:.2f} between random halves of the real set, "
            f"{halves.count} videos each: what the number of videos alone causes"
        )
    lines.append(f"infinity   {result.describe_infinity()}: FVD extrapolated to infinitely many videos")
    for point in result.curve:
        lines.append(f"curve      {point.count} videos: {point.mean:.2f} ± {point.std:.2f}")
    for role, card in (("real", result.real), ("generated", result.generated)):
        sizes = ", ".join(card.frame_sizes)
        lines.append(f"{role:<10} {card.num_videos} videos of {card.data} ({card.data_sha256[:12]}), frames {sizes}")
    lines.append(f"protocol   {result.real.describe().removeprefix('protocol ')}")
    lines.append(f"network    {result.real.network} {result.real.features}, weights {result.real.weights_sha256[:12]}")
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)
