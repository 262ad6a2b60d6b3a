"""Text in matplotlib figures: escape math markup and select fonts that have glyphs for all characters."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from quovadis.runtime.plain_text import printable

_INVISIBLE = re.compile("[\u200b-\u200d\ufe00-\ufe0f]")
"""Joiners and variation selectors, which few fonts contain."""


def escape_mathtext(text: str) -> str:
    r"""Escape matplotlib's math markup and control characters.

    >>> escape_mathtext("costs $5 or $6")
    'costs \\$5 or \\$6'
    """
    return printable(text).replace("\t", " ").replace("$", r"\$")


@contextmanager
def lettering(*texts: str) -> Iterator[Callable[[str], str]]:
    """Use installed fonts with glyphs for some texts while drawing a figure.

    Args:
        texts: All texts of the figure.

    Yields:
        A function that prepares a text for matplotlib. It escapes characters that no installed font contains.
    """
    from matplotlib import rc_context, rcParams

    families, missing = _fonts(frozenset("".join(map(escape_mathtext, texts))))
    table = {ord(letter): letter.encode("unicode_escape").decode() for letter in missing}
    with rc_context({"font.family": [*rcParams["font.family"], *families]}):
        yield lambda text: _INVISIBLE.sub("", escape_mathtext(text)).translate(table)


@lru_cache
def _fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The font families needed in addition to the default one, and the characters that no font contains."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    missing = {ord(letter) for letter in letters if not _INVISIBLE.match(letter) and letter != "\n"}
    missing -= _code_points(str(findfont(FontProperties())))
    families: dict[str, None] = {}
    for font in fontManager.ttflist:
        if not missing:
            break
        if font.style == "normal" and font.weight in (400, "normal", "regular"):
            found = missing & _code_points(font.fname)
            if found:
                families[font.name] = None
                missing -= found
    return tuple(families), frozenset(map(chr, missing))


def _code_points(font_path: str) -> set[int]:
    """The characters of a font file; empty if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return set(FT2Font(font_path).get_charmap())
    except (OSError, RuntimeError):
        return set()
