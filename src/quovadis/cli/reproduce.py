"""``quovadis reproduce``: reproduce the tables of the paper."""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from quovadis.errors import TrainingError
from quovadis.paper.inputs import ReproduceRecipes, recipes_for
from quovadis.paper.plan import Variant


@dataclass(frozen=True)
class Reproduce:
    """Run the experiments of a table of the paper, and print our results next to the published ones.

    table1 is computed from the networks and needs no data. Cells with missing inputs stay empty, and the table lists
    what is missing. Run the command again to continue, or with more data or weights to fill more cells.
    """

    table: tyro.conf.Positional[Literal["table1", "table2", "table3", "table4", "table5"]]
    """The table to reproduce."""
    recipes: Annotated[ReproduceRecipes, tyro.conf.arg(name="")]
    data: tuple[str, ...] = ()
    """kinetics=DATA, ucf101=DATA or hmdb51=DATA, with DATA as for quovadis train: a folder, a table, a manifest or
    "motions". Repeat ucf101 and hmdb51 for splits 1 to 3. DATA without a name is used as kinetics."""
    out: Path = Path("runs/reproduce")
    """Folder for TABLE.md, TABLE.json, TABLE.html and the runs, which all tables share."""
    variant: Variant = "paper"
    """paper: the networks and recipes of the paper. tiny: the same plan with small networks and short recipes, for a
    CPU; its numbers are not comparable with the paper's."""
    image_model: str | None = None
    """2D Inception-v1 for the cells with ImageNet: a file of torchvision's GoogLeNet, googlenet-imagenet1k, or a run of
    two_stream (two_stream_tiny) with --model.stream rgb."""
    published_weights: bool = False
    """Use DeepMind's checkpoints for I3D on Kinetics instead of training it."""
    kinetics_split: Literal["val", "test"] = "test"
    """Split of Kinetics to evaluate. The paper reports the test set."""
    protocol: str | None = None
    """Evaluation protocol: paper, whole, center-clip, ten-clips or 10x3. Default: the protocol of each network."""
    split_seed: int = 0
    """Seed of the random splits, for data without splits."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command."""
    # The default recipes depend on the variant, which is therefore parsed first.
    variant_parser = argparse.ArgumentParser(prog="quovadis reproduce", add_help=False, allow_abbrev=False)
    variant_parser.add_argument("--variant", choices=get_args(Variant), default="paper")
    variant = variant_parser.parse_known_args(args)[0].variant
    options = tyro.cli(
        Reproduce,
        args=args,
        prog="quovadis reproduce",
        config=(tyro.conf.FlagCreatePairsOff,),
        default=Reproduce(table=tyro.MISSING, recipes=recipes_for(variant)),
    )
    from quovadis.runtime import distributed

    with distributed.process_group():
        _reproduce(options)
    distributed.shutdown()


def _reproduce(options: Reproduce) -> None:
    from quovadis.paper.inputs import TrainingInputs
    from quovadis.paper.plan import table_1
    from quovadis.paper.published import paper_table
    from quovadis.paper.reproduction import reproduce
    from quovadis.paper.tables import result_grid, table_1_grid, write_table
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import TrainingProgress

    errors = Console(stderr=True, soft_wrap=True, quiet=not distributed.is_main())
    if options.table == "table1":
        grid = table_1_grid(options.variant)
        published = paper_table("table1")
        cells = [
            {"row": row, "column": column, "ours": ours, "published": published.value(row, column)}
            for (row, column), ours in table_1(options.variant).items()
        ]
        content = {"variant": options.variant, "cells": cells}
        distributed.run_on_main(lambda: write_table("table1", grid, content, options.out))
    else:
        with distributed.main_first():
            data = _load(options.data, options.split_seed)
        inputs = TrainingInputs(
            data,
            options.recipes,
            variant=options.variant,
            image_model=options.image_model,
            published_weights=options.published_weights,
            kinetics_split=options.kinetics_split,
            protocol=options.protocol,
        )
        with TrainingProgress(errors) as progress:
            results = reproduce(options.table, inputs, options.out, progress=progress)
        grid = result_grid(options.table, inputs, results)
    if not distributed.is_main():
        return
    if options.json:
        sys.stdout.write((options.out / f"{options.table}.json").read_text())
    else:
        Console(soft_wrap=True).print(grid.to_terminal())
    errors.print(f"wrote {options.out / options.table}.md, .json and .html")


def _load(given: tuple[str, ...], split_seed: int) -> dict:
    """Load the datasets given as ``NAME=DATA``, by name."""
    from quovadis.datasets.load import load_dataset
    from quovadis.paper.plan import DATASETS

    if not given:
        raise TrainingError("tables 2 to 5 need --data, for example --data kinetics=k400.parquet ucf101=split1.parquet")
    found: dict = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not equals or name not in DATASETS:
            name, source = "kinetics", text
        found.setdefault(name, []).append(load_dataset(source, split_seed=split_seed))
    return found
