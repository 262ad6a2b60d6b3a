"""Metadata of a weights file."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WeightsInfo:
    """Metadata of a weights file: the model, its class names and the origin of its weights.

    Example:
        >>> WeightsInfo("i3d", {"stream": "rgb", "num_classes": 2}, labels=("run", "jump")).source
        {}
    """

    model: str
    """Name of the model, as for :func:`quovadis.create_model`."""
    options: dict[str, Any]
    """Other arguments of :func:`quovadis.create_model`: ``stream`` and ``num_classes``."""
    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    source: dict[str, Any] = field(default_factory=dict)
    """Origin of the weights: recipe, step and data fingerprint, or the format and file that they were read from."""
