"""What is kept of a set of videos for the Frechet Video Distance: features, moments, and the card that names them."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from quovadis.errors import DatasetError, InvalidInputError
from quovadis.metrics.moments import FeatureMoments
from quovadis.weights.files import write_atomically

_FORMAT = 1

COMPARED = (
    "protocol",
    "network",
    "weights_sha256",
    "features",
    "num_frames",
    "frame_stride",
    "fps",
    "resolution_px",
    "network_px",
    "resize",
    "ddof",
)
"""Fields of a card in which two sets must agree to have a distance."""


@dataclass(frozen=True)
class FvdCard:
    """Everything that the features of a set of videos depend on, and how many there are."""

    protocol: str
    network: str
    weights_sha256: str
    """Of all tensors of the network, whatever file they came from; see
    :func:`quovadis.weights.verify.state_sha256`."""
    features: str
    feature_dim: int
    num_frames: int | None
    """Frames of each video in the network; None where they differ."""
    frame_stride: int
    fps: float | None
    """None: the frames of the files as they are."""
    resolution_px: int | None
    """Side of the squares that frames were made first; None: as they are."""
    network_px: int
    resize: str
    """How frames came to the size of the network."""
    ddof: int
    starts: str
    num_videos: int
    """Videos that were used."""
    num_short: int
    """Videos that were left out because they have too few frames."""
    unreadable: tuple[str, ...]
    """Videos that were left out because they cannot be read, with the reason."""
    frame_sizes: dict[str, int]
    """Videos by their ``HEIGHTxWIDTH`` before the resizing to the network."""
    data: str
    data_sha256: str
    """Of all files of the folder, or of the array."""
    quovadis: str
    """Version."""

    def differences(self, other: FvdCard) -> list[str]:
        """The fields that forbid a comparison, in words."""
        mine, theirs = asdict(self), asdict(other)
        return [f"{key} is {mine[key]!r} and {theirs[key]!r}" for key in COMPARED if mine[key] != theirs[key]]

    def describe(self) -> str:
        """Protocol and frames in words."""
        frames = "all frames" if self.num_frames is None else f"{self.num_frames} frames"
        every = f", every {self.frame_stride}th" if self.frame_stride > 1 else ""
        return f"protocol {self.protocol}, {frames}{every}, {self.resize}, ddof {self.ddof}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"unreadable": list(self.unreadable)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FvdCard:
        """The card that :meth:`to_dict` wrote."""
        return cls(**{**values, "unreadable": tuple(values["unreadable"])})


@dataclass(frozen=True)
class FvdSet:
    """A set of videos as the distance sees it."""

    card: FvdCard
    moments: FeatureMoments
    """For the distance."""
    features: NDArray[np.float32]
    """float32 (N, D), for the bootstrap interval."""

    def save(self, path: str | PathLike[str]) -> Path:
        """Write it as one ``.npz``: arrays ``features``, ``count``, ``mean``, ``factor`` and the ``card`` as JSON.

        Raises:
            StorageError: it cannot be written.
        """
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            card=np.array(json.dumps({"format": _FORMAT, **self.card.to_dict()})),
            count=np.array(self.moments.count),
            mean=self.moments.mean,
            factor=self.moments.factor,
            features=self.features,
        )
        return write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> FvdSet:
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: it is something else, or damaged.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                values = json.loads(str(file["card"]))
                if values.pop("format") != _FORMAT:
                    raise ValueError("it was written by another version of quovadis")
                moments = FeatureMoments.restore(int(file["count"]), file["mean"], file["factor"])
                return cls(FvdCard.from_dict(values), moments, file["features"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise DatasetError(f"{path} is no set of videos that quovadis embedded: {error}") from error


def is_fvd_set(source: Any) -> bool:
    """Whether this is a file by :meth:`FvdSet.save`."""
    if not isinstance(source, str | PathLike) or Path(source).suffix.lower() != ".npz":
        return False
    try:
        with Path(source).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return "card" in file and "factor" in file
    except (OSError, ValueError, EOFError, BadZipFile):
        return False
