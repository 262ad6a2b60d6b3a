"""``quovadis prepare``: re-encode a dataset for fast training, with optional optical flow."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Prepare:
    """Re-encode a dataset for fast random access: 25 fps, short side 256, a key frame every 12 frames.

    An interrupted run continues when it is started again. Videos that cannot be decoded to the end are left out and
    listed with the reason. Pass OUT/manifest.parquet as --data to train and evaluate.
    """

    data: tyro.conf.Positional[str]
    """A folder with one subfolder per class, a .csv, .tsv or .parquet table of videos, or "motions"."""
    out: Path
    """The output folder."""
    flow_method: FlowMethod | None = None
    """Also store optical flow, estimated with this method. The paper uses tvl1."""
    fps: float = 25.0
    """Frames per second. Use the rate of the model."""
    short_side_px: int = 256
    """Length of the short side in pixels: 256 for the paper's models, 72 for the tiny ones."""
    quality: int = 18
    """Constant rate factor (CRF) of H.264; lower is better and larger."""
    key_frame_every: int = 12
    """Frames between key frames. Fewer frames make random access faster and files larger."""
    num_workers: int | None = None
    """Number of worker processes; by default one per core. 0 works in the main process."""
    ray: str | None = None
    """Use a Ray cluster whose machines share the file system: its address, "auto" or "local" (extra: cluster)."""
    split_seed: int = 0
    """Seed of the split, used if the dataset has none."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""


def main(args: list[str]) -> None:
    """Run the command; the exit code is 1 if videos are missing or corrupt."""
    options = tyro.cli(Prepare, args=args, prog="quovadis prepare", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.datasets.load import load_dataset
    from quovadis.datasets.preparation import PrepareSettings, clip_jobs, estimate_prepared_bytes, prepare
    from quovadis.datasets.prepared_folder import MANIFEST_NAME, require_space
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar
    from quovadis.runtime.threads import num_cores

    settings = PrepareSettings(
        fps=options.fps,
        short_side_px=options.short_side_px,
        quality=options.quality,
        key_frame_every=options.key_frame_every,
        flow_method=options.flow_method,
    )
    data = load_dataset(options.data, split_seed=options.split_seed, group_by=options.group_by)
    errors = Console(stderr=True, soft_wrap=True)
    errors.print(data.describe())
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")
    jobs = clip_jobs(data, options.out, settings)
    todo = [job for job in jobs if not job.target.is_file()]
    num_bytes = estimate_prepared_bytes(todo)
    done = f" ({len(jobs) - len(todo)} done before)" if len(todo) < len(jobs) else ""
    errors.print(f"{len(todo)} videos to prepare{done}, about {num_bytes / 1e6:.0f} MB in {options.out}")
    require_space(options.out, num_bytes)
    num_workers = num_cores() if options.num_workers is None else options.num_workers
    with progress_bar(errors) as bar:
        task = bar.add_task("preparing", total=len(jobs))
        prepared = prepare(
            data,
            options.out,
            settings,
            num_workers=num_workers,
            ray_address=options.ray,
            progress=lambda num_done: bar.update(task, completed=num_done),
        )
    bad = [r for r in prepared.records if r.status != "ok"]
    size = sum(r.size_bytes or 0 for r in prepared.records)
    print(f"{options.out / MANIFEST_NAME}: {len(prepared.records) - len(bad)} videos, {size / 1e6:.1f} MB")
    print(prepared.describe())
    for record in bad[:20]:
        print(f"{record.status}: {prepared.relative(record)}: {record.reason}", file=sys.stderr)
    if bad:
        print(f"{len(bad)} of {len(prepared.records)} videos could not be prepared", file=sys.stderr)
        sys.exit(1)
