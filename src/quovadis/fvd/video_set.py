"""What a set of videos for the Frechet Video Distance provides, and how frames are cropped."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from quovadis.errors import VideoDamagedError
from quovadis.fvd.sampling import FrameSampling

FrameTransform = Callable[[Tensor], Tensor]
"""Maps a frame, uint8 (3, H, W), to (3, h, w). It runs as each frame is decoded, so large frames are not kept."""


@dataclass(frozen=True)
class SampledFrames:
    """Frames taken from one video."""

    frames: Tensor
    """(T, 3, h, w), transformed."""
    height: int
    """Height before the transform."""
    width: int
    """Width before the transform."""


class VideoSet(ABC):
    """Videos in a fixed order."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Number of videos."""

    @cached_property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of the content of all videos."""

    @abstractmethod
    def path(self, index: int) -> str:
        """Name of a video."""

    @abstractmethod
    def num_frames(self, index: int, sampling: FrameSampling) -> int | None:
        """Number of frames of a video that ``sampling`` chooses from, without decoding it; None if unknown.

        Raises:
            VideoError: If the video cannot be opened.
        """

    @abstractmethod
    def read(self, index: int, sampling: FrameSampling, transform: FrameTransform) -> SampledFrames | None:
        """Read the sampled frames of a video.

        Returns:
            The frames, or None if the video is too short.

        Raises:
            VideoError: If the video cannot be read.
            InvalidInputError: If a frame rate is requested but the videos have none.
        """


def collect_frames(
    frames: Iterable[Tensor], sampling: FrameSampling, transform: FrameTransform, name: str
) -> SampledFrames:
    """Crop and transform frames, uint8 (3, H, W), one after the other."""
    transformed, sizes = [], set()
    for frame in frames:
        crop = _center_square if sampling.resampling == "lanczos" else _center_square_bilinear
        cropped = crop(frame, sampling.resolution_px)
        sizes.add((cropped.shape[1], cropped.shape[2]))
        transformed.append(transform(cropped))
    if len(sizes) > 1:
        raise VideoDamagedError(f"{name} has frames of several sizes: {sorted(sizes)}")
    return SampledFrames(torch.stack(transformed), *sizes.pop())


def _center_square(frame: Tensor, side_px: int | None) -> Tensor:
    """Resize the short side of a frame, uint8 (3, H, W), by Lanczos and take the center square."""
    height, width = frame.shape[1:]
    if side_px is None or (height, width) == (side_px, side_px):
        return frame
    short = min(height, width)
    size = (int(side_px * width / short), int(side_px * height / short))
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).resize(size, Image.Resampling.LANCZOS)
    left, top = (round((side - side_px) / 2) for side in size)
    square = image.crop((left, top, left + side_px, top + side_px))
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)


def _center_square_bilinear(frame: Tensor, side_px: int | None) -> Tensor:
    """Resize the short side of a frame, uint8 (3, H, W), with antialiasing, take the center square, and truncate."""
    height, width = frame.shape[1:]
    if side_px is None:
        return frame
    scale = side_px / min(height, width)
    size = (side_px, math.ceil(width * scale)) if height < width else (math.ceil(height * scale), side_px)
    resized = F.interpolate(frame[None].float() / 255, size=size, mode="bilinear", antialias=True)[0]
    top, left = (size[0] - side_px) // 2, (size[1] - side_px) // 2
    return (resized[:, top : top + side_px, left : left + side_px] * 255).byte()
