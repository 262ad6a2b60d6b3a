"""Text in figures: labels and paths are drawn as they are, never as mathematics, in fonts that have their letters."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from quovadis.runtime.plain_text import printable

_INVISIBLE = re.compile("[\u200b-\u200d\ufe00-\ufe0f]")
"""Characters that only change how their neighbors are drawn; few fonts have them."""


def drawable(text: str) -> str:
    r"""Escape what matplotlib would read as mathematics, and control characters.

    >>> drawable("costs $5 or $6")
    'costs \\$5 or \\$6'
    """
    return printable(text).replace("\t", " ").replace("$", r"\$")


@contextmanager
def lettering(*texts: str) -> Iterator[Callable[[str], str]]:
    """Draw a figure that contains some texts, in the installed fonts that have their letters.

    Args:
        texts: What the figure contains.

    Yields:
        A function that makes each text ready for matplotlib. It escapes letters that no installed font has.
    """
    from matplotlib import rc_context, rcParams

    families, lost = _fonts(frozenset("".join(map(drawable, texts))))
    table = {ord(letter): letter.encode("unicode_escape").decode() for letter in lost}
    with rc_context({"font.family": [*rcParams["font.family"], *families]}):
        yield lambda text: _INVISIBLE.sub("", drawable(text)).translate(table)


@lru_cache
def _fonts(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The font families needed besides the default one, and the letters that no font has."""
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
    """The characters of a font file; none where it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return set(FT2Font(font_path).get_charmap())
    except (OSError, RuntimeError):
        return set()
