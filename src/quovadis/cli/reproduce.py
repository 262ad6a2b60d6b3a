"""``quovadis reproduce``: the paper's tables with our numbers beside the published ones."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from quovadis.errors import TrainingError
from quovadis.paper.inputs import ReproduceRecipes, recipes_for
from quovadis.paper.plan import Variant


@dataclass(frozen=True)
class Reproduce:
    """Run what a table of the paper needs, keep what is done, and print our numbers beside the published ones.

    table1 needs no data: it is computed from the networks. Cells for which something is lacking stay empty, and the
    table says what. Started again, it goes on; with more data or weights, it fills more cells.
    """

    table: tyro.conf.Positional[Literal["table1", "table2", "table3", "table4", "table5"]]
    """Which table."""
    recipes: Annotated[ReproduceRecipes, tyro.conf.arg(name="")]
    data: tuple[str, ...] = ()
    """kinetics=DATA, ucf101=DATA, hmdb51=DATA, with DATA as for ``quovadis train``: a folder, a table, a manifest or
    "motions". ucf101 and hmdb51 up to three times, for splits 1 to 3. DATA alone stands for kinetics."""
    out: Path = Path("runs/reproduce")
    """For all tables: runs are shared, and TABLE.md, TABLE.json, TABLE.html are written."""
    variant: Variant = "paper"
    """tiny: the same plan with small networks and short recipes, to be tried on "motions" on a CPU. Its numbers are not
    comparable with the paper's."""
    image_model: str | None = None
    """A 2D Inception-v1 for the cells with ImageNet: a file of torchvision's GoogLeNet, googlenet-imagenet1k, or a run
    of two_stream (two_stream_tiny) with --model.stream rgb, which learns from single frames."""
    published_weights: bool = False
    """Take DeepMind's checkpoints for I3D on Kinetics instead of training it."""
    kinetics_split: Literal["val", "test"] = "test"
    """Which videos of Kinetics are measured; the paper's numbers are of the test set."""
    protocol: str | None = None
    """paper, whole, center-clip, ten-clips, 10x3; by default each network's own, the paper's."""
    split_seed: int = 0
    """Of the splits, where data come without."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the verb."""
    # The recipes' defaults follow the variant, so it is looked for before the rest is read.
    variant: Variant = "tiny" if "--variant tiny" in " ".join(args).replace("=", " ") else "paper"
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
    from quovadis.paper.reproduce import reproduce
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
        material = TrainingInputs(
            data,
            options.recipes,
            variant=options.variant,
            image_model=options.image_model,
            published_weights=options.published_weights,
            kinetics_split=options.kinetics_split,
            protocol=options.protocol,
        )
        with TrainingProgress(errors) as progress:
            results = reproduce(options.table, material, options.out, progress=progress)
        grid = result_grid(options.table, material, results)
    if not distributed.is_main():
        return
    if options.json:
        sys.stdout.write((options.out / f"{options.table}.json").read_text())
    else:
        Console(soft_wrap=True).print(grid.to_terminal())
    errors.print(f"wrote {options.out / options.table}.md, .json and .html")


def _load(given: tuple[str, ...], split_seed: int) -> dict:
    """From ``NAME=DATA`` to the datasets by name."""
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
