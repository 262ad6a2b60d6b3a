"""Properties of a video file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video file, as returned by :func:`quovadis.probe`.

    Example:
        >>> from quovadis.video.read import probe
        >>> info = probe(getfixture("clip_path"))
        >>> info.codec, info.duration_seconds, info.has_audio
        ('h264', 1.2, False)
    """

    path: Path
    width: int
    """Width in pixels of the displayed frames: upright, with square pixels."""
    height: int
    """Height in pixels of the displayed frames."""
    fps: float
    """Average frames per second."""
    num_frames: int | None
    """Number of packets of the video stream; of decoded frames if ``counted``."""
    duration_seconds: float | None
    """Time from the first frame to the end of the last one."""
    codec: str
    """FFmpeg's name of the codec, such as ``h264``."""
    container: str
    """FFmpeg's name of the container format, such as ``matroska,webm``."""
    rotation_degrees: int
    """Clockwise rotation from stored to displayed frames: 0, 90, 180 or 270."""
    has_audio: bool
    counted: bool = False
    """True if ``num_frames`` was counted by decoding every frame."""
    variable_frame_rate: bool | None = None
    """True if frames are unevenly spaced; None unless every frame was decoded."""
    mirrored: bool = False
    """True if displayed frames are mirrored left-right after the rotation."""
    pixel_aspect_ratio: float = 1.0
    """Width of a stored pixel divided by its height; already applied to ``width`` and ``height``."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, for example that the video is interlaced or HDR."""
