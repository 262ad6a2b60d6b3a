"""``quovadis demo --from-scratch``: train a small two-stream network on the dataset motions."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from quovadis.runtime.threads import num_cores

if TYPE_CHECKING:
    from quovadis.cli._demo import Demo
    from quovadis.datasets.manifest import Manifest
    from quovadis.runtime.console import Console
    from quovadis.training.recipes import Recipe
    from quovadis.training.run_folder import RunFolder

_STREAMS: tuple[Literal["rgb", "flow"], ...] = ("rgb", "flow")
_FLOW_METHOD: Final = "tvl1-fast"  # tvl1 for 31,000 frame pairs would take longer than everything else


def run_from_scratch(options: "Demo") -> None:
    """Train both streams from random weights, evaluate, recognize a video, and write the HTML page."""
    from quovadis.cli._demo import make_videos, print_step, run_facts
    from quovadis.datasets.motions import MotionsConfig
    from quovadis.evaluation.evaluator import evaluate_streams
    from quovadis.inference.recognizer import Recognizer
    from quovadis.report.evaluation import write_evaluation_page, write_results
    from quovadis.report.terminal import evaluation_table, prediction_table
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar
    from quovadis.training.run_folder import read_log

    started = time.perf_counter()
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)

    print_step(console, "1. Videos", ": 5 objects x 5 motions; a single frame shows the object but not the motion")
    config = MotionsConfig(
        train_per_class=options.train_per_class or 16, test_per_class=options.test_per_class or 6, seed=options.seed
    )
    data = make_videos(config, errors, options.out)
    console.print(f"   {data.describe()}, in {data.root}")

    print_step(console, "2. Optical flow", f" of each video: {_FLOW_METHOD}, at the input size of the network")
    _store_flow(data, errors)

    recipes: dict[str, Recipe] = {stream: _recipe(stream, options) for stream in _STREAMS}
    recipe = recipes["rgb"]
    print_step(
        console,
        "3. Training",
        f": two {recipe.model.name} networks, RGB and flow, from random weights, up to {recipe.max_steps} steps each",
    )
    folders = _train(recipes, data, options.out, errors)

    print_step(console, "4. Evaluation", " on the test split")
    recognizer = Recognizer.load(*(folder.root for folder in folders), flow_method=_FLOW_METHOD)
    with progress_bar(errors) as bar:
        task = bar.add_task("evaluating test", total=len(data.split("test")))
        results = evaluate_streams(recognizer, data, progress=lambda done: bar.update(task, completed=done))
    console.print(evaluation_table(results))
    console.print(f"   chance is {1 / len(data.labels):.1%}; a model of single frames can reach at most 20 %")

    held_out = data.split("test")[0]
    print_step(console, "5. A video", f" from the test split (class: {data.labels[held_out.label]})")
    console.print(prediction_table(recognizer.predict(held_out.path), 3))

    seconds = time.perf_counter() - started
    write_results(options.out / "evaluation.json", results)
    page = write_evaluation_page(
        options.out / "report.html",
        results,
        data,
        recognizer,
        title="quovadis demo",
        summary=(
            "Two-stream I3D with few channels: separate networks for RGB and optical flow, trained from random weights "
            f"on {len(data.split('train'))} small videos of moving objects. The sum of their logits is evaluated on "
            f"{results[-1].num_videos} test videos."
        ),
        logs={stream: list(read_log(f.log)) for stream, f in zip(recipes, folders, strict=True)},
        facts={
            "command": "quovadis demo --from-scratch",
            "recipe": f"{recipe.name}: {recipe.to_dict()}",
            "optical flow": f"{_FLOW_METHOD}: TV-L1 with fewer iterations than in the paper",
            **run_facts(data, seconds),
        },
    )
    print_step(console, "6. Page", f": {page}  ({seconds:.0f} s in total)")
    rgb, flow = (folder.root for folder in folders)
    console.print(
        "\nNext:\n"
        f"  quovadis predict YOUR_VIDEO --weights {rgb} {flow} --flow-method {_FLOW_METHOD}\n"
        "  quovadis train tiny --data FOLDER_WITH_ONE_SUBFOLDER_PER_CLASS --out runs/mine\n"
        "  quovadis evaluate --data FOLDER_WITH_ONE_SUBFOLDER_PER_CLASS --weights runs/mine"
    )


def _store_flow(data: "Manifest", errors: "Console") -> None:
    """Write flow files next to the videos that do not have one."""
    from quovadis.flow.codec import preset_for
    from quovadis.flow.source import FlowJob, FlowSource, run_flow_job
    from quovadis.models.zoo import build_model
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar

    spec = build_model("i3d_tiny", stream="flow", num_classes=len(data.labels)).spec
    preset = preset_for(_FLOW_METHOD, fps=spec.fps, short_side_px=spec.short_side_px)
    source = FlowSource(_FLOW_METHOD)
    jobs = [FlowJob(r.path, source.file_of(r.path), preset) for r in data.records]
    todo = [job for job in jobs if not job.target.is_file()]
    with progress_bar(errors) as bar:
        task = bar.add_task("optical flow", total=len(jobs), completed=len(jobs) - len(todo))
        for _ in run_jobs(run_flow_job, todo, num_workers=num_cores()):
            bar.advance(task)


def _recipe(stream: Literal["rgb", "flow"], options: "Demo") -> "Recipe":
    from quovadis.training.recipes import find_recipe

    recipe = find_recipe("tiny")
    return replace(
        recipe,
        seed=options.seed,
        max_steps=options.max_steps,
        model=replace(recipe.model, stream=stream),
        # Both training processes run at once; each decodes its own videos.
        data=replace(recipe.data, flow_method=_FLOW_METHOD, num_workers=0),
    )


@dataclass(frozen=True)
class _Training:
    recipe: "Recipe"
    data: "Manifest"
    out: Path
    num_threads: int


def _train_one(job: _Training) -> "RunFolder":
    import torch

    from quovadis.training.loop import train

    torch.set_num_threads(job.num_threads)
    return train(job.recipe, job.data, job.out)


def _train(recipes: "dict[str, Recipe]", data: "Manifest", out: Path, errors: "Console") -> "list[RunFolder]":
    """Train the streams in parallel processes; progress is read from their logs."""
    from quovadis.runtime.jobs import run_jobs
    from quovadis.runtime.progress import progress_bar
    from quovadis.training.run_folder import RunFolder, read_log

    num_threads = max(num_cores() // len(recipes), 1)
    jobs = [_Training(recipe, data, out / stream, num_threads) for stream, recipe in recipes.items()]
    folders = [RunFolder(job.out) for job in jobs]
    with progress_bar(errors) as bar:
        tasks = [bar.add_task(stream, total=recipe.max_steps) for stream, recipe in recipes.items()]

        def show() -> None:
            for task, stream, folder in zip(tasks, recipes, folders, strict=True):
                steps = [row for row in read_log(folder.log) if "loss" in row]
                if steps:
                    description = f"training {stream}, loss {steps[-1]['loss']:.3f}"
                    bar.update(task, completed=steps[-1]["step"], description=description)

        for _ in run_jobs(_train_one, jobs, num_workers=len(jobs), while_waiting=show):
            show()
    return folders
