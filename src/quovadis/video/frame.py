"""One decoded frame."""

from functools import cached_property

import av
import numpy as np
import torch
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from torch import Tensor


class VideoFrame:
    """One decoded frame; its pixels are converted to RGB only when asked for."""

    def __init__(self, raw: av.VideoFrame, pts_seconds: float, duration_seconds: float, reformatter: VideoReformatter):
        self._raw = raw
        self._reformatter = reformatter
        self.pts_seconds = pts_seconds
        self.duration_seconds = duration_seconds
        self.stored_size = raw.width, raw.height

    @property
    def end_seconds(self) -> float:
        """When it leaves the screen."""
        return self.pts_seconds + self.duration_seconds

    @property
    def rotation_degrees(self) -> int:
        """Clockwise degrees that the file asks players to turn the stored picture by: 0, 90, 180 or 270."""
        return -round(self._raw.rotation / 90) * 90 % 360

    @property
    def stands_alone(self) -> bool:
        """False when the picture was predicted from others, as far as the decoder says."""
        return self._raw.pict_type in (PictureType.NONE, PictureType.I)

    @cached_property
    def pixels(self) -> Tensor:
        """uint8 (3, H, W), RGB, upright; in memory the channels lie together."""
        # One thread: for pictures of this size, more of them wait for each other longer than they work.
        rgb: np.ndarray = self._reformatter.reformat(self._raw, format="rgb24", threads=1).to_ndarray()
        if self.rotation_degrees:
            rgb = np.ascontiguousarray(np.rot90(rgb, -self.rotation_degrees // 90))
        return torch.from_numpy(rgb).permute(2, 0, 1)
