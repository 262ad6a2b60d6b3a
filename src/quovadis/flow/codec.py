"""The conventions of flow in one place: from pixels to bytes and back, and the named preset that files carry.

The order is: 25 fps, resize the short side to 256, gray, TV-L1, clip to +-20 pixels, 256 levels, and then
:func:`quovadis.transforms.to_model` maps bytes to [-1, 1] (README of the official code; 256 levels: its author in issue
24 there). Channel 0 is x to the right, channel 1 is y down; a mirror negates channel 0.

T frames have T - 1 flows, frame t to frame t + 1. Networks see one flow per frame, so the last one is repeated: the
paper has 64 frames of each stream (Table 1) and says nothing on the last one.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError
from quovadis.flow.parameters import FAST, TVL1Parameters

NUM_LEVELS = 256


@dataclass(frozen=True)
class FlowPreset:
    """How stored flow was made: everything that changes its numbers.

    >>> PAPER
    FlowPreset('paper': 25 fps, short side 256 px, tvl1, +-20 px in 256 levels)
    >>> FlowPreset.from_dict(PAPER.to_dict()) == PAPER
    True
    """

    name: str = "paper"
    fps: float = 25.0
    """Frames a second between which flow was computed."""
    short_side_px: int = 256
    """The short side to which frames were resized (bilinear) before flow."""
    gray: str = "BT.601, 15 bits"
    """How RGB became gray: as OpenCV's integer arithmetic has it."""
    method: str = "tvl1"
    """See :func:`quovadis.estimate_flow`."""
    parameters: TVL1Parameters = field(default_factory=TVL1Parameters)
    clip_px: float = 20.0
    """Flow is clipped to plus and minus this."""
    num_levels: int = NUM_LEVELS
    """Levels between them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FlowPreset":
        """The preset that :meth:`to_dict` wrote.

        Raises:
            InvalidInputError: values of something else.
        """
        try:
            return cls(**{**values, "parameters": TVL1Parameters(**values["parameters"])})
        except (TypeError, KeyError) as error:
            raise InvalidInputError(f"this is no preset of stored flow: {error}") from error

    def difference(self, other: "FlowPreset") -> str:
        """What differs, in words; empty when nothing does.

        >>> FlowPreset(method="dis").difference(PAPER)
        "method is 'dis', not 'tvl1'"
        """
        mine, theirs = _flat(self), _flat(other)
        return ", ".join(f"{key} is {mine[key]!r}, not {theirs[key]!r}" for key in mine if mine[key] != theirs[key])

    def __repr__(self) -> str:
        changed = "" if self.parameters == TVL1Parameters() else f" {self.parameters}"
        return (
            f"FlowPreset({self.name!r}: {self.fps:g} fps, short side {self.short_side_px} px, {self.method}{changed}, "
            f"+-{self.clip_px:g} px in {self.num_levels} levels)"
        )


PAPER = FlowPreset()
"""Flow as the released weights of the paper saw it."""


def preset_for(method: str = "tvl1", *, fps: float = PAPER.fps, short_side_px: int = PAPER.short_side_px) -> FlowPreset:
    """The preset of flow that is estimated by a method with its default parameters.

    >>> preset_for() == PAPER
    True
    >>> preset_for("tvl1-fast", short_side_px=72).name
    'tvl1-fast at 72 px'
    """
    words = [method] if method != PAPER.method else []
    words += [f"at {short_side_px} px"] if short_side_px != PAPER.short_side_px else []
    words += [f"at {fps:g} fps"] if fps != PAPER.fps else []
    parameters = FAST if method == "tvl1-fast" else TVL1Parameters()
    return FlowPreset(" ".join(words) or "paper", fps, short_side_px, method=method, parameters=parameters)


def _flat(preset: FlowPreset) -> dict[str, Any]:
    values = preset.to_dict()
    parameters = values.pop("parameters")
    return values | {f"parameters.{key}": value for key, value in parameters.items()}


def encode_flow(flow: Tensor, clip_px: float = 20.0) -> Tensor:
    """Pixels to bytes: clip to +-``clip_px``, then the nearest of 256 levels from one end to the other.

    No level is exactly 0 pixels: no motion becomes level 128, which :func:`to_model` makes 1/255 = 0.0039.

    Args:
        flow: float32 in pixels, any shape.
        clip_px: where to clip.

    Returns:
        uint8 of the same shape.

    Raises:
        InvalidTypeError: not float32. InvalidInputError: NaN.

    >>> encode_flow(torch.tensor([-30.0, -20.0, 0.0, 20.0])).tolist()
    [0, 0, 128, 255]
    """
    if not isinstance(flow, Tensor) or flow.dtype != torch.float32:
        got = flow.dtype if isinstance(flow, Tensor) else type(flow).__name__
        raise InvalidTypeError(f"encode_flow takes float32 flow in pixels; got {got}")
    if not 0 < clip_px < float("inf"):
        raise InvalidInputError(f"clip_px must be a number above 0; got {clip_px}")
    if bool(flow.isnan().any()):
        raise InvalidInputError(f"the flow {tuple(flow.shape)} has NaN in it; estimate it anew from whole frames")
    scaled = (flow.clamp(-clip_px, clip_px) + clip_px) * ((NUM_LEVELS - 1) / (2 * clip_px))
    return scaled.round().to(torch.uint8)


def decode_flow(levels: Tensor, clip_px: float = 20.0) -> Tensor:
    """Bytes to pixels; within the clip at most half a level off: ``clip_px`` / 255, which is 0.078 px for 20.

    Args:
        levels: uint8, any shape.
        clip_px: as it was for :func:`encode_flow`.

    Returns:
        float32 of the same shape, in pixels.

    >>> [round(v, 4) for v in decode_flow(encode_flow(torch.tensor([-20.0, 0.0, 3.0]))).tolist()]
    [-20.0, 0.0784, 3.0588]
    """
    if levels.dtype != torch.uint8:
        raise InvalidTypeError(f"decode_flow takes uint8 levels; got {levels.dtype}")
    return levels.to(torch.float32) * (2 * clip_px / (NUM_LEVELS - 1)) - clip_px


def repeat_last(flow: Tensor) -> Tensor:
    """T - 1 flows to T: the last one twice, so that every frame has one.

    >>> repeat_last(torch.tensor([1.0, 2.0])).tolist()
    [1.0, 2.0, 2.0]
    """
    return torch.cat([flow, flow[-1:]])
