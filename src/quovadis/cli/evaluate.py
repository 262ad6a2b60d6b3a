"""``quovadis evaluate``: measure a model on labeled videos by a protocol."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Evaluate:
    """Measure a model on labeled videos. Every figure is printed with its protocol and the fingerprint of its data."""

    data: str
    """A folder with one sub-folder per class, a .csv or .tsv table (path, label, split, group), a .parquet manifest, or
    "motions"."""
    weights: tuple[Path, ...]
    """A weights file or the folder of a training run; several are streams whose logits are added."""
    split: Literal["train", "val", "test"] = "test"
    """Which videos."""
    protocol: str | None = None
    """paper (Table 1: the first ten seconds, short videos looped), whole, center-clip, ten-clips, 10x3 (ten clips,
    three crops); by default the model's own."""
    split_seed: int = 0
    """Of the split, where the data come without one; the same as in training."""
    out: Path | None = None
    """A folder for evaluation.json, with the outcome of every video, and a page with pictures."""
    dump: Path | None = None
    """A file (.npz) for what each network said about each video; ``quovadis fuse`` measures and fuses such files."""
    num_workers: int = 1
    """Processes that decode."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated, where a model wants it; use what it was trained with."""
    flow_folder: Path | None = None
    """Where ``quovadis flow`` stored it; by default it is looked for beside each video."""
    device: str | None = None
    """cpu, cuda, cuda:1 ...; by default a GPU if there is one."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(Evaluate, args=args, prog="quovadis evaluate", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime import distributed

    with distributed.process_group():
        _evaluate(options)
    distributed.shutdown()


def _evaluate(options: Evaluate) -> None:
    from quovadis.datasets.load import load_dataset
    from quovadis.evaluation.dump import LogitDump, write_dump
    from quovadis.evaluation.evaluate import evaluate_streams
    from quovadis.inference.recognizer import Recognizer
    from quovadis.report.evaluation import write_page, write_results
    from quovadis.report.terminal import evaluation_table
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with distributed.main_first():
        data = load_dataset(options.data, split_seed=options.split_seed)
    recognizer = Recognizer.load(
        *options.weights,
        device=options.device,
        flow_method=options.flow_method,
        flow_folder=options.flow_folder,
    )
    errors = Console(stderr=True, soft_wrap=True, quiet=not distributed.is_main())
    data = data.with_labels(recognizer.labels)
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")
    with progress_bar(errors) as bar:
        task = bar.add_task(f"evaluating {options.split}", total=len(data.split(options.split)))
        results = evaluate_streams(
            recognizer,
            data,
            split=options.split,
            protocol=options.protocol,
            num_workers=options.num_workers,
            on_video=lambda done: bar.update(task, completed=done),
        )
    if not distributed.is_main():
        return
    if options.dump is not None:
        write_dump(options.dump, LogitDump.of(results[: len(recognizer.models)]))
        errors.print(f"wrote {options.dump}")
    if options.json:
        rows = [r.to_dict() for r in results]
        print(json.dumps(rows if len(rows) > 1 else rows[0], indent=2, allow_nan=False))
    else:
        Console(soft_wrap=True).print(evaluation_table(results))
    if options.out is not None:
        write_results(options.out / "evaluation.json", results)
        with progress_bar(errors) as bar:
            task = bar.add_task("drawing examples", total=None)
            page = write_page(
                options.out / "report.html",
                results,
                data,
                recognizer,
                title=f"{recognizer.describe()} on {data.name}",
                summary=data.describe(),
                facts={"weights": ", ".join(map(str, options.weights)), "notes": "; ".join(data.notes) or "none"},
                on_example=lambda done, total: bar.update(task, completed=done, total=total),
            )
        errors.print(f"wrote {page}")
