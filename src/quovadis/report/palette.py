"""Colors of classes in charts."""

import colorsys
from collections.abc import Sequence

# Dark enough for white text.
_PALETTE = (
    *("#0b7285", "#d9480f", "#5f3dc4", "#2b8a3e", "#c2255c"),
    *("#8a6d00", "#1971c2", "#7f4f24", "#9c36b5", "#2f4858"),
)

MIN_CONFIDENCE = 0.5
"""Segments of a timeline with a lower probability are faded."""


def class_colors(names: Sequence[str]) -> dict[str, str]:
    """Assign a color to each class: ten from a palette, then hues in steps of the golden ratio.

    >>> class_colors(["run", "jump", "run"])
    {'run': '#0b7285', 'jump': '#d9480f'}
    """
    colors: dict[str, str] = {}
    for name in dict.fromkeys(names):
        index = len(colors)
        if index < len(_PALETTE):
            colors[name] = _PALETTE[index]
        else:
            red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.7, 0.6)
            colors[name] = f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"
    return colors
