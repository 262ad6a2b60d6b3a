import pytest
from jinja2 import UndefinedError

from quovadis.report.grid import Grid
from quovadis.report.html import render
from quovadis.runtime.plain_text import escape


@pytest.mark.parametrize("text", ["<b>", "'\"&amp;", "a\x1b[31mred", "a\u202eb", "a\udcffb"])
def test_values_are_escaped_as_plain_text(text: str) -> None:
    html = render("quovadis.report", "grid.html", grid=Grid(text, ("a",), ((text,),), notes=(text,)))
    assert html.count(f">{escape(text)}<") == 3
    html.encode()


def test_missing_variables_raise() -> None:
    with pytest.raises(UndefinedError, match="'grid' is undefined"):
        render("quovadis.report", "grid.html")
