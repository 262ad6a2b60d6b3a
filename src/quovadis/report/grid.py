"""A table of words and figures, for the terminal, Markdown and HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table

from quovadis.report.page import frame_html
from quovadis.runtime.console import plain
from quovadis.runtime.plain_text import escape, printable


@dataclass(frozen=True)
class Grid:
    r"""Rows under columns, with a title and notes.

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
    num_words: int = 1
    """How many columns, from the left, are words; the others are figures."""
    notes: tuple[str, ...] = ()

    def to_terminal(self) -> RenderableType:
        """For rich."""
        table = Table(title=plain(self.title, style="bold"), title_justify="left", box=None, pad_edge=False)
        for i, column in enumerate(self.columns):
            table.add_column(plain(column), justify="left" if i < self.num_words else "right", no_wrap=i == 0)
        for row in self.rows:
            table.add_row(*map(plain, row))
        return Group(table, *(plain(note, style="dim") for note in self.notes))

    def to_markdown(self) -> str:
        """A heading, the table, and the notes."""
        marks = ["---" if i < self.num_words else "---:" for i in range(len(self.columns))]
        lines = [_line(self.columns), _line(marks), *map(_line, self.rows)]
        return "\n".join([f"## {self.title}", "", *lines, *(f"\n{note}" for note in self.notes)])

    def to_html(self) -> str:
        """A section of a page."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(cell)}</td>" if i < self.num_words else f'<td class="number">{escape(cell)}</td>'
                for i, cell in enumerate(row)
            )
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p class='note'>{escape(note)}</p>" for note in self.notes)
        return (
            f"<section><h2>{escape(self.title)}</h2><div class='scroll'><table><tr>{head}</tr>{body}</table></div>"
            f"{notes}</section>"
        )


def grid_page(title: str, summary: str, grids: Sequence[Grid]) -> str:
    """A whole HTML page of tables."""
    return frame_html(title, summary, [grid.to_html() for grid in grids])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |"


def _markdown(cell: str) -> str:
    """A text as Markdown shows it: nothing in it is markup."""
    return re.sub(r"([\\|`*<\[])", r"\\\1", printable(cell).replace("\n", " "))
