"""Class activation maps of a video: where and when a network found evidence for a class."""

from __future__ import annotations

import io
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from quovadis.errors import UnknownNameError
from quovadis.inference.prediction import Prediction
from quovadis.runtime.atomic import write_atomically


@dataclass(frozen=True)
class ActivationMaps:
    """Evidence for some classes over the space and time of a video.

    Pooled as the network pools its features, the maps of a window are the logits of the window. Maps of several streams
    are added, as their logits are.
    """

    prediction: Prediction
    """The answer of the same pass through the network."""
    labels: tuple[str, ...]
    """The classes that have maps."""
    maps: Tensor
    """float32 (labels, T', h, w): contribution to the logit. Each step covers several frames, each cell many pixels."""
    center_seconds: Tensor
    """float64 (T',): the middle of each step, on the clock of the file."""
    short_side_px: int
    """The network saw the video resized to this short side ..."""
    crop_px: int
    """... and of that the central square of this side, which is what the maps cover."""

    def map_of(self, label: str) -> Tensor:
        """The maps of one class, float32 (T', h, w).

        Raises:
            UnknownNameError: If there are no maps of this class.
        """
        if label not in self.labels:
            raise UnknownNameError.among("class with an activation map", label, self.labels)
        return self.maps[self.labels.index(label)]

    def at(self, seconds: Tensor, label: str) -> Tensor:
        """Interpolate the maps of a class linearly in time.

        Args:
            seconds: float (N,); before the first and after the last step the nearest one is taken.
            label: One of :attr:`labels`.

        Returns:
            float32 (N, h, w).
        """
        maps, centers = self.map_of(label), self.center_seconds
        seconds = seconds.double()
        after = torch.searchsorted(centers, seconds).clamp(1, max(len(centers) - 1, 1))
        if len(centers) == 1:
            return maps.expand(len(seconds), -1, -1)
        left, right = centers[after - 1], centers[after]
        part = ((seconds - left) / (right - left)).clamp(0, 1).float()[:, None, None]
        return maps[after - 1] * (1 - part) + maps[after] * part

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the maps as ``.npz``: ``maps``, ``labels`` and ``center_seconds``.

        Raises:
            StorageError: If the file cannot be written.
        """
        content = io.BytesIO()
        np.savez_compressed(
            content,
            maps=self.maps.numpy(),
            labels=np.array(self.labels),
            center_seconds=self.center_seconds.numpy(),
        )
        return write_atomically(path, content.getvalue())
