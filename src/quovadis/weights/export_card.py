"""What lies beside an exported network, and inside the file too: everything that is needed to feed it right."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from quovadis.models.contract import VideoModel
from quovadis.types import StreamSpec

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


def preprocessing_of(model: VideoModel) -> tuple[str, ...]:
    """The steps from a video file to the inputs of a network, in order, in words.

    >>> from quovadis.models.zoo import build_model
    >>> len(preprocessing_of(build_model("i3d_tiny", stream="flow")))
    6
    """
    spec = model.spec
    steps = [
        f"take frames at {spec.fps:g} a second by their timestamps",
        f"resize to a short side of {spec.short_side_px} px: bilinear, half-pixel centres, no antialiasing, to bytes",
    ]
    if spec.wants_flow:
        steps.append("flow: TV-L1 on grey bytes from each frame to the next, the last one repeated; pixels")
        steps.append("flow: clip to -20 ... 20 px and round to bytes, 256 levels")
    steps += [_sampling(stream) for stream in spec.streams if stream.frame_stride > 1 or stream.first_frame]
    steps.append(f"crop the centre, {spec.size_px} x {spec.size_px} px")
    steps.append("bytes to floats: value / 127.5 - 1")
    return tuple(steps)


def channels_of(stream: StreamSpec) -> str:
    """The channels of a stream in words."""
    return "R, G, B" if stream.kind == "rgb" else "x to the right, y down"


def _sampling(stream: StreamSpec) -> str:
    return f"{stream.kind}: of the frames take every {stream.frame_stride}th from number {stream.first_frame} on"
