"""Flow conventions: encoding to 8 bits and back, and presets that describe how flow was computed.

The paper's pipeline is: 25 fps, short side 256, grayscale, TV-L1, clip to +-20 pixels, 256 levels, and
:func:`quovadis.transforms.to_model` to map bytes to [-1, 1] (README of the official code; its issue 24 for the 256
levels). Channel 0 points right and channel 1 down; mirroring negates channel 0.

T frames have T - 1 flows, from frame t to frame t + 1. Networks expect one flow per frame, so the last one is repeated.
The paper does not specify the last flow; Table 1 has 64 frames for each stream.
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
    """All settings that affect the values of stored flow.

    Example:
        >>> PAPER
        FlowPreset('paper': 25 fps, short side 256 px, tvl1, +-20 px in 256 levels)
        >>> FlowPreset.from_dict(PAPER.to_dict()) == PAPER
        True
    """

    name: str = "paper"
    fps: float = 25.0
    """Frame rate to which videos are resampled before computing flow."""
    short_side_px: int = 256
    """Short side to which frames are resized (bilinear) before computing flow."""
    gray: str = "BT.601, 15 bits"
    """Conversion from RGB to grayscale: OpenCV's integer arithmetic."""
    method: str = "tvl1"
    """Method of :func:`quovadis.estimate_flow`."""
    parameters: TVL1Parameters = field(default_factory=TVL1Parameters)
    clip_px: float = 20.0
    """Flow is clipped to plus and minus this value."""
    num_levels: int = NUM_LEVELS
    """Number of quantization levels."""

    def to_dict(self) -> dict[str, Any]:
        """Return the preset as values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "FlowPreset":
        """Create a preset from the result of :meth:`to_dict`.

        Raises:
            InvalidInputError: If ``values`` are not those of a preset.
        """
        try:
            return cls(**{**values, "parameters": TVL1Parameters(**values["parameters"])})
        except (TypeError, KeyError) as error:
            raise InvalidInputError(f"not a preset of stored flow: {error}") from error

    def difference(self, other: "FlowPreset") -> str:
        """Describe the settings that differ; return an empty string if the presets are equal.

        Example:
            >>> FlowPreset(method="dis").difference(PAPER)
            "method is 'dis', not 'tvl1'"
        """
        own, others = _flat(self), _flat(other)
        return ", ".join(f"{key} is {own[key]!r}, not {others[key]!r}" for key in own if own[key] != others[key])

    def __repr__(self) -> str:
        changed = "" if self.parameters == TVL1Parameters() else f" {self.parameters}"
        return (
            f"FlowPreset({self.name!r}: {self.fps:g} fps, short side {self.short_side_px} px, {self.method}{changed}, "
            f"+-{self.clip_px:g} px in {self.num_levels} levels)"
        )


PAPER = FlowPreset()
"""The preset of the flow that the released weights of the paper were trained on."""


def preset_for(method: str = "tvl1", *, fps: float = PAPER.fps, short_side_px: int = PAPER.short_side_px) -> FlowPreset:
    """Create the preset of a method with its default parameters.

    Args:
        method: Method of :func:`quovadis.estimate_flow`.
        fps: Frame rate to which videos are resampled before computing flow.
        short_side_px: Short side of the frames.

    Example:
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
    """Encode flow as bytes: clip to +-``clip_px`` and round to the nearest of 256 evenly spaced levels.

    No level is exactly zero. Zero flow is encoded as 128, which :func:`quovadis.transforms.to_model` maps to
    1/255 = 0.0039.

    Args:
        flow: float32 tensor in pixels, of any shape.
        clip_px: Largest absolute value that is kept.

    Returns:
        uint8 tensor of the same shape.

    Raises:
        InvalidTypeError: If ``flow`` is not a float32 tensor.
        InvalidInputError: If ``flow`` has NaN, or ``clip_px`` is not above 0.

    Example:
        >>> encode_flow(torch.tensor([-30.0, -20.0, 0.0, 20.0])).tolist()
        [0, 0, 128, 255]
    """
    if not isinstance(flow, Tensor) or flow.dtype != torch.float32:
        got = flow.dtype if isinstance(flow, Tensor) else type(flow).__name__
        raise InvalidTypeError(f"encode_flow expects float32 flow in pixels; got {got}")
    if not 0 < clip_px < float("inf"):
        raise InvalidInputError(f"clip_px must be a number above 0; got {clip_px}")
    if bool(flow.isnan().any()):
        raise InvalidInputError(
            f"the flow of shape {tuple(flow.shape)} contains NaN; compute it again from uint8 frames"
        )
    scaled = (flow.clamp(-clip_px, clip_px) + clip_px) * ((NUM_LEVELS - 1) / (2 * clip_px))
    return scaled.round().to(torch.uint8)


def decode_flow(levels: Tensor, clip_px: float = 20.0) -> Tensor:
    """Decode the bytes of :func:`encode_flow` to flow in pixels.

    Args:
        levels: uint8 tensor of any shape.
        clip_px: The value passed to :func:`encode_flow`.

    Returns:
        float32 tensor of the same shape, in pixels. Unclipped values differ from the original by at most half a level,
        ``clip_px / 255``: 0.078 px for 20.

    Raises:
        InvalidTypeError: If ``levels`` is not a uint8 tensor.

    Example:
        >>> [round(v, 4) for v in decode_flow(encode_flow(torch.tensor([-20.0, 0.0, 3.0]))).tolist()]
        [-20.0, 0.0784, 3.0588]
    """
    if levels.dtype != torch.uint8:
        raise InvalidTypeError(f"decode_flow expects uint8 levels; got {levels.dtype}")
    return levels.to(torch.float32) * (2 * clip_px / (NUM_LEVELS - 1)) - clip_px


def repeat_last(flow: Tensor) -> Tensor:
    """Repeat the last of T - 1 flows, so that each of T frames has one.

    Example:
        >>> repeat_last(torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0, 2.0]
    """
    return torch.cat([flow, flow[-1:]])
