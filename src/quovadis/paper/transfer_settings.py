"""Transfer learning in the paper's three settings: Original, Fixed and Full-FT (Table 4)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from quovadis.datasets.leakage import check_no_leakage
from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import join_dumps, score_dump
from quovadis.evaluation.results import EvaluationResult
from quovadis.paper.inputs import TransferRecipes
from quovadis.paper.published import SETTINGS
from quovadis.paper.tables import evaluation_notes
from quovadis.report.grid import Grid, grid_page
from quovadis.runtime import distributed
from quovadis.runtime.atomic import write_atomically
from quovadis.training.experiment import Experiment, Setting, run_experiment
from quovadis.training.progress import Progress
from quovadis.training.run_folder import environment, lock_folder
from quovadis.weights.load import load_model


@dataclass(frozen=True)
class TransferRow:
    """Results of one setting and one stream, or of all streams together, on each target."""

    setting: Setting
    model: str
    results: tuple[EvaluationResult, ...]
    """One for each target."""
    folders: tuple[Path, ...]
    """Folders of the experiments."""

    @property
    def mean_top1(self) -> float:
        """Mean top-1 accuracy over the targets."""
        return mean(r.top1 for r in self.results)

    @property
    def spread_top1(self) -> float | None:
        """Sample standard deviation (n - 1) over the targets; None for a single target."""
        return stdev(r.top1 for r in self.results) if len(self.results) > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON. Results of single videos are in the experiment folders."""
        return {
            "setting": self.setting,
            "model": self.model,
            "mean_top1": self.mean_top1,
            "spread_top1": self.spread_top1,
            "targets": [
                {k: v for k, v in r.to_dict().items() if k not in ("videos", "confusion", "labels")}
                | {"top1_interval": _interval(r)}
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
    """Train and evaluate the settings on every target. Finished experiments are not repeated.

    The paper does not specify how the classifier of Fixed is trained, nor on which clips: see
    :class:`quovadis.training.classifier.ClassifierRecipe` and
    :func:`quovadis.training.frozen_features.frozen_features`. Full-FT keeps the classifier of the source if the classes
    have the same names and order.

    Args:
        sources: Weights, one for each stream. With several, results are also given for the sum of their logits.
        targets: Target datasets. Several are treated as splits of one dataset, and their mean is reported.
        out: Folder for all experiments, ``results.json`` and ``report.html``.
        settings: Any of ``"original"``, ``"fixed"`` and ``"full-ft"``.
        recipes: Recipes of the settings; by default ``scratch``, ``finetune`` and :class:`ClassifierRecipe`.
        source_data: Training data of the sources. If given, targets with test videos among them are rejected.
        protocol: One of :data:`quovadis.evaluation.protocols.PROTOCOLS`; by default the protocol of the model.
        progress: Callbacks for steps, validations and notes.

    Returns:
        For each setting one row per stream, followed by all streams together if there are several.

    Raises:
        TrainingError: If there is no source, target or setting.
        DatasetError: If a target shares videos with the source.
        StorageError: If another process writes to the folder.

    Example:
        >>> ucf101 = load_ucf101("UCF-101/", "ucfTrainTestlist/")  # doctest: +SKIP
        >>> rows = transfer(["runs/kinetics"], [ucf101], "runs/transfer")  # doctest: +SKIP
    """
    if not sources or not targets or not settings:
        raise TrainingError("transfer needs the weights of a source, a target dataset and a setting")
    if source_data is not None:
        for target in targets:
            check_no_leakage(source_data, target)
    elif progress is not None:
        progress.note("source_data is not given: overlap of test videos with the source's training data is not checked")
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
                run_experiment(_experiment(setting, source, target, recipes, protocol), out, progress=progress)
                for source in sources
            ]
            for target in targets
        ]
        folders = [tuple(folder for _, folder in of_target) for of_target in done]
        scored = [score_dump(join_dumps([dump for dump, _ in of_target])) for of_target in done]
        for i, results in enumerate(zip(*scored, strict=True)):
            behind = [f for of_target in folders for f in (of_target[i : i + 1] or of_target)]
            rows.append(TransferRow(setting, results[0].model, tuple(results), tuple(behind)))
    distributed.run_on_main(lambda: _write_report(rows, out, sources, targets))
    return rows


def _experiment(
    setting: Setting, source: str | PathLike[str], target: Manifest, recipes: TransferRecipes, protocol: str | None
) -> Experiment:
    """Create an experiment for the network of a source. The setting ``original`` does not use its weights."""
    spec = load_model(source).spec
    recipe = recipes.original if setting == "original" else recipes.full_ft
    weights = recipe.model.weights if setting == "original" else None
    stream: Any = spec.stream
    return Experiment(
        setting,
        replace(recipe, model=replace(recipe.model, name=spec.name, stream=stream, weights=weights)),
        target,
        classifier=recipes.fixed if setting == "fixed" else None,
        source=None if setting == "original" else source,
        protocol=protocol,
    )


def transfer_grid(rows: Sequence[TransferRow]) -> Grid:
    """Create a table of the rows."""
    several = len(rows[0].results) > 1
    names = [r.dataset for r in rows[0].results]
    columns = ("setting", "model", *names, *(("mean", "spread") if several else ()))
    lines = []
    for row in rows:
        numbers = [f"{r.top1:.1%}" for r in row.results]
        if several:
            numbers += [f"{row.mean_top1:.1%}", f"{row.spread_top1:.1%}"]
        lines.append((row.setting, row.model, *numbers))
    note = "Top-1." + (" Spread: standard deviation over the columns (n - 1)." if several else "")
    notes = [note, *evaluation_notes([r for row in rows for r in row.results])]
    return Grid("Transfer", columns, tuple(lines), 2, tuple(notes))


def details_grid(rows: Sequence[TransferRow]) -> Grid:
    """Create a table of all metrics of each setting, model and target."""
    columns = ("setting", "model", "data", "top-1", "from", "to", "top-5", "class mean", "videos", "unread")
    lines = []
    for row in rows:
        for result in row.results:
            low, high = _interval(result)
            lines.append(
                (
                    row.setting,
                    row.model,
                    result.dataset,
                    f"{result.top1:.1%}",
                    f"{low:.1%}",
                    f"{high:.1%}",
                    f"{result.top5:.1%}" if len(result.labels) > 5 else "",
                    f"{result.mean_class:.1%}",
                    str(result.num_videos),
                    str(len(result.unreadable)),
                )
            )
    note = "From, to: 95 % Wilson interval of top-1 for independent videos. Unread (unreadable) videos count as wrong."
    return Grid("All metrics", columns, tuple(lines), 3, (note,))


def _interval(result: EvaluationResult) -> tuple[float, float]:
    from scipy.stats import binomtest

    found = binomtest(round(result.top1 * result.num_videos), result.num_videos).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def confusion_grid(rows: Sequence[TransferRow], count: int = 10) -> Grid:
    """Create a table of the most frequent confusions of each setting and model, over all targets."""
    lines = []
    for row in rows:
        pairs = Counter(
            (video.label, video.top[0][0])
            for result in row.results
            for video in result.videos
            if video.top and not video.correct
        )
        lines += [(row.setting, row.model, *pair, str(n)) for pair, n in pairs.most_common(count)]
    return Grid("Most frequent confusions", ("setting", "model", "class", "predicted", "videos"), tuple(lines), 4)


def _write_report(
    rows: Sequence[TransferRow], out: Path, sources: Sequence[str | PathLike[str]], targets: Sequence[Manifest]
) -> None:
    described = [target.describe() for target in targets]
    content = {
        "sources": [str(s) for s in sources],
        "targets": described,
        "rows": [row.to_dict() for row in rows],
        "environment": environment(),
    }
    write_atomically(out / "results.json", json.dumps(content, indent=2) + "\n")
    grids = [transfer_grid(rows), details_grid(rows), confusion_grid(rows)]
    summary = f"Source: {', '.join(map(str, sources))}. Target: {'; '.join(described)}."
    page = grid_page("Transfer", summary, grids)
    write_atomically(out / "report.html", page)
