"""What lies beside an exported network, and inside the file too: everything that is needed to feed it right."""

import json
from dataclasses import asdict, dataclass
from typing import Any

HEADER = "quovadis"
"""Under this name the card stands in the metadata of the file itself."""
OUTPUT_NAMES = ("logits", "features")


@dataclass(frozen=True)
class PortCard:
    """One input or output of an exported network."""

    name: str
    shape: tuple[int | str, ...]
    """Sizes; a word where the size is free."""
    axes: str
    """What the axes are: ``B C T H W`` for an input."""
    description: str


@dataclass(frozen=True)
class CheckCard:
    """How the file was compared with the network that it was made from."""

    runtime: str
    shapes: tuple[tuple[tuple[int, ...], ...], ...]
    """Of the inputs, for each comparison."""
    max_difference: float
    """Largest absolute difference of any logit or feature."""
    max_relative_difference: float
    """The same, divided by the largest value of that output."""


@dataclass(frozen=True)
class ExportCard:
    """All about an exported file."""

    format: str
    file: str
    model: str
    inputs: tuple[PortCard, ...]
    outputs: tuple[PortCard, ...]
    dtype: str
    value_range: tuple[float, float]
    """Of the inputs."""
    free_sizes: dict[str, int]
    """For each free size its smallest value."""
    fps: float
    """Frames a second of video that the network saw in training."""
    preprocessing: tuple[str, ...]
    """From a video file to the input, in order."""
    labels: tuple[str, ...]
    """In the order of the logits; their softmax is the probabilities."""
    weights_sha256: str
    """Of all tensors of the network; see :func:`quovadis.weights.verify.state_sha256`."""
    source: dict[str, Any]
    """Where the numbers came from."""
    made_with: dict[str, str]
    check: CheckCard | None = None
    """None only in the copy within the file, which was written before it could be checked."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """The text of the card."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)
