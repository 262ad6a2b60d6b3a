"""Griffe extension: show examples as code blocks with readable paths, and roles such as ``:func:`` as code."""

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^(?P<indent> *)>>> .*?(?=\n[ ]*\n|\n(?!(?P=indent))|\Z)", re.M | re.S)
_ROLE = re.compile(r":(?:func|class|meth|mod|data|attr):`(?P<short>~?)(?P<target>[\w.]+)`")
_PATHS = {'getfixture("clip_path")': 'Path("video.mp4")', 'getfixture("tmp_path")': 'Path("folder")'}
"""Test fixtures in examples, and what readers see instead."""


def to_markdown(docstring: str) -> str:
    """Put every doctest and its output into a fenced code block, and replace fixtures and Sphinx roles."""
    text = _EXAMPLE.sub(lambda found: "{1}```python\n{0}\n{1}```".format(found[0], found["indent"]), docstring)
    for fixture, path in _PATHS.items():
        text = text.replace(fixture, path)
    return _ROLE.sub(lambda role: f"`{_shown(role['target'], bool(role['short']))}`", text)


def _shown(target: str, short: bool) -> str:
    return target.rpartition(".")[2] if short else target


class MarkdownDocstrings(griffe.Extension):
    """Apply :func:`to_markdown` to every docstring."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)
