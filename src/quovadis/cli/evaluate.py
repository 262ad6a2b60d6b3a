"""``quovadis evaluate``: evaluate a model on labeled videos."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.models.spec import Backend, Precision
from quovadis.runtime.plain_text import print


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model on labeled videos. Metrics are printed with their protocol and the fingerprint of the data."""

    data: str
    """A folder with one subfolder per class, a .csv or .tsv table (path, label, split, group), a .parquet manifest, or
    "motions"."""
    weights: tuple[Path, ...]
    """Weights files or folders of training runs. The logits of several networks are added."""
    split: Literal["train", "val", "test"] = "test"
    """The split to evaluate."""
    protocol: str | None = None
    """paper (the first ten seconds, short videos looped), whole, center-clip, center-16, ten-clips, or 10x3 (ten clips,
    three crops). Defaults to the protocol of the model."""
    split_seed: int = 0
    """Seed of the split, if the data have none; use the value of the training."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""
    out: Path | None = None
    """Folder for evaluation.json, with the result of every video, and an HTML report with examples."""
    dump: Path | None = None
    """File (.npz) for the logits of each network and video; quovadis fuse evaluates and fuses such files."""
    num_workers: int = 1
    """Number of decoding processes."""
    flow_method: FlowMethod = "tvl1"
    """Optical flow method, for networks that need flow; use that of the training."""
    flow_folder: Path | None = None
    """Folder written by quovadis flow. By default, flow next to a video is used, or estimated if there is none."""
    device: str | None = None
    """cpu, cuda, cuda:1 and so on. Defaults to a GPU if there is one."""
    precision: Precision = "float32"
    """Precision of convolutions; bfloat16 is faster on GPUs and on CPUs that support it."""
    backend: Backend = "torch"
    """Backend of the networks. compile needs a C++ compiler, openvino the extra of that name."""
    json: bool = False
    """Print JSON."""


def main(args: list[str]) -> None:
    """Run the command."""
    options = tyro.cli(Evaluate, args=args, prog="quovadis evaluate", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.runtime import distributed

    with distributed.process_group():
        _evaluate(options)
    distributed.shutdown()


def _evaluate(options: Evaluate) -> None:
    from quovadis.datasets.load import load_dataset
    from quovadis.evaluation.dump import LogitDump, write_dump
    from quovadis.evaluation.evaluator import evaluate_streams, training_notes
    from quovadis.inference.recognizer import Recognizer
    from quovadis.report.evaluation import write_evaluation_page, write_results
    from quovadis.report.terminal import evaluation_table
    from quovadis.runtime import distributed
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import progress_bar

    with distributed.main_first():
        data = load_dataset(options.data, split_seed=options.split_seed, group_by=options.group_by)
    recognizer = Recognizer.load(
        *options.weights,
        device=options.device,
        flow_method=options.flow_method,
        flow_folder=options.flow_folder,
        precision=options.precision,
        backend=options.backend,
    )
    stderr = Console(stderr=True, soft_wrap=True, quiet=not distributed.is_main())
    data = data.with_labels(recognizer.labels)
    notes = [*data.notes, *training_notes(recognizer, data, options.split)]
    for note in notes:
        stderr.print(f"note: {note}", style="dim")
    with progress_bar(stderr) as bar:
        task = bar.add_task(f"evaluating {options.split}", total=len(data.split(options.split)))
        results = evaluate_streams(
            recognizer,
            data,
            split=options.split,
            protocol=options.protocol,
            num_workers=options.num_workers,
            progress=lambda done: bar.update(task, completed=done),
        )
    if not distributed.is_main():
        return
    if options.dump is not None:
        write_dump(options.dump, LogitDump.of(results[: len(recognizer.models)]))
        stderr.print(f"wrote {options.dump}")
    if options.json:
        rows = [r.to_dict() for r in results]
        print(json.dumps(rows if len(rows) > 1 else rows[0], indent=2, allow_nan=False))
    else:
        Console(soft_wrap=True).print(evaluation_table(results))
    if options.out is not None:
        write_results(options.out / "evaluation.json", results)
        with progress_bar(stderr) as bar:
            task = bar.add_task("drawing examples", total=None)
            page = write_evaluation_page(
                options.out / "report.html",
                results,
                data,
                recognizer,
                title=f"{recognizer.describe()} on {data.name}",
                summary=data.describe(),
                facts={"weights": ", ".join(map(str, options.weights)), "notes": "; ".join(notes) or "none"},
                on_example=lambda done, total: bar.update(task, completed=done, total=total),
            )
        stderr.print(f"wrote {page}")
