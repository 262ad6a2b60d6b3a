"""What a network that was trained on much brings to a small dataset: Original, Fixed and Full-FT of Table 4."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from quovadis.datasets.leakage import refuse_shared_videos
from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import join_dumps, score_dump
from quovadis.evaluation.results import EvaluationResult
from quovadis.report.grid import Grid, grid_page
from quovadis.runtime import distributed
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.experiment import Setting, run_experiment, transfer_experiment
from quovadis.training.loop import Progress
from quovadis.training.recipes import Recipe, finetune, scratch
from quovadis.training.run_folder import environment, lock_folder
from quovadis.weights.files import write_atomically

SETTINGS: tuple[Setting, ...] = ("original", "fixed", "full-ft")


@dataclass(frozen=True)
class TransferRecipes:
    """How each setting is trained. Network and stream are those of the source, whatever stands in the recipes."""

    original: Recipe = field(default_factory=scratch)
    """On the target alone; its ``model.weights`` may be a 2D network."""
    fixed: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    """A new classifier on frozen features."""
    full_ft: Recipe = field(default_factory=finetune)
    """From the source's weights, end to end."""


@dataclass(frozen=True)
class TransferRow:
    """One setting and one stream, or all streams together: a figure for each target."""

    setting: Setting
    model: str
    results: tuple[EvaluationResult, ...]
    """One a target, in the order of the targets."""
    folders: tuple[Path, ...]
    """Of all experiments behind the figures."""

    @property
    def mean_top1(self) -> float:
        """Over the targets."""
        return mean(r.top1 for r in self.results)

    @property
    def spread_top1(self) -> float | None:
        """Standard deviation over the targets, as of a sample (n - 1); None of a single one."""
        return stdev(r.top1 for r in self.results) if len(self.results) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the outcome of each video is in the experiments' folders."""
        return {
            "setting": self.setting,
            "model": self.model,
            "mean_top1": self.mean_top1,
            "spread_top1": self.spread_top1,
            "targets": [
                {k: v for k, v in r.to_dict().items() if k not in ("videos", "confusion", "labels")}
                for r in self.results
            ],
            "folders": [f.name for f in self.folders],
        }


def transfer(
    sources: Sequence[str | PathLike[str]],
    targets: Sequence[Manifest],
    out: str | PathLike[str],
    *,
    settings: Sequence[Setting] = SETTINGS,
    recipes: TransferRecipes | None = None,
    source_data: Manifest | None = None,
    protocol: str | None = None,
    progress: Progress | None = None,
) -> list[TransferRow]:
    """Train and measure the settings on every target; what was done before is not done again.

    Args:
        sources: weights, one a stream; the figures of several are also given for their added logits.
        targets: the datasets; several are taken to be splits of one, and their mean is given.
        out: a folder for all experiments, ``results.json`` and ``report.html``.
        settings: any of ``original``, ``fixed`` and ``full-ft``.
        recipes: how each setting is trained; None is the recipes ``scratch`` and ``finetune`` and our classifier.
        source_data: what the sources were trained on; then a target whose test videos are among them is refused.
        protocol: see :data:`quovadis.evaluation.protocols.PROTOCOLS`; None takes the model's own.
        progress: is told about steps, validations and notes.

    Returns:
        For each setting a row a stream, and last the streams together where there are several.

    The paper does not say how the classifier of Fixed is trained, nor on which clips: see
    :class:`quovadis.training.classifier.ClassifierRecipe` and
    :func:`quovadis.training.frozen_features.frozen_features`. With Full-FT the
    source's classifier is kept where the classes are the same, by name and order.

    Raises:
        TrainingError: no source, target or setting. DatasetError: a target shares videos with the source.
        StorageError: another process writes into the folder.
    """
    if not sources or not targets or not settings:
        raise TrainingError("transfer needs the weights of a source, a target dataset and a setting")
    if source_data is not None:
        for target in targets:
            refuse_shared_videos(source_data, target)
    elif progress is not None:
        progress.note("the source's data are not given: nobody has looked whether test videos are among them")
    recipes = recipes or TransferRecipes()
    with distributed.process_group(), lock_folder(Path(out), "transfer"):
        return _transfer(sources, targets, Path(out), settings, recipes, protocol, progress)


def _transfer(
    sources: Sequence[str | PathLike[str]],
    targets: Sequence[Manifest],
    out: Path,
    settings: Sequence[Setting],
    recipes: TransferRecipes,
    protocol: str | None,
    progress: Progress | None,
) -> list[TransferRow]:
    rows = []
    for setting in settings:
        done = [
            [
                run_experiment(
                    transfer_experiment(
                        setting,
                        source,
                        target,
                        original=recipes.original,
                        full_ft=recipes.full_ft,
                        fixed=recipes.fixed,
                        protocol=protocol,
                    ),
                    out,
                    progress=progress,
                )
                for source in sources
            ]
            for target in targets
        ]
        folders = [tuple(folder for _, folder in of_target) for of_target in done]
        scored = [score_dump(join_dumps([dump for dump, _ in of_target])) for of_target in done]
        for i, results in enumerate(zip(*scored, strict=True)):
            behind = [f for of_target in folders for f in (of_target[i : i + 1] or of_target)]
            rows.append(TransferRow(setting, results[0].model, tuple(results), tuple(behind)))
    distributed.run_on_main(lambda: _write_report(rows, out, sources))
    return rows


def transfer_grid(rows: Sequence[TransferRow]) -> Grid:
    """The rows as a table."""
    several = len(rows[0].results) > 1
    names = [r.dataset for r in rows[0].results]
    columns = ("setting", "model", *names, *(("mean", "spread") if several else ()))
    lines = []
    for row in rows:
        figures = [f"{r.top1:.1%}" for r in row.results]
        if several:
            figures += [f"{row.mean_top1:.1%}", f"{row.spread_top1:.1%}"]
        lines.append((row.setting, row.model, *figures))
    results = [r for row in rows for r in row.results]
    notes = ["Top-1."]
    if several:
        notes[0] += " Spread: standard deviation over the columns (n - 1)."
    notes += dict.fromkeys(
        f"Data {r.dataset} {r.data_fingerprint}, {r.split}: {r.num_videos} videos, {len(r.unreadable)} unreadable, "
        "which count as wrong."
        for r in results
    )
    notes += dict.fromkeys(f"Protocol {r.protocol}." for r in results)
    return Grid("Transfer", columns, tuple(lines), 2, tuple(notes))


def _write_report(rows: Sequence[TransferRow], out: Path, sources: Sequence[str | PathLike[str]]) -> None:
    content = {
        "sources": [str(s) for s in sources],
        "rows": [row.to_dict() for row in rows],
        "environment": environment(),
    }
    write_atomically(out / "results.json", (json.dumps(content, indent=2) + "\n").encode())
    page = grid_page("Transfer", f"From {', '.join(map(str, sources))}.", [transfer_grid(rows)])
    write_atomically(out / "report.html", page.encode())
