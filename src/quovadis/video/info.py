"""Properties of a video file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself; see :func:`quovadis.probe`."""

    path: Path
    width: int
    """As shown: upright, with square pixels."""
    height: int
    fps: float
    """Average frames a second."""
    num_frames: int | None
    """Packets of the picture stream, or frames decoded one by one when asked."""
    duration_seconds: float | None
    """From the first frame to the end of the last one."""
    codec: str
    container: str
    rotation_degrees: int
    has_audio: bool
    counted: bool = False
    """True when ``num_frames`` was counted by decoding every frame."""
    variable_frame_rate: bool | None = None
    """Known only when every frame was decoded."""
    mirrored: bool = False
    """True if the file asks for the picture to be mirrored left-right after the rotation."""
    pixel_aspect_ratio: float = 1.0
    """Width of a stored pixel divided by its height; already applied to ``width`` and ``height``."""
    notes: tuple[str, ...] = ()
    """What else a user should know, in words."""
