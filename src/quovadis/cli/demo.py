"""``quovadis demo``: the whole system in minutes, without a download."""

import time
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Demo:
    """Make the small dataset "motions", train on it, measure, predict a held-out file, and write a page.

    Nothing is downloaded. Started again, it goes on where it was.
    """

    out: Path = Path("runs/demo")
    """Where everything goes: the videos, the run, the page."""
    max_steps: int | None = None
    """Training steps; fewer make it quicker and worse."""
    train_per_class: int = 16
    """Training videos for each of the 25 classes."""
    seed: int = 0
    """Of the videos and of the training."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Demo, args=args, prog="quovadis demo", config=(tyro.conf.FlagCreatePairsOff,))
    from dataclasses import replace

    import torch
    from rich.console import Console

    from quovadis.datasets.motions import MotionsConfig, load_motions
    from quovadis.evaluation.evaluate import evaluate
    from quovadis.evaluation.page import write_page, write_results
    from quovadis.recognizer import Recognizer
    from quovadis.report.progress import TrainingProgress, progress_bar
    from quovadis.report.terminal import evaluation_table, prediction_table
    from quovadis.training.loop import train
    from quovadis.training.recipes import find_recipe
    from quovadis.training.run_folder import environment, read_log

    # One core decodes; threads that outnumber the cores wait for each other.
    torch.set_num_threads(max(torch.get_num_threads() - 1, 1))
    started = time.perf_counter()
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)

    console.print("[bold]1. Videos[/]: what moves x how it moves; one frame tells the thing, never the motion")
    config = MotionsConfig(train_per_class=options.train_per_class, seed=options.seed)
    with progress_bar(errors) as bar:
        task = bar.add_task("writing videos", total=config.total)
        data = load_motions(
            config, root=options.out / "motions", on_video=lambda done: bar.update(task, completed=done)
        )
    console.print(f"   {data.describe()}, in {data.root}")

    recipe = replace(find_recipe("tiny"), seed=options.seed)
    if options.max_steps is not None:
        recipe = replace(recipe, max_steps=options.max_steps)
    console.print(
        f"[bold]2. Training[/]: {recipe.model.name} on RGB, from random weights, up to {recipe.max_steps} steps"
    )
    with TrainingProgress(errors) as progress:
        folder = train(recipe, data, options.out / "rgb", progress=progress)

    console.print("[bold]3. Measuring[/] the test split")
    recognizer = Recognizer.load(folder.root)
    with progress_bar(errors) as bar:
        task = bar.add_task("evaluating test", total=len(data.split("test")))
        result = evaluate(recognizer, data, on_video=lambda done: bar.update(task, completed=done))
    console.print(evaluation_table([result]))
    console.print(f"   chance is {1 / len(data.labels):.1%}; a network that sees single frames can reach 20 %")

    held_out = data.split("test")[0]
    console.print(f"[bold]4. Predicting[/] a video that training never saw (it is: {data.labels[held_out.label]})")
    console.print(prediction_table(recognizer.predict(held_out.path), 3))

    seconds = time.perf_counter() - started
    write_results(options.out / "evaluation.json", [result])
    versions = environment()
    page = write_page(
        options.out / "report.html",
        [result],
        data,
        recognizer,
        title="quovadis demo",
        summary=(
            f"A tiny I3D, trained from random weights on {len(data.split('train'))} small videos of what moves and how "
            f"it moves, and measured on {result.num_videos} that it never saw."
        ),
        log=list(read_log(folder.log)),
        facts={
            "command": "quovadis demo",
            "recipe": f"{recipe.name}: {recipe.to_dict()}",
            "data": f"{data.describe()}, identity {data.identity}",
            "machine": f"{versions['platform']}, {versions['num_threads']} threads, torch {versions['torch']}",
            "time": f"{seconds:.0f} seconds in all",
        },
    )
    console.print(f"[bold]5. The page[/]: {page}  ({seconds:.0f} s in all)")
    console.print(
        "\nNext:\n"
        f"  quovadis predict YOUR_VIDEO --weights {folder.root}\n"
        "  quovadis train tiny --data FOLDER_WITH_ONE_SUBFOLDER_PER_CLASS --out runs/mine\n"
        "  quovadis evaluate --data FOLDER_WITH_ONE_SUBFOLDER_PER_CLASS --weights runs/mine"
    )
