"""The rich console of every command: strings are plain text, without markup, emoji codes or terminal commands."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment
from rich.text import Text

from quovadis.runtime.plain_text import printable


class Console(rich.console.Console):
    """A rich console that shows strings as they are; use :func:`plain` for styled text.

    Args:
        options: Options of ``rich.console.Console``.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make the text of a string, with control characters escaped."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: rich.console.ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render with control characters escaped, and with bars of ``#`` where the encoding has no blocks."""
        blocks = "#" if (options or self.options).ascii_only else "█"
        for segment in super().render(renderable, options):
            if not segment.control:
                segment = segment._replace(text=printable(segment.text).replace("█", blocks))
            yield segment


def plain(text: str, style: str = "") -> Text:
    """A text for a rich table, with control characters escaped before its width is measured."""
    return Text(printable(text), style)
