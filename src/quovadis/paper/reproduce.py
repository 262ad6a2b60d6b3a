"""The paper's tables with our numbers beside the published ones: what is missing is run, what is done is kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from quovadis.datasets.leakage import refuse_shared_videos
from quovadis.errors import UnknownNameError
from quovadis.evaluation.dump import LogitDump, join_dumps, read_dump, score_dump, write_dump
from quovadis.evaluation.evaluate import evaluate_streams
from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.recognizer import Recognizer
from quovadis.paper.inputs import CellResult, TrainingInputs
from quovadis.paper.plan import TABLES, Cell, Run, network_name, plan_table
from quovadis.paper.published import paper_table
from quovadis.paper.tables import write_results
from quovadis.runtime import distributed
from quovadis.training.experiment import SCORES, Experiment, run_experiment
from quovadis.training.loop import NullProgress, Progress
from quovadis.training.run_folder import lock_folder

_PUBLISHED_WEIGHTS = {"imagenet": "i3d-{}-imagenet-kinetics400", "random": "i3d-{}-kinetics400"}


def reproduce(
    table: str, material: TrainingInputs, out: str | PathLike[str], *, progress: Progress | None = None
) -> list[CellResult]:
    """Run what a table's cells need and was not run before, and write the table with the published numbers beside.

    Every run is an experiment in ``out``, named with a hash of its recipe, data and first weights, so tables share
    runs, a changed recipe is another run, and a reproduction that was killed goes on. After every cell the table is
    written as ``TABLE.md``, ``TABLE.json`` and ``TABLE.html``.

    Args:
        table: ``table2`` to ``table5``; the first is :func:`quovadis.paper.plan.table_1`.
        material: data, recipes, and where first weights come from; what it lacks leaves cells empty.
        out: a folder for all tables.
        progress: is told about steps, validations and notes.

    Returns:
        The cells for which the paper has a number, row by row.

    Raises:
        UnknownNameError: no such table. DatasetError: UCF-101 or HMDB-51 share test videos with Kinetics.
        StorageError: another process writes into the folder. And whatever :func:`quovadis.training.loop.train` raises.
    """
    if table not in TABLES[1:]:
        raise UnknownNameError.among("table with results", table, TABLES[1:])
    for kinetics_data in material.data.get("kinetics", ()):
        for name in ("ucf101", "hmdb51"):
            for target in material.data.get(name, ()):
                refuse_shared_videos(kinetics_data, target)
    with distributed.process_group(), lock_folder(Path(out), "reproducing tables"):
        return _reproduce(table, material, Path(out), progress or NullProgress())


def _reproduce(table: str, material: TrainingInputs, out: Path, progress: Progress) -> list[CellResult]:
    runs = _Runs(material, out, progress)
    plan = plan_table(table, inflated=material.variant == "paper" or material.image_model is not None)
    cells = [CellResult(cell, _published(table, cell), (), reason="not yet") for cell in plan]
    for i, cell in enumerate(plan):
        cells[i] = runs.cell(cell, _published(table, cell))
        distributed.run_on_main(lambda: write_results(table, material, cells, out))
    return cells


class _Runs:
    """Runs that were done or found undoable, so that none is looked at twice."""

    def __init__(self, material: TrainingInputs, out: Path, progress: Progress):
        self.material, self.out, self.progress = material, out, progress
        self.known: dict[Run, tuple[LogitDump, Path | str]] = {}

    def cell(self, cell: Cell, published: float) -> CellResult:
        """Everything that a cell needs."""
        results: list[EvaluationResult] = []
        folders: list[str] = []
        reasons: list[str] = []
        for together in cell.splits:
            lacking = [why for run in together if (why := self.why_not(run))]
            if lacking:
                reasons.append(lacking[0])
                continue
            done = [self.scores(run) for run in together]
            results.append(score_dump(join_dumps([dump for dump, _ in done]))[-1])
            folders += [Path(weights).name for _, weights in done]
        return CellResult(cell, published, tuple(results), tuple(folders), "; ".join(dict.fromkeys(reasons)))

    def why_not(self, run: Run) -> str:
        """What a run lacks; empty where nothing."""
        material = self.material
        if run.split > len(material.data.get(run.data, ())):
            return f"no data for {run.data}" + (f" split {run.split}" if run.data != "kinetics" else "")
        if run.source is not None and not self._is_published(run.source):
            return self.why_not(run.source)
        if run.init == "imagenet" and not material.image_model and not self._is_published(run.source or run):
            return "no 2D network for the cells with ImageNet"
        return ""

    def scores(self, run: Run) -> tuple[LogitDump, Path | str]:
        """The scores of a run, and its weights."""
        if run not in self.known:
            published = self._is_published(run)
            self.known[run] = self._measure_published(run) if published else self._run(run)
        return self.known[run]

    def _run(self, run: Run) -> tuple[LogitDump, Path]:
        material, recipes = self.material, self.material.recipes
        data = material.data[run.data][run.split - 1]
        if run.source is not None:
            recipe = recipes.full_ft
        else:
            recipe = recipes.source if run.data == "kinetics" else recipes.original
        stream: Any = run.stream
        start = material.image_model if run.setting == "original" and run.init == "imagenet" else None
        name = network_name(run.model, material.variant)
        experiment = Experiment(
            run.setting,
            replace(recipe, model=replace(recipe.model, name=name, stream=stream, weights=start)),
            data,
            classifier=recipes.fixed if run.setting == "fixed" else None,
            source=None if run.source is None else self._source_weights(run.source),
            split=material.kinetics_split if run.data == "kinetics" else "test",
            protocol=material.protocol,
        )
        return run_experiment(experiment, self.out, progress=self.progress)

    def _source_weights(self, source: Run) -> Path | str:
        """What to start from; published weights need not be measured for that."""
        return self._published_name(source) if self._is_published(source) else self.scores(source)[1]

    def _is_published(self, run: Run) -> bool:
        from_kinetics = run.model == "i3d" and run.data == "kinetics" and run.setting == "original"
        return self.material.published_weights and from_kinetics

    def _published_name(self, run: Run) -> str:
        return _PUBLISHED_WEIGHTS[run.init].format(run.stream)

    def _measure_published(self, run: Run) -> tuple[LogitDump, str]:
        """The scores of DeepMind's weights on Kinetics, kept like those of a run."""
        name, material = self._published_name(run), self.material
        data, choice = material.data["kinetics"][0], material.recipes.source.data
        made_of = [name, data.fingerprint, material.kinetics_split, str(material.protocol), choice.flow_method]
        key = hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]
        path = self.out / f"{data.name}-published-{name}-{key}" / SCORES
        if not distributed.run_on_main(path.is_file):
            if distributed.is_main():
                self.progress.note(f"measuring {name} on {data.name}")
            folder = None if choice.flow_folder is None else Path(choice.flow_folder)
            recognizer = Recognizer.load(name, flow_method=choice.flow_method, flow_folder=folder)
            results = evaluate_streams(
                recognizer,
                data,
                split=material.kinetics_split,
                protocol=material.protocol,
                num_workers=choice.num_workers,
            )
            distributed.run_on_main(lambda: write_dump(path, LogitDump.of(results[:1])))
        return read_dump(path), name


def _published(table: str, cell: Cell) -> float:
    value = paper_table(table).value(cell.row, cell.column)
    assert value is not None
    return value
