"""Tables with our figures beside the published ones, as words and as files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quovadis.paper.inputs import CellResult, TrainingInputs
from quovadis.paper.plan import Variant, network_name, table_1
from quovadis.paper.published import paper_table
from quovadis.report.grid import Grid, grid_page
from quovadis.training.run_folder import environment
from quovadis.weights.files import write_atomically

# Short, so that the table fits a terminal of 80 columns.
_TABLE_1_HEADS = ("params M", *(f"{part} {what}" for part in ("train", "test") for what in ("rgb", "flow", "s")))
_RECIPE_NAMES = ("source", "original", "fixed", "full_ft")


def result_grid(table: str, material: TrainingInputs, cells: Sequence[CellResult]) -> Grid:
    """A line a cell: our figure, the paper's, and the difference; what was not run stays empty."""
    published = paper_table(table)
    tiny_variant = material.variant == "tiny"
    columns = ["network", "experiment", "ours", "paper", *([] if tiny_variant else ["difference"])]
    lines = []
    for c in cells:
        ours = "" if c.ours is None else f"{c.ours:.1f}"
        difference = "" if c.difference is None else f"{c.difference:+.1f}"
        line = (published.rows[c.cell.row], c.cell.column, ours, f"{c.published:.1f}", difference)
        lines.append(line[: len(columns)])
    notes = [f"{published.unit.capitalize()}."]
    if tiny_variant:
        notes.append(
            "Tiny networks on small inputs, to try the plan: these are no reproductions, and the paper's numbers stand "
            "here for context only."
        )
    if material.image_model is not None:
        notes.append(f"In the place of ImageNet: the 2D network {Path(material.image_model).name}.")
    elif tiny_variant and table == "table2":
        notes.append("Where the paper starts from ImageNet, these start from random weights.")
    notes += [f"Paper: {note}" for note in published.notes]
    results = [r for c in cells for r in c.results]
    notes += [
        f"In the place of {name}: {', '.join(f'{m.name} {m.fingerprint}' for m in splits)}."
        for name, splits in material.data.items()
    ]
    notes += dict.fromkeys(
        f"Data {r.dataset} {r.data_fingerprint}, {r.split}: {r.num_videos} videos, {len(r.unreadable)} unreadable "
        "(counted as wrong)."
        for r in results
    )
    notes += dict.fromkeys(f"Protocol {r.protocol}." for r in results)
    if material.kinetics_split == "val" and any(r.split == "val" for r in results):
        notes.append("On Kinetics the validation videos are measured, which also chose learning rates and weights.")
    if table == "table5" and any(0 < len(c.results) < len(c.cell.splits) for c in cells):
        notes.append("Ours: the mean of the splits that were run, where the paper's is of three.")
    counts = Counter(c.reason for c in cells if c.reason)
    notes += [f"Not run, {count} cells or parts of them: {reason}." for reason, count in counts.items()]
    return Grid(f"Table {table[-1]}. {published.title}", tuple(columns), tuple(lines), 2, tuple(notes))


def table_1_grid(variant: Variant = "paper") -> Grid:
    """Table 1, computed from the networks, beside the paper's."""
    published, ours = paper_table("table1"), table_1(variant)
    lines = []
    for row, network in published.rows.items():
        name = network if variant == "paper" else network_name(row, variant)
        lines.append((name, "ours", *(f"{ours[row, c]:.4g}" for c in published.columns)))
        lines.append(("", "paper", *(f"{published.value(row, c):g}" for c in published.columns)))
    notes = ["Ours is computed from the networks.", *published.notes]
    if variant == "tiny":
        notes.append("Tiny networks: the paper's numbers stand here for context only.")
    else:
        notes.append("The paper's millions are whole numbers, most of them rounded down.")
    return Grid(f"Table 1. {published.title}", ("network", "", *_TABLE_1_HEADS), tuple(lines), 2, tuple(notes))


def write_table(table: str, grid: Grid, content: Mapping[str, Any], out: Path) -> None:
    """Write a table as Markdown, JSON and HTML.

    Raises:
        StorageError: it cannot be written.
    """
    summary = "Our figures beside those of Carreira and Zisserman, arXiv 1705.07750 v3."
    whole = {"table": table, **content, "environment": environment()}
    write_atomically(out / f"{table}.md", (grid.to_markdown() + "\n").encode())
    write_atomically(out / f"{table}.json", (json.dumps(whole, indent=2) + "\n").encode())
    write_atomically(out / f"{table}.html", grid_page(grid.title, summary, [grid]).encode())


def write_results(table: str, material: TrainingInputs, cells: Sequence[CellResult], out: Path) -> None:
    """Write one of the tables 2 to 5, with everything that its numbers stand on.

    Raises:
        StorageError: it cannot be written.
    """
    content = {
        "variant": material.variant,
        "protocol": material.protocol,
        "kinetics_split": material.kinetics_split,
        "data": {name: {m.name: m.fingerprint for m in splits} for name, splits in material.data.items()},
        "recipes": {name: getattr(material.recipes, name).to_dict() for name in _RECIPE_NAMES},
        "cells": [c.to_dict() for c in cells],
    }
    write_table(table, result_grid(table, material, cells), content, out)
