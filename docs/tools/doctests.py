"""Griffe extension: show the examples in docstrings as code blocks."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*?(?=\n[ ]*\n|\n(?!(?P=indent))|\Z)", re.M | re.S)


def fenced(docstring: str) -> str:
    """Put every doctest and its output into a fenced code block."""
    return _EXAMPLE.sub(lambda found: "{1}```python\n{0}\n{1}```".format(found[0], found["indent"]), docstring)


class FencedDoctests(griffe.Extension):
    """Apply :func:`fenced` to every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
