"""Plain text on the terminal: labels, paths and messages from files are printed as text, never as terminal commands."""

import builtins
import html
import re
from typing import TextIO

# Control characters except tab and line feed, characters that reverse or break the line, and bytes that are not UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape the characters that a terminal would obey or could not encode.

    Tabs, line feeds and letters of all scripts are unchanged. Applying it twice changes nothing.

    >>> printable("run \x1b[31mred")
    'run \\x1b[31mred'
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape(text: str) -> str:
    """Escape a text for HTML, as content and as an attribute."""
    return html.escape(printable(text))


def print(*values: object, sep: str = " ", end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """The builtin ``print`` with :func:`printable` values; every command prints with it."""
    builtins.print(*(printable(str(value)) for value in values), sep=sep, end=end, file=file, flush=flush)
