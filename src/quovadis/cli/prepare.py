"""``quovadis prepare``: a dataset once decoded and stored as the networks read it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Prepare:
    """Write a dataset into a store: 25 fps, short side 256, a key frame every 12 frames, flow beside it if asked.

    Started again after a stop of any kind, it goes on where it was. Videos that cannot be decoded to their end are kept
    out and listed with the reason. The store's manifest.parquet is then the dataset to train and measure on.
    """

    data: tyro.conf.Positional[str]
    """A folder with one sub-folder per class, a .csv, .tsv or .parquet table of videos, or "motions"."""
    out: Path
    """The folder of the store."""
    flow: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] | None = None
    """Store optical flow too, made by this method; tvl1 is the paper's."""
    fps: float = 25.0
    """Frames a second; what the models see."""
    short_side_px: int = 256
    """The short side; what the models see: 256 for the paper's, 72 for the tiny ones."""
    quality: int = 18
    """Of H.264 (its crf): lower is better and larger."""
    key_frame_every: int = 12
    """Frames from one key frame to the next: fewer make random reads faster and files larger."""
    num_workers: int | None = None
    """Processes; by default one a core. 0 works in this one."""
    ray: str | None = None
    """Do it on a Ray cluster whose machines see the same files: its address, "auto", or "local" (extra: cluster)."""
    split_seed: int = 0
    """Of the split, where the data come without one."""


def main(args: list[str]) -> None:
    """Run the verb; the exit code is 1 when videos are missing or corrupt."""
    options = tyro.cli(Prepare, args=args, prog="quovadis prepare", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.datasets.load import load_dataset
    from quovadis.datasets.prepare import (
        MANIFEST_NAME,
        PrepareSettings,
        clip_jobs,
        estimate_store_bytes,
        prepare,
        require_space,
    )
    from quovadis.runtime.console import Console
    from quovadis.runtime.jobs import num_cores
    from quovadis.runtime.progress import progress_bar

    settings = PrepareSettings(
        fps=options.fps,
        short_side_px=options.short_side_px,
        quality=options.quality,
        key_frame_every=options.key_frame_every,
        flow_method=options.flow,
    )
    data = load_dataset(options.data, split_seed=options.split_seed)
    errors = Console(stderr=True, soft_wrap=True)
    errors.print(data.describe())
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")
    jobs = clip_jobs(data, options.out, settings)
    left = [job for job in jobs if not job.target.is_file()]
    num_bytes = estimate_store_bytes(left)
    done = f", {len(jobs) - len(left)} done before" if len(left) < len(jobs) else ""
    errors.print(f"{len(left)} videos to store{done}, about {num_bytes / 1e6:.0f} MB into {options.out}")
    require_space(options.out, num_bytes)
    num_workers = num_cores() if options.num_workers is None else options.num_workers
    with progress_bar(errors) as bar:
        task = bar.add_task("preparing", total=len(jobs))
        stored = prepare(
            data,
            options.out,
            settings,
            num_workers=num_workers,
            ray_address=options.ray,
            on_video=lambda number: bar.update(task, completed=number),
        )
    bad = [r for r in stored.records if r.status != "ok"]
    size = sum(r.size_bytes or 0 for r in stored.records)
    print(f"{options.out / MANIFEST_NAME}: {len(stored.records) - len(bad)} videos, {size / 1e6:.1f} MB")
    print(stored.describe())
    for record in bad[:20]:
        print(f"{record.status}: {stored.relative(record)}: {record.reason}", file=sys.stderr)
    if bad:
        print(f"{len(bad)} of {len(stored.records)} videos are not in the store", file=sys.stderr)
        sys.exit(1)
