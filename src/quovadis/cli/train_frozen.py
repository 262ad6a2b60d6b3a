"""``quovadis train frozen``: train a classifier on features of a pretrained network."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from quovadis.flow.parameters import FlowMethod
from quovadis.runtime.plain_text import print
from quovadis.runtime.threads import num_cores

if TYPE_CHECKING:
    from quovadis.datasets.manifest import Manifest
    from quovadis.training.frozen_classifier import FrozenRun


@dataclass(frozen=True)
class TrainFrozen:
    """Train a classifier for your classes on features of a pretrained network, in minutes on a CPU.

    Features are computed once for each video and kept in the cache. Run the same command again to continue; other
    folds, seeds and labels use the same features.
    """

    data: str
    """A folder with one subfolder per class, a .csv or .tsv table (path, label, split, group), a .parquet manifest, or
    "motions" (a small synthetic dataset)."""
    out: Path | None = None
    """Run folder, for --weights of other commands. Default: runs/frozen-DATA."""
    weights: tuple[str, ...] = ()
    """Pretrained networks: published names, weights files or run folders. With several, such as RGB and flow, the
    classifier uses the features of all of them. Default: the official RGB network."""
    folds: int = 0
    """Cross-validate with this many folds, whole groups at a time, and train the classifier on all videos. 0 uses the
    splits train, val and test."""
    protocol: str = "center-clip"
    """Clips of each video: center-clip (64 frames), center-16, ten-clips, 10x3 or paper."""
    balanced: bool = False
    """Give all classes the same total weight, for data with rare classes."""
    learning_curve: bool = False
    """Measure the accuracy against the number of training videos per class, to see whether more would help."""
    then: Literal["finetune"] | None = None
    """finetune: continue with the last blocks of the network, which takes minutes more, and keep them if they are more
    accurate. Needs --protocol center-clip or center-16, and 1.3 MB of cache for each video of 64 frames."""
    train_from: str = "Mixed_5b"
    """With --then finetune, the first block that is trained."""
    no_mirror: bool = False
    """With --then finetune, do not train on mirror images: for classes that differ in left and right."""
    seed: int = 0
    """Seed of the folds, and of the training of the last blocks."""
    split_seed: int = 0
    """Seed of the random split, for data without splits."""
    group_by: str | None = None
    """Regular expression for the group of a video in its path, such as '([^/]+)_[0-9]+': groups are not divided by
    splits and folds. For folders and tables without groups."""
    flow_method: FlowMethod = "tvl1"
    """Optical flow method, for networks that need flow."""
    flow_folder: Path | None = None
    """Folder written by quovadis flow. By default, flow next to a video is used, or estimated if there is none."""
    num_workers: int = 1
    """Number of decoding processes."""


def main(args: list[str]) -> None:
    """Run the command."""
    options = tyro.cli(TrainFrozen, args=args, prog="quovadis train frozen", config=(tyro.conf.FlagCreatePairsOff,))
    from quovadis.datasets.load import load_dataset
    from quovadis.flow.source import FlowSource
    from quovadis.report.terminal import evaluation_table
    from quovadis.runtime.console import Console
    from quovadis.runtime.progress import TrainingProgress, working
    from quovadis.training.accuracy_curve import more_data_helps
    from quovadis.training.frozen_classifier import train_frozen
    from quovadis.training.last_blocks import LastBlocksRecipe
    from quovadis.weights.default import default_weights

    started = time.perf_counter()
    console, errors = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True)
    data = load_dataset(options.data, split_seed=options.split_seed, group_by=options.group_by)
    out = options.out or Path("runs") / f"frozen-{data.name}"
    weights = options.weights or (default_weights(),)
    errors.print(data.describe())
    for note in data.notes:
        errors.print(f"note: {note}", style="dim")
    with TrainingProgress(errors) as progress:
        run = train_frozen(
            weights,
            data,
            out,
            num_folds=options.folds,
            protocol=options.protocol,
            balanced=options.balanced,
            curve=options.learning_curve,
            last_blocks=LastBlocksRecipe(options.train_from, mirror=not options.no_mirror) if options.then else None,
            seed=options.seed,
            flow=FlowSource(options.flow_method, options.flow_folder),
            num_workers=options.num_workers,
            progress=progress.count,
        )
    with working("writing the report"):
        page = _write_report(options, data, run, weights, time.perf_counter() - started)
    console.print(evaluation_table([run.result]))
    if run.cross_validation is not None:
        console.print(run.cross_validation.describe())
    if run.last_blocks is not None:
        console.print(run.last_blocks.describe())
    before, after = run.calibration_error
    console.print(f"calibration error {before:.1%}, with temperature {run.temperature:.2f} {after:.1%}")
    if run.curve:
        points = ", ".join(f"{p.num_per_class}: {p.accuracy:.1%}" for p in run.curve)
        console.print(f"top-1 by training videos per class: {points}. {more_data_helps(run.curve)}")
    for note in run.notes:
        errors.print(f"note: {note}", style="dim")
    errors.print(f"wrote {page}")
    errors.print(f"use it: quovadis predict VIDEO --weights {run.folder}")
    print(run.folder)


def _write_report(
    options: TrainFrozen, data: Manifest, run: FrozenRun, weights: tuple[str, ...], seconds: float
) -> Path:
    from quovadis.report.classifier import write_classifier_page
    from quovadis.report.evaluation import write_results

    balanced = ", balanced classes" if options.balanced else ""
    facts = {
        "network": f"{run.result.model}; features of {', '.join(weights)}",
        "clips": run.result.protocol,
        "classifier": f"L2-regularized logistic regression on standardized features, l2 = {run.l2:g}{balanced}",
        "data": data.describe(),
        "time": f"{seconds:.0f} seconds before this page, {num_cores()} cores",
    }
    write_results(run.folder / "results.json", [run.result])
    return write_classifier_page(
        run.folder / "report.html",
        run,
        title=f"Classifier for {data.name}",
        summary=f"A classifier trained on features of {', '.join(weights)}.",
        facts=facts,
    )
