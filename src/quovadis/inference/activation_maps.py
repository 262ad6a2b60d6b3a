"""Class activation maps of a video: where and when a network finds evidence for a class."""

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
    """Evidence for classes over the space and time of a video, from :meth:`Recognizer.explain`.

    Pooled as the network pools its features, the maps of a window are its logits. The maps of several streams are
    added, as their logits are.

    Example:
        >>> from quovadis.inference.recognizer import Recognizer
        >>> from quovadis.models.zoo import build_model
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ["run", "jump"])
        >>> maps = recognizer.explain(getfixture("clip_path"), num_labels=2)
        >>> sorted(maps.labels), maps.at(torch.tensor([0.5]), "jump").shape
        (['jump', 'run'], torch.Size([1, 2, 2]))

    References:
        Zhou et al., "Learning Deep Features for Discriminative Localization", https://arxiv.org/abs/1512.04150.
    """

    prediction: Prediction
    """Prediction of the same pass through the network."""
    labels: tuple[str, ...]
    """Classes of the maps."""
    maps: Tensor
    """float32 (labels, T', h, w): contributions to the logit. A step covers several frames, a cell many pixels."""
    center_seconds: Tensor
    """float64 (T',): middle of each time step, on the clock of the file."""
    short_side_px: int
    """Short side that frames were resized to."""
    crop_px: int
    """Side of the center crop of the resized frames, which the maps cover."""

    def map_of(self, label: str) -> Tensor:
        """Return the maps of one class, float32 (T', h, w).

        Raises:
            UnknownNameError: If there are no maps of this class.
        """
        if label not in self.labels:
            raise UnknownNameError.among("class with an activation map", label, self.labels)
        return self.maps[self.labels.index(label)]

    def at(self, seconds: Tensor, label: str) -> Tensor:
        """Interpolate the maps of a class linearly in time.

        Args:
            seconds: float (N,). Before the first and after the last step, the nearest one is used.
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
        fraction = ((seconds - left) / (right - left)).clamp(0, 1).float()[:, None, None]
        return maps[after - 1] * (1 - fraction) + maps[after] * fraction

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the arrays ``maps``, ``labels`` and ``center_seconds`` to an ``.npz`` file.

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
