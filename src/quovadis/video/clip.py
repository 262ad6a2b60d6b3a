"""Clips: consecutive frames of a video with their timestamps and, optionally, optical flow.

Layout letters: B batch, T time (frames), C channels, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, TooFewFramesError


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of a video with their timestamps and, optionally, optical flow.

    :func:`quovadis.read_clip` reads one from a file, :mod:`quovadis.transforms` resizes, crops and flips it, and
    :func:`quovadis.flow.estimate.flow_for_clip` adds flow. All checks run on construction.

    Raises:
        InvalidTypeError: If ``frames`` is not a uint8 tensor.
        InvalidInputError: If the shapes of ``frames``, ``pts_seconds`` and ``flow`` do not match.

    Example:
        >>> clip = Clip(torch.zeros(8, 3, 240, 320, dtype=torch.uint8), torch.arange(8) / 25)
        >>> clip
        Clip(T=8, H=240, W=320, 0.000 s to 0.280 s)
        >>> len(clip), clip.height, clip.width
        (8, 240, 320)
    """

    frames: Tensor
    """uint8 (T, 3, H, W), RGB."""
    pts_seconds: Tensor
    """float64 (T,): presentation time of each frame on the clock of the file. Decreases where a short clip loops."""
    flow: Tensor | None = None
    """float32 (T, 2, H, W) in pixels, or None. Channel 0 points right, channel 1 down; ``flow[t]`` leads from frame t
    to frame t + 1, and the last flow is repeated."""
    source: str = ""
    """Path of the video, for messages."""

    def __post_init__(self) -> None:
        frames = self.frames
        require_uint8(frames, "Clip.frames must be a uint8 tensor (T, 3, H, W)")
        if frames.ndim != 4 or frames.shape[1] != 3:
            channels_last = frames.ndim == 4 and frames.shape[3] == 3
            hint = "; it looks like (T, H, W, 3): use frames.permute(0, 3, 1, 2)" if channels_last else ""
            raise InvalidInputError(f"Clip.frames must have shape (T, 3, H, W); got {tuple(frames.shape)}{hint}")
        pts = torch.as_tensor(self.pts_seconds, dtype=torch.float64)
        if pts.shape != frames.shape[:1]:
            raise InvalidInputError(
                f"Clip.pts_seconds must have one time per frame: {len(frames)} frames, got {tuple(pts.shape)}"
            )
        object.__setattr__(self, "pts_seconds", pts)
        if self.flow is not None:
            expected = (len(frames), 2, *frames.shape[2:])
            if self.flow.dtype != torch.float32 or tuple(self.flow.shape) != expected:
                raise InvalidInputError(
                    f"Clip.flow must be float32 {expected}; got {self.flow.dtype} {tuple(self.flow.shape)}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, index: Tensor) -> "Clip":
        """Select frames, with their times and flow.

        Args:
            index: int64 tensor (K,) of frame indices, in any order and possibly repeated.

        Returns:
            A clip of K frames.

        Example:
            >>> clip = Clip(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3) / 25)
            >>> clip.take(torch.tensor([1, 2]))
            Clip(T=2, H=8, W=8, 0.040 s to 0.080 s)
        """
        if torch.equal(index, torch.arange(len(self))):
            return self
        flow = None if self.flow is None else self.flow[index]
        return Clip(self.frames[index], self.pts_seconds[index], flow, self.source)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.frames.shape[3]

    def __repr__(self) -> str:
        when = f", {self.pts_seconds[0]:.3f} s to {self.pts_seconds[-1]:.3f} s" if len(self) else ""
        flow = ", with flow" if self.flow is not None else ""
        source = f", {self.source}" if self.source else ""
        return f"Clip(T={len(self)}, H={self.height}, W={self.width}{when}{flow}{source})"


def require_uint8(value: object, expected: str, hint: str = "") -> None:
    """Raise :class:`InvalidTypeError` if a value is not a uint8 tensor.

    Example:
        >>> require_uint8(torch.zeros(2), "frames must be a uint8 tensor")
        Traceback (most recent call last):
        quovadis.errors.InvalidTypeError: frames must be a uint8 tensor; got torch.float32
    """
    if not isinstance(value, Tensor) or value.dtype != torch.uint8:
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise InvalidTypeError(f"{expected}; got {got}{hint}")


def require_frames(num_frames: int, needed: int, source: str, needed_by: str) -> None:
    """Raise :class:`TooFewFramesError` if there are fewer than ``needed`` frames.

    Example:
        >>> require_frames(6, 9, "a.mp4", "i3d")
        Traceback (most recent call last):
        quovadis.errors.TooFewFramesError: a.mp4 has 6 frames; i3d needs at least 9: use short='loop' or a longer clip
    """
    if num_frames < needed:
        raise TooFewFramesError(
            f"{source or 'the clip'} has {num_frames} frame{'s' * (num_frames != 1)}; {needed_by} needs at "
            f"least {needed}: use short='loop' or a longer clip"
        )
