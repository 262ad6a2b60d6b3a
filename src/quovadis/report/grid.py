"""Tables for the terminal, Markdown and HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from quovadis.report.html import render
from quovadis.runtime.console import plain
from quovadis.runtime.plain_text import printable


@dataclass(frozen=True)
class Grid:
    r"""A table with a title and notes.

    >>> print(Grid("Lengths", ("name", "m"), (("a", "1.5"), ("b|c", "")), 1, ("Measured.",)).to_markdown())
    ## Lengths
    <BLANKLINE>
    | name | m |
    | --- | ---: |
    | a | 1.5 |
    | b\|c |  |
    <BLANKLINE>
    Measured.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_text_columns: int = 1
    """Number of left-aligned text columns at the left; the other columns are right-aligned numbers."""
    notes: tuple[str, ...] = ()

    def to_terminal(self) -> RenderableType:
        """Build a rich renderable."""
        table = Table(title=plain(self.title, style="bold"), title_justify="left", box=None, pad_edge=False)
        for i, column in enumerate(self.columns):
            table.add_column(plain(column), justify="left" if i < self.num_text_columns else "right", no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*map(plain, row))
        return Group(table, *(plain(note, style="dim") for note in self.notes))

    def to_markdown(self) -> str:
        """Format as Markdown: a heading, the table and the notes."""
        marks = ["---" if i < self.num_text_columns else "---:" for i in range(len(self.columns))]
        lines = [_line(self.columns), _line(marks), *map(_line, self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(f"\n{note}" for note in self.notes)])

    def to_html(self) -> str:
        """Render a section of an HTML page."""
        return render("quovadis.report", "grid.html", grid=self)


def grid_page(title: str, summary: str, grids: Sequence[Grid]) -> str:
    """Render a self-contained HTML page of tables."""
    return render("quovadis.report", "grids.html", title=title, summary=summary, grids=grids)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |"


def _markdown(cell: str) -> str:
    """Escape Markdown markup and control characters."""
    return re.sub(r"([\\|`*<\[])", r"\\\1", printable(cell).replace("\n", " "))
