"""What mkdocstrings asks of us: an example in a docstring is code, whatever section it stands in."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*?(?=\n\s*\n|\Z)", re.M | re.S)


def fenced(docstring: str) -> str:
    """The docstring with every example, and what it prints, in a block of code."""
    return _EXAMPLE.sub(lambda example: f"```python\n{example[0]}\n```", docstring)


class FencedDoctests(griffe.Extension):
    """Does it for every object."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring before it is read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
