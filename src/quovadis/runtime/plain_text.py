"""Print untrusted text (labels, paths, messages) without terminal control sequences."""

import builtins
import html
import re
from typing import TextIO

# Control characters except tab and line feed, bidirectional and line separator characters, and invalid UTF-8.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Escape characters that control a terminal or cannot be encoded.

    Tabs, line feeds and letters of all scripts are unchanged. The function is idempotent.

    >>> printable("run \x1b[31mred")
    'run \\x1b[31mred'
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def escape(text: str) -> str:
    """Escape text for HTML content and attributes."""
    return html.escape(printable(text))


def print(*values: object, sep: str = " ", end: str = "\n", file: TextIO | None = None, flush: bool = False) -> None:
    """Print values as :func:`printable` text; otherwise like the builtin ``print``."""
    builtins.print(*(printable(str(value)) for value in values), sep=sep, end=end, file=file, flush=flush)
