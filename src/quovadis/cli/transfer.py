"""``quovadis transfer``: transfer a trained network to a small dataset."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quovadis.paper.inputs import TransferRecipes
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Transfer:
    """Train and evaluate a network on a small dataset in the paper's three settings.

    original: train on the dataset only. fixed: train a new classifier on frozen features. full-ft: fine-tune end to
    end. Run the same command again to continue; finished experiments are kept.
    """

    weights: tuple[Path, ...]
    """Source networks: weights files, run folders or published names, one for each stream."""
    data: tuple[str, ...]
    """Target datasets, as for quovadis train. For several, such as the three splits of UCF-101, mean and standard
    deviation are reported."""
    out: Path = Path("runs/transfer")
    """Folder for runs, features, results.json and report.html."""
    settings: tuple[Literal["original", "fixed", "full-ft"], ...] = ("original", "fixed", "full-ft")
    """Settings to run."""
    recipes: Annotated[TransferRecipes, tyro.conf.arg(name="")] = field(default_factory=TransferRecipes)
    source_data: str | None = None
    """Training data of the source, to reject targets whose test videos are among them."""
    protocol: str | None = None
    """Evaluation protocol: paper, whole, center-clip, ten-clips or 10x3. Default: the protocol of the model."""
    split_seed: int = 0
    """Seed of the random splits, for data without splits."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command."""
    options = tyro.cli(Transfer, args=args, prog="quovadis transfer", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime import distributed

    with distributed.process_group():
        _transfer(options)
    distributed.shutdown()


def _transfer(options: Transfer) -> None:
    from quovadis.datasets.load import load_dataset
    from quovadis.paper.transfer_settings import details_grid, transfer, transfer_grid
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import TrainingProgress

    with distributed.main_first():
        targets = [
            load_dataset(source, split_seed=options.split_seed, group_by=options.group_by) for source in options.data
        ]
        source_data = None
        if options.source_data is not None:
            source_data = load_dataset(options.source_data, split_seed=options.split_seed)
    errors = Console(stderr=True, soft_wrap=True, quiet=not distributed.is_main())
    with TrainingProgress(errors) as progress:
        rows = transfer(
            options.weights,
            targets,
            options.out,
            settings=options.settings,
            recipes=options.recipes,
            source_data=source_data,
            protocol=options.protocol,
            progress=progress,
        )
    if not distributed.is_main():
        return
    if options.json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        console = Console(soft_wrap=True)
        for grid in (transfer_grid(rows), details_grid(rows)):
            console.print(grid.to_terminal())
    errors.print(f"wrote {options.out / 'report.html'}")
    for row in rows:
        if len(row.folders) == 1:
            errors.print(f"use it: quovadis predict VIDEO --weights {row.folders[0]}")
