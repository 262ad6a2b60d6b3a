"""Reproduce the paper's tables."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path

from quovadis.datasets.leakage import check_no_leakage
from quovadis.errors import UnknownNameError
from quovadis.evaluation.dump import LogitDump, join_dumps, read_dump, score_dump, write_dump
from quovadis.evaluation.evaluator import evaluate_streams
from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.recognizer import Recognizer
from quovadis.paper.inputs import CellResult, TrainingInputs
from quovadis.paper.plan import TABLES, Cell, Run, network_name, plan_table
from quovadis.paper.published import paper_table
from quovadis.paper.tables import write_results
from quovadis.runtime import distributed
from quovadis.runtime.hashing import sha256_text
from quovadis.training.experiment import SCORES, Experiment, run_experiment
from quovadis.training.progress import NullProgress, Progress
from quovadis.training.run_folder import lock_folder

_PUBLISHED_WEIGHTS = {"imagenet": "i3d-{}-imagenet-kinetics400", "random": "i3d-{}-kinetics400"}


def reproduce(
    table: str, inputs: TrainingInputs, out: str | PathLike[str], *, progress: Progress | None = None
) -> list[CellResult]:
    """Run the experiments that a table needs, and write it with the published numbers for comparison.

    Each run is an experiment in ``out``, identified by a hash of its recipe, data and initial weights. Tables share
    runs, and an interrupted reproduction continues. The table is written after every cell, as ``TABLE.md``,
    ``TABLE.json`` and ``TABLE.html``.

    Args:
        table: ``"table2"`` to ``"table5"``. For Table 1 see :func:`quovadis.paper.plan.table_1`.
        inputs: Data, recipes and initial weights. Cells with missing inputs stay empty.
        out: Folder for all tables.
        progress: Callbacks for steps, validations and notes.

    Returns:
        The cells for which the paper reports a number, row by row.

    Raises:
        UnknownNameError: If the table does not exist.
        DatasetError: If UCF-101 or HMDB-51 share test videos with Kinetics.
        StorageError: If another process writes to the folder.
        TrainingError: See :func:`quovadis.training.loop.train`.

    Example:
        >>> inputs = TrainingInputs({"ucf101": [data]}, recipes_for("tiny"))  # doctest: +SKIP
        >>> cells = reproduce("table4", inputs, "tables/")  # doctest: +SKIP
    """
    if table not in TABLES[1:]:
        raise UnknownNameError.among("table with results", table, TABLES[1:])
    for kinetics_data in inputs.data.get("kinetics", ()):
        for name in ("ucf101", "hmdb51"):
            for target in inputs.data.get(name, ()):
                check_no_leakage(kinetics_data, target)
    with distributed.process_group(), lock_folder(Path(out), "reproducing tables"):
        return _reproduce(table, inputs, Path(out), progress or NullProgress())


def _reproduce(table: str, inputs: TrainingInputs, out: Path, progress: Progress) -> list[CellResult]:
    runs = _Runs(inputs, out, progress)
    plan = plan_table(table, inflated=inputs.variant == "paper" or inputs.image_model is not None)
    cells = [CellResult(cell, _published(table, cell), (), reason="not yet") for cell in plan]
    for i, cell in enumerate(plan):
        cells[i] = runs.cell(cell, _published(table, cell))
        distributed.run_on_main(lambda: write_results(table, inputs, cells, out))
    return cells


class _Runs:
    """Scores of runs; each run is computed once."""

    def __init__(self, inputs: TrainingInputs, out: Path, progress: Progress):
        self.inputs, self.out, self.progress = inputs, out, progress
        self._scores: dict[Run, tuple[LogitDump, Path | str]] = {}

    def cell(self, cell: Cell, published: float) -> CellResult:
        """Compute a cell."""
        results: list[EvaluationResult] = []
        folders: list[str] = []
        reasons: list[str] = []
        for together in cell.splits:
            missing = [reason for run in together if (reason := self.missing_input(run))]
            if missing:
                reasons.append(missing[0])
                continue
            done = [self.scores(run) for run in together]
            results.append(score_dump(join_dumps([dump for dump, _ in done]))[-1])
            folders += [Path(weights).name for _, weights in done]
        return CellResult(cell, published, tuple(results), tuple(folders), "; ".join(dict.fromkeys(reasons)))

    def missing_input(self, run: Run) -> str:
        """Return which input of a run is missing, or ``""``."""
        if run.split > len(self.inputs.data.get(run.data, ())):
            return f"no data for {run.data}" + (f" split {run.split}" if run.data != "kinetics" else "")
        if run.source is not None and not self._is_published(run.source):
            return self.missing_input(run.source)
        if run.init == "imagenet" and not self.inputs.image_model and not self._is_published(run.source or run):
            return "no 2D network for the cells with ImageNet"
        return ""

    def scores(self, run: Run) -> tuple[LogitDump, Path | str]:
        """Return the scores of a run and its weights."""
        if run not in self._scores:
            published = self._is_published(run)
            self._scores[run] = self._evaluate_published(run) if published else self._run(run)
        return self._scores[run]

    def _run(self, run: Run) -> tuple[LogitDump, Path]:
        inputs, recipes = self.inputs, self.inputs.recipes
        data = inputs.data[run.data][run.split - 1]
        if run.source is not None:
            recipe = recipes.full_ft
        else:
            recipe = recipes.source if run.data == "kinetics" else recipes.original
        start = inputs.image_model if run.setting == "original" and run.init == "imagenet" else None
        name = network_name(run.model, inputs.variant)
        experiment = Experiment(
            run.setting,
            replace(recipe, model=replace(recipe.model, name=name, stream=run.stream, weights=start)),
            data,
            classifier=recipes.fixed if run.setting == "fixed" else None,
            source=None if run.source is None else self._source_weights(run.source),
            split=inputs.kinetics_split if run.data == "kinetics" else "test",
            protocol=inputs.protocol,
        )
        return run_experiment(experiment, self.out, progress=self.progress)

    def _source_weights(self, source: Run) -> Path | str:
        """Return the weights to start from. Published weights are not evaluated first."""
        return self._published_name(source) if self._is_published(source) else self.scores(source)[1]

    def _is_published(self, run: Run) -> bool:
        from_kinetics = run.model == "i3d" and run.data == "kinetics" and run.setting == "original"
        return self.inputs.published_weights and from_kinetics

    def _published_name(self, run: Run) -> str:
        return _PUBLISHED_WEIGHTS[run.init].format(run.stream)

    def _evaluate_published(self, run: Run) -> tuple[LogitDump, str]:
        """Evaluate DeepMind's weights on Kinetics, and store the scores like those of a run."""
        name, inputs = self._published_name(run), self.inputs
        data, config = inputs.data["kinetics"][0], inputs.recipes.source.data
        identity = [name, data.fingerprint, inputs.kinetics_split, str(inputs.protocol), config.flow_method]
        key = sha256_text("\n".join(identity))[:12]
        path = self.out / f"{data.name}-published-{name}-{key}" / SCORES
        if not distributed.run_on_main(path.is_file):
            if distributed.is_main():
                self.progress.note(f"evaluating {name} on {data.name}")
            folder = None if config.flow_folder is None else Path(config.flow_folder)
            recognizer = Recognizer.load(name, flow_method=config.flow_method, flow_folder=folder)
            results = evaluate_streams(
                recognizer,
                data,
                split=inputs.kinetics_split,
                protocol=inputs.protocol,
                num_workers=config.num_workers,
            )
            distributed.run_on_main(lambda: write_dump(path, LogitDump.of(results[:1])))
        return read_dump(path), name


def _published(table: str, cell: Cell) -> float:
    value = paper_table(table).value(cell.row, cell.column)
    assert value is not None
    return value
