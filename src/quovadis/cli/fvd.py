"""``quovadis fvd``: the Frechet Video Distance of generated videos to real ones."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.fvd.distance import FvdResult


@dataclass(frozen=True)
class Fvd:
    """Measure how far generated videos are from real ones, by a named protocol. Protocols never mix.

    Each set is a folder of videos, a .npy or .npz file with uint8 (N, T, H, W, 3), or real.npz / generated.npz of an
    earlier --out, which spares embedding it again.
    """

    real: tyro.conf.Positional[Path]
    """The real videos."""
    generated: tyro.conf.Positional[Path]
    """The generated videos."""
    protocol: Literal["reference", "stylegan-v", "own"] = "reference"
    """reference: the TensorFlow code of the paper; stylegan-v: as its authors measure; own: any network."""
    weights: str | None = None
    """Name or file of the network; all but own need just this one, and prove it tensor by tensor."""
    features: str = "logits"
    """With own: logits, features, or an endpoint such as Mixed_5c, averaged over time and space."""
    frames: int | None = None
    """The first so many frames of each video; shorter ones are left out. By default all, or 16 for stylegan-v."""
    frame_stride: int = 1
    """Every so many frames; not with reference."""
    fps: float | None = None
    """With own: read files at this rate; else the frames of the file as they are."""
    resolution: int | None = None
    """With stylegan-v: make frames square of this size first, as its data are prepared (usually 256 or 128)."""
    max_videos: int | None = None
    """Look at the first so many videos of each set only."""
    bootstrap: int = 200
    """Resamples for the interval; 0 leaves it out."""
    seed: int = 0
    """Of stylegan-v's random starts, and of the bootstrap."""
    batch_size: int = 8
    """Videos in the network at a time."""
    out: Path | None = None
    """A folder for fvd.json, with the cards of both sets, and for real.npz and generated.npz."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the verb; videos that cannot be read are listed and left out, and then the exit code is 1."""
    options = tyro.cli(Fvd, args=args, prog="quovadis fvd", config=(tyro.conf.FlagCreatePairsOff,))
    from rich.progress import TaskID

    from quovadis.fvd.distance import frechet_video_distance
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar
    from quovadis.weights.default import default_weights
    from quovadis.weights.files import write_atomically

    tasks: dict[int, TaskID] = {}
    with progress_bar(Console(stderr=True)) as bar:

        def show(name: str, done: int, total: int) -> None:
            if done == 1:
                tasks[len(tasks)] = bar.add_task(f"embedding {name}", total=total)
            bar.update(tasks[len(tasks) - 1], completed=done)

        result = frechet_video_distance(
            options.real,
            options.generated,
            protocol=options.protocol,
            weights=options.weights or default_weights(),
            features=options.features,
            num_frames=options.frames,
            frame_stride=options.frame_stride,
            fps=options.fps,
            resolution_px=options.resolution,
            max_videos=options.max_videos,
            num_resamples=options.bootstrap,
            seed=options.seed,
            batch_size=options.batch_size,
            device=options.device,
            out=options.out,
            on_video=show,
        )
    text = json.dumps(result.to_dict(), indent=2, allow_nan=False)
    if options.out is not None:
        write_atomically(options.out / "fvd.json", (text + "\n").encode())
    print(text if options.json else _words(result))
    unreadable = result.real.unreadable + result.generated.unreadable
    for line in unreadable:
        print(f"error: {line}", file=sys.stderr)
    if unreadable:
        total = sum(c.num_videos + c.num_short + len(c.unreadable) for c in (result.real, result.generated))
        print(f"{len(unreadable)} of {total} videos could not be read and are left out", file=sys.stderr)
        sys.exit(1)


def _words(result: "FvdResult") -> str:
    interval = result.interval
    lines = [f"FVD {result.value:.2f}"]
    if interval is not None:
        lines[0] += f"  ({interval.low:.2f} to {interval.high:.2f}, {interval.confidence:.0%} bootstrap interval)"
        lines.append(f"bias       about {interval.bias:.2f} of it is for the number of videos, says the bootstrap")
    for role, card in (("real", result.real), ("generated", result.generated)):
        sizes = ", ".join(card.frame_sizes)
        lines.append(f"{role:<10} {card.num_videos} videos of {card.data} ({card.data_sha256[:12]}), frames {sizes}")
    lines.append(f"protocol   {result.real.describe().removeprefix('protocol ')}")
    lines.append(f"network    {result.real.network} {result.real.features}, weights {result.real.weights_sha256[:12]}")
    lines += [f"note: {note}" for note in result.notes]
    return "\n".join(lines)
