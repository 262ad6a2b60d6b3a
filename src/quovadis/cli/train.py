"""``quovadis train``: train a model on labeled videos."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from quovadis.runtime.plain_text import print
from quovadis.training.recipes import RECIPES, Recipe, find_recipe


@dataclass(frozen=True)
class Train:
    """Train a model on labeled videos with a recipe. Run the same command again to resume an interrupted run."""

    data: str
    """A folder with one subfolder per class, a .csv or .tsv table (path, label, split, group), a .parquet manifest, or
    "motions" (a small synthetic dataset)."""
    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    out: Path | None = None
    """Run folder. Default: runs/RECIPE-DATA."""
    split_seed: int = 0
    """Seed of the random split, for data without splits."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""


def main(args: list[str]) -> None:
    """Run the command: ``quovadis train RECIPE --data DATA [--field value ...]``."""
    if not args or args[0].startswith("-"):
        print(_usage(), file=sys.stdout if {"-h", "--help"} & set(args) else sys.stderr)
        sys.exit(0 if {"-h", "--help"} & set(args) else 2)
    if args[0] == "frozen":
        from quovadis.cli.train_frozen import main as train_frozen

        train_frozen(args[1:])
        return
    recipe = find_recipe(args[0])
    default = Train(data=tyro.MISSING, recipe=recipe)
    options = tyro.cli(
        Train,
        args=args[1:],
        prog=f"quovadis train {recipe.name}",
        config=(tyro.conf.FlagCreatePairsOff,),
        default=default,
    )
    from quovadis.runtime import distributed

    with distributed.process_group():
        _train(options)
    distributed.shutdown()


def _train(options: Train) -> None:
    from quovadis.datasets.load import load_dataset
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import TrainingProgress
    from quovadis.training.loop import train

    with distributed.main_first():
        data = load_dataset(options.data, split_seed=options.split_seed, group_by=options.group_by)
    out = options.out or Path("runs") / f"{options.recipe.name}-{data.name}"
    if not distributed.is_main():
        train(options.recipe, data, out)
        return
    console = Console(stderr=True, soft_wrap=True)
    console.print(data.describe())
    with TrainingProgress(console) as progress:
        folder = train(options.recipe, data, out, progress=progress)
    print(folder.best)
    console.print(f"evaluate it: quovadis evaluate --data {options.data} --weights {out}")


def _usage() -> str:
    purposes = {"frozen": "Classifier on features of the pretrained network, in minutes on a CPU."}
    purposes |= {name: (function.__doc__ or "").splitlines()[0] for name, function in RECIPES.items()}
    lines = [f"  {name:<13} {purpose.replace('``', '')}" for name, purpose in purposes.items()]
    return "\n".join(
        [
            "usage: quovadis train RECIPE --data DATA [--out DIR] [--FIELD VALUE ...]",
            "",
            "Recipes:",
            *lines,
            "",
            "quovadis train RECIPE --help lists every field.",
        ]
    )
