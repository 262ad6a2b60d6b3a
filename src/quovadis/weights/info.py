"""Metadata stored in a weights file."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says about the network inside; written into the file itself."""

    model: str
    """Name for :func:`quovadis.create_model`."""
    options: dict[str, Any]
    """The other arguments of :func:`quovadis.create_model`: stream, num_classes ..."""
    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where the numbers came from: recipe, step, data fingerprint, or the published file."""
