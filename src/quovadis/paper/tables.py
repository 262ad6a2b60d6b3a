"""Tables with our results next to the published ones: as grids and as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quovadis.evaluation.results import EvaluationResult
from quovadis.paper.inputs import CellResult, TrainingInputs
from quovadis.paper.plan import Variant, network_name, table_1
from quovadis.paper.published import PaperTable, paper_table
from quovadis.report.grid import Grid, grid_page
from quovadis.runtime.atomic import write_atomically
from quovadis.training.run_folder import environment

# Short, so that the table fits a terminal with 80 columns.
_TABLE_1_HEADS = ("params M", *(f"{part} {what}" for part in ("train", "test") for what in ("rgb", "flow", "s")))
_RECIPE_NAMES = ("source", "original", "fixed", "full_ft")


def result_grid(table: str, inputs: TrainingInputs, cells: Sequence[CellResult]) -> Grid:
    """Create a table with one line per cell: our number, the paper's, and the difference. Empty if not run."""
    published = paper_table(table)
    columns = ["network", "experiment", "ours", "paper"]
    if inputs.variant == "paper":
        columns.append("difference")
    lines = []
    for c in cells:
        ours = "" if c.ours is None else f"{c.ours:.1f}"
        difference = "" if c.difference is None else f"{c.difference:+.1f}"
        line = (published.rows[c.cell.row], c.cell.column, ours, f"{c.published:.1f}", difference)
        lines.append(line[: len(columns)])
    notes = [*_input_notes(published, inputs), *_result_notes(published, inputs, cells)]
    return Grid(_title(published), tuple(columns), tuple(lines), 2, tuple(notes))


def _title(published: PaperTable) -> str:
    return f"Table {published.name[-1]}. {published.title}"


def _input_notes(published: PaperTable, inputs: TrainingInputs) -> list[str]:
    notes = [f"{published.unit.capitalize()}."]
    if inputs.variant == "tiny":
        notes.append(
            "Tiny networks on small inputs, to try out the plan. These are not reproductions; the paper's numbers are "
            "given for context only."
        )
    if inputs.image_model is not None:
        notes.append(f"Used instead of ImageNet: the 2D network {Path(inputs.image_model).name}.")
    elif inputs.variant == "tiny" and published.name == "table2":
        notes.append("Random initial weights are used where the paper uses ImageNet.")
    notes += [f"Paper: {note}" for note in published.notes]
    for name, splits in inputs.data.items():
        notes.append(f"Used as {name}: {', '.join(f'{m.name} {m.fingerprint}' for m in splits)}.")
    return notes


def _result_notes(published: PaperTable, inputs: TrainingInputs, cells: Sequence[CellResult]) -> list[str]:
    results = [r for c in cells for r in c.results]
    notes = evaluation_notes(results)
    if inputs.kinetics_split == "val" and any(r.split == "val" for r in results):
        notes.append("Kinetics: results on the validation split, which also selected learning rates and weights.")
    if published.name == "table5" and any(0 < len(c.results) < len(c.cell.splits) for c in cells):
        notes.append("Ours is the mean of the splits that were run; the paper's is the mean of three splits.")
    counts = Counter(c.reason for c in cells if c.reason)
    notes += [f"Not run, {count} cells or parts of them: {reason}." for reason, count in counts.items()]
    return notes


def evaluation_notes(results: Sequence[EvaluationResult]) -> list[str]:
    """Describe data and protocol of results, each once."""
    data = (
        f"Data {r.dataset} {r.data_fingerprint}, {r.split}: {r.num_videos} videos, {len(r.unreadable)} unreadable "
        "(counted as wrong)."
        for r in results
    )
    return list(dict.fromkeys([*data, *(f"Protocol {r.protocol}." for r in results)]))


def table_1_grid(variant: Variant = "paper") -> Grid:
    """Create Table 1, computed from the networks, with the paper's numbers for comparison."""
    published, ours = paper_table("table1"), table_1(variant)
    lines = []
    for row, network in published.rows.items():
        name = network if variant == "paper" else network_name(row, variant)
        lines.append((name, "ours", *(f"{ours[row, c]:.4g}" for c in published.columns)))
        lines.append(("", "paper", *(f"{published.value(row, c):g}" for c in published.columns)))
    notes = ["Ours is computed from the networks.", *published.notes]
    if variant == "tiny":
        notes.append("Tiny networks; the paper's numbers are given for context only.")
    else:
        notes.append("The paper reports whole millions, most of them rounded down.")
    return Grid(_title(published), ("network", "", *_TABLE_1_HEADS), tuple(lines), 2, tuple(notes))


def write_table(table: str, grid: Grid, content: Mapping[str, Any], out: Path) -> None:
    """Write a table as Markdown, JSON and HTML.

    Raises:
        StorageError: If a file cannot be written.
    """
    summary = "Our results and those of Carreira and Zisserman, arXiv:1705.07750v3."
    complete = {"table": table, **content, "environment": environment()}
    write_atomically(out / f"{table}.md", grid.to_markdown() + "\n")
    write_atomically(out / f"{table}.json", json.dumps(complete, indent=2) + "\n")
    write_atomically(out / f"{table}.html", grid_page(grid.title, summary, [grid]))


def write_results(table: str, inputs: TrainingInputs, cells: Sequence[CellResult], out: Path) -> None:
    """Write one of the tables 2 to 5, with recipes, data fingerprints and environment.

    Raises:
        StorageError: If a file cannot be written.
    """
    content = {
        "variant": inputs.variant,
        "protocol": inputs.protocol,
        "kinetics_split": inputs.kinetics_split,
        "data": {name: {m.name: m.fingerprint for m in splits} for name, splits in inputs.data.items()},
        "recipes": {name: getattr(inputs.recipes, name).to_dict() for name in _RECIPE_NAMES},
        "cells": [c.to_dict() for c in cells],
    }
    write_table(table, result_grid(table, inputs, cells), content, out)
