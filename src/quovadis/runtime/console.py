"""Rich console that prints strings as plain text, without markup, emoji codes or control characters."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment
from rich.text import Text

from quovadis.runtime.plain_text import printable


class Console(rich.console.Console):
    """A rich console without markup in strings. Use :func:`plain` for styled text.

    Args:
        options: Options of ``rich.console.Console``.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text, with control characters escaped."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: Any, options: rich.console.ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render with control characters escaped, and with ``#`` for bars if the encoding has no block characters."""
        blocks = "#" if (options or self.options).ascii_only else "█"
        for segment in super().render(renderable, options):
            if not segment.control:
                segment = segment._replace(text=printable(segment.text).replace("█", blocks))
            yield segment


def plain(text: str, style: str = "") -> Text:
    """Create text for a rich table, with control characters escaped before the width is computed."""
    return Text(printable(text), style)
