"""Embedded sets of videos, and the card that records everything their features depend on."""

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
from quovadis.fvd.protocols import find_fvd_protocol
from quovadis.fvd.sampling import RANDOM_START, FrameSampling
from quovadis.metrics.moments import FeatureMoments
from quovadis.runtime.atomic import write_atomically

_FORMAT = 1

COMPARED_FIELDS = (
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
"""Fields that must be equal in the cards of two sets for a distance between them."""


@dataclass(frozen=True)
class FvdCard:
    """Settings and data that the features of a set of videos depend on.

    Example:
        >>> from dataclasses import replace
        >>> from quovadis.fvd.embed import VideoEmbedder
        >>> from quovadis.models.zoo import build_model
        >>> videos = np.random.default_rng(0).integers(0, 256, (2, 9, 40, 40, 3), np.uint8)
        >>> card = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5)).embed(videos).card
        >>> card.describe()
        'protocol own, 9 frames, short side of the network, center crop, ddof 1'
        >>> card.differences(replace(card, num_frames=16))
        ['num_frames is 9 and 16']
    """

    protocol: str
    network: str
    weights_sha256: str
    """Hash of all tensors of the network, independent of the file; see :func:`quovadis.weights.verify.state_sha256`."""
    features: str
    feature_dim: int
    num_frames: int | None
    """Number of frames of each video; None if the videos differ."""
    frame_stride: int
    fps: float | None
    """Frame rate that files were resampled to; None for the frames of the file."""
    resolution_px: int | None
    """Side of the squares that frames were first resized and cropped to; None if they were not."""
    network_px: int
    resize: str
    """How frames were resized to the input size of the network."""
    ddof: int
    starts: str
    num_videos: int
    """Number of videos used."""
    num_short: int
    """Number of videos skipped because they have too few frames."""
    unreadable: tuple[str, ...]
    """Videos skipped because they cannot be read, with the reason."""
    frame_sizes: dict[str, int]
    """Number of videos by ``HEIGHTxWIDTH`` before the resizing to the network's input size."""
    data: str
    data_sha256: str
    """Hash of all files of the folder, or of the array."""
    quovadis: str
    """Version of quovadis."""

    def differences(self, other: FvdCard) -> list[str]:
        """Describe each of :data:`COMPARED_FIELDS` that differs from another card."""
        values, others = asdict(self), asdict(other)
        return [
            f"{key} is {values[key]!r} and {others[key]!r}" for key in COMPARED_FIELDS if values[key] != others[key]
        ]

    @property
    def sampling(self) -> FrameSampling:
        """The frames that were taken from each video."""
        seed = self.starts.removeprefix(RANDOM_START)
        return FrameSampling(
            self.num_frames,
            self.frame_stride,
            self.fps,
            random_start=seed != self.starts,
            seed=int(seed) if seed != self.starts else 0,
            resolution_px=self.resolution_px,
            resampling=find_fvd_protocol(self.protocol).resampling or "lanczos",
        )

    def describe(self) -> str:
        """Describe protocol and frames in one line."""
        frames = "all frames" if self.num_frames is None else f"{self.num_frames} frames"
        every = f", every {self.frame_stride}th" if self.frame_stride > 1 else ""
        return f"protocol {self.protocol}, {frames}{every}, {self.resize}, ddof {self.ddof}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return asdict(self) | {"unreadable": list(self.unreadable)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FvdCard:
        """Restore a card from :meth:`to_dict`."""
        return cls(**{**values, "unreadable": tuple(values["unreadable"])})


@dataclass(frozen=True)
class VideoEmbeddings:
    """Features of a set of videos with their moments and card, from :meth:`VideoEmbedder.embed`.

    Example:
        >>> from quovadis.fvd.embed import VideoEmbedder
        >>> from quovadis.models.zoo import build_model
        >>> videos = np.random.default_rng(0).integers(0, 256, (4, 9, 40, 40, 3), np.uint8)
        >>> embeddings = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5)).embed(videos)
        >>> path = embeddings.save(getfixture("tmp_path") / "real.npz")
        >>> VideoEmbeddings.load(path).card == embeddings.card
        True
    """

    card: FvdCard
    moments: FeatureMoments
    """Mean and covariance; the distance is computed from these."""
    features: NDArray[np.float32]
    """float32 (N, D); the bootstrap interval is computed from these."""
    names: tuple[str, ...] = ()
    """Names of the videos, in the order of the features; empty for files of earlier versions."""

    def save(self, path: str | PathLike[str]) -> Path:
        """Write one ``.npz``: arrays ``features``, ``count``, ``mean``, ``factor``, and JSON ``card`` and ``names``.

        Raises:
            StorageError: If the file cannot be written.
        """
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            card=np.array(json.dumps({"format": _FORMAT, **self.card.to_dict()})),
            names=np.array(json.dumps(self.names)),
            count=np.array(self.moments.count),
            mean=self.moments.mean,
            factor=self.moments.factor,
            features=self.features,
        )
        return write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> VideoEmbeddings:
        """Read a file written by :meth:`save`.

        Raises:
            DatasetError: If the file is damaged or was not written by :meth:`save`.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                values = json.loads(str(file["card"]))
                if values.pop("format") != _FORMAT:
                    raise ValueError("it was written by another version of quovadis")
                moments = FeatureMoments.restore(int(file["count"]), file["mean"], file["factor"])
                names = tuple(json.loads(str(file["names"]))) if "names" in file else ()
                return cls(FvdCard.from_dict(values), moments, file["features"], names)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise DatasetError(f"{path} is not a file of video embeddings: {error}") from error


def is_embeddings_file(source: Any) -> bool:
    """Whether ``source`` is the path of a file written by :meth:`VideoEmbeddings.save`."""
    if not isinstance(source, str | PathLike) or Path(source).suffix.lower() != ".npz":
        return False
    try:
        with Path(source).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return "card" in file and "factor" in file
    except (OSError, ValueError, EOFError, BadZipFile):
        return False
