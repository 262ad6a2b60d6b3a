"""``quovadis transfer``: what a trained network brings to a small dataset."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quovadis.paper.transfer import TransferRecipes
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Transfer:
    """Train a network on a small dataset in the paper's three settings, and measure each.

    original: on the dataset alone. fixed: a new classifier on frozen features. full-ft: fine-tuned from end to end.
    Started again, what is done is kept, and a training run goes on where it was.
    """

    weights: tuple[Path, ...]
    """The source: weights files, run folders or published names, one a stream. They also say which network."""
    data: tuple[str, ...]
    """The target, as for ``quovadis train``; several, such as the three splits of UCF-101, give their mean and
    spread."""
    out: Path = Path("runs/transfer")
    """Where everything goes: the runs, the features, results.json and report.html."""
    settings: tuple[Literal["original", "fixed", "full-ft"], ...] = ("original", "fixed", "full-ft")
    """Which of them."""
    recipes: Annotated[TransferRecipes, tyro.conf.arg(name="")] = field(default_factory=TransferRecipes)
    source_data: str | None = None
    """What the source was trained on: then test videos that it has seen are refused."""
    protocol: str | None = None
    """paper, whole, center-clip, ten-clips, 10x3; by default the model's own."""
    split_seed: int = 0
    """Of the splits, where data come without."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Transfer, args=args, prog="quovadis transfer", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime import distributed

    with distributed.process_group():
        _transfer(options)
    distributed.shutdown()


def _transfer(options: Transfer) -> None:
    from quovadis.datasets.load import load_dataset
    from quovadis.paper.transfer import transfer, transfer_grid
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import TrainingProgress

    with distributed.main_first():
        targets = [load_dataset(source, split_seed=options.split_seed) for source in options.data]
        seen = None if options.source_data is None else load_dataset(options.source_data, split_seed=options.split_seed)
    errors = Console(stderr=True, soft_wrap=True, quiet=not distributed.is_main())
    with TrainingProgress(errors) as progress:
        rows = transfer(
            options.weights,
            targets,
            options.out,
            settings=options.settings,
            recipes=options.recipes,
            source_data=seen,
            protocol=options.protocol,
            progress=progress,
        )
    if not distributed.is_main():
        return
    if options.json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
    else:
        Console(soft_wrap=True).print(transfer_grid(rows).to_terminal())
    errors.print(f"wrote {options.out / 'report.html'}")
