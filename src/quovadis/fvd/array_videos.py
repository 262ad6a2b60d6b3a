"""Videos in an array, and files with arrays."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import DatasetError, InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.fvd.sampling import FrameSampling
from quovadis.fvd.video_set import FrameTransform, SampledFrames, VideoSet, collect_frames

ARRAY_SUFFIXES = (".npy", ".npz", ".pt", ".pth")
_ARRAY_KEYS = ("videos", "video", "arr_0")


@dataclass(frozen=True)
class ArrayFormat:
    """Meaning of the axes and values of an array of videos. It is declared, never guessed.

    Raises:
        UnknownNameError: If there is no such layout.
        InvalidInputError: If the value range is not increasing.
    """

    layout: str = "NTHWC"
    """Order of the axes: one of :data:`LAYOUTS`; ``NTHW`` is grayscale."""
    value_range: tuple[float, float] | None = None
    """Values of black and white in floating point arrays, such as (0, 1) or (-1, 1); uint8 arrays do not need it."""
    grayscale: bool = False
    """Whether the array has one channel."""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UnknownNameError.among("layout", self.layout, LAYOUTS)
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise InvalidInputError(f"value_range must be (black, white) with black < white; got {self.value_range}")

    @property
    def num_channels(self) -> int:
        """1 for grayscale, otherwise 3."""
        return 1 if self.grayscale or "C" not in self.layout else 3


LAYOUTS = ("NTHWC", "NTCHW", "NCTHW", "NTHW")
"""Orders of axes: number of videos N, frames T, height H, width W, channels C."""


class ArrayVideos(VideoSet):
    """Videos in one array.

    Args:
        array: uint8 or floating point, by default (N, T, H, W, 3), RGB.
        name: Name for messages and cards.
        form: Meaning of the axes and values.

    Raises:
        InvalidTypeError: If the array is neither uint8 nor floating point with a declared range.
        InvalidInputError: If the array has another shape, or values that are not finite or outside the declared range.
    """

    def __init__(self, array: Any, name: str = "array", form: ArrayFormat | None = None):
        self.name = name
        self.form = form = form or ArrayFormat()
        given = array.cpu().numpy() if isinstance(array, Tensor) else np.asanyarray(array)
        if given.dtype != np.uint8 and (given.dtype.kind != "f" or form.value_range is None):
            hint = _range_hint(given) if given.dtype.kind == "f" and given.size else ""
            raise InvalidTypeError(
                f"{name}: videos must be uint8 in [0, 255], or floating point with a declared range; got "
                f"{given.dtype}{hint}"
            )
        self._require_shape(given.shape)
        if "C" not in form.layout:
            given = given[..., None]
        layout = form.layout if "C" in form.layout else f"{form.layout}C"
        self.array: NDArray[Any] = given.transpose([layout.index(axis) for axis in "NTHWC"])
        if given.dtype != np.uint8:
            self._require_values()

    def _require_shape(self, shape: tuple[int, ...]) -> None:
        layout, channels = self.form.layout, self.form.num_channels
        if len(shape) == len(layout) and 0 not in shape and ("C" not in layout or shape[layout.index("C")] == channels):
            return
        expected = ", ".join(str(channels) if axis == "C" else axis for axis in layout)
        known = [other for other in LAYOUTS if len(other) == len(shape) == 5 and 0 not in shape]
        others = [other for other in known if other != layout and shape[other.index("C")] == channels]
        hint = f"; declare it with --layout {others[0]} (layout={others[0]!r})" if others else ""
        if len(shape) == 4 and layout != "NTHW" and 0 not in shape:
            hint = "; declare grayscale videos with --layout NTHW, or add the axis of the videos"
        elif len(shape) == 5 and 1 in (shape[2], shape[4], shape[1]) and not self.form.grayscale and not others:
            hint = "; declare one channel with --grayscale (grayscale=True)"
        raise InvalidInputError(f"{self.name}: videos must have shape ({expected}); got {shape}{hint}")

    def _require_values(self) -> None:
        assert self.form.value_range is not None
        black, white = self.form.value_range
        tolerance = 0.01 * (white - black)
        for index, video in enumerate(self.array):
            low, high = float(video.min()), float(video.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise InvalidInputError(f"{self.path(index)} contains NaN or infinite values")
            if low < black - tolerance or high > white + tolerance:
                raise InvalidInputError(
                    f"{self.path(index)} has values from {low:.4g} to {high:.4g}, outside of the declared range "
                    f"{black:g} to {white:g}{_range_hint(video)}"
                )

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def sha256(self) -> str:
        """Hash of the shape and the bytes, and of the range of floating point values."""
        floats = "" if self.array.dtype == np.uint8 else f"{self.array.dtype} {self.form.value_range}"
        digest = hashlib.sha256(f"{self.array.shape!r}{floats}".encode())
        for video in self.array:
            digest.update(np.ascontiguousarray(video).data)
        return digest.hexdigest()

    def _to_rgb(self, frame: NDArray[Any]) -> Tensor:
        """Convert a frame (H, W, C) to uint8 (3, H, W)."""
        pixels = torch.from_numpy(np.array(frame)).permute(2, 0, 1)
        if pixels.dtype != torch.uint8:
            assert self.form.value_range is not None
            black, white = self.form.value_range
            pixels = ((pixels.double() - black) * (255 / (white - black))).round().clamp(0, 255).byte()
        return pixels.expand(3, -1, -1)

    def path(self, index: int) -> str:
        """Name and index of a video, such as ``array[0]``."""
        return f"{self.name}[{index}]"

    def num_frames(self, index: int, sampling: FrameSampling) -> int | None:
        """Length of the axis T."""
        return self.array.shape[1]

    def read(self, index: int, sampling: FrameSampling, transform: FrameTransform) -> SampledFrames | None:
        """Copy the sampled frames.

        Raises:
            InvalidInputError: If a frame rate is requested; arrays have none.
        """
        if sampling.fps is not None:
            raise InvalidInputError(f"{self.name}: an array has no frame rate and cannot be read at {sampling.fps} fps")
        video = self.array[index]
        start = sampling.start(len(video), index)
        if start is None:
            return None
        frames = (self._to_rgb(frame) for frame in video[sampling.frames_from(start)])
        return collect_frames(frames, sampling, transform, self.path(index))


def read_array(path: Path, form: ArrayFormat | None = None) -> ArrayVideos:
    """Read the videos of a file with an array.

    Raises:
        DatasetError: If the file cannot be read or has no array of videos.
        InvalidTypeError: If the array is neither uint8 nor floating point with a declared range.
        InvalidInputError: If the array has another shape, or values outside of the declared range.
    """
    try:
        if path.suffix.lower() == ".npy":
            return ArrayVideos(np.load(path, mmap_mode="r", allow_pickle=False), path.name, form)
        if path.suffix.lower() in (".pt", ".pth"):
            return ArrayVideos(_read_tensor(path), path.name, form)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as loaded:
            keys = [k for k in _ARRAY_KEYS if k in loaded] or (list(loaded) if len(loaded) == 1 else [])
            if not keys:
                raise DatasetError(f"{path} has arrays {sorted(loaded)}; the videos must be under 'videos'")
            return ArrayVideos(loaded[keys[0]], path.name, form)
    except FileNotFoundError as error:
        raise DatasetError(f"no file at {path}") from error
    except (OSError, ValueError, EOFError, BadZipFile, RuntimeError, UnpicklingError) as error:
        if isinstance(error, DatasetError | InvalidInputError):
            raise
        raise DatasetError(f"{path} cannot be read as an array: {error}") from error


def _read_tensor(path: Path) -> Tensor:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, dict):
        keys = [k for k in _ARRAY_KEYS if k in loaded] or (list(loaded) if len(loaded) == 1 else [])
        loaded = loaded[keys[0]] if keys else loaded
    if not isinstance(loaded, Tensor):
        raise DatasetError(
            f"{path} must contain a tensor, or a dict with a tensor 'videos'; got {type(loaded).__name__}"
        )
    return loaded


def _range_hint(values: NDArray[Any]) -> str:
    """Which range the values of an array suggest, from its first video."""
    first = np.asarray(values[0], np.float64)
    low, high = float(first.min()), float(first.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return ": the values are not finite"
    if low < -1.01 or high > 255.5:
        return f": its first video has values from {low:.4g} to {high:.4g}; declare the values of black and white"
    likely = "-1 1" if low < 0 else "0 1" if high <= 1.01 else "0 255"
    pair = likely.replace(" ", ", ")
    return (
        f": its first video has values from {low:.4g} to {high:.4g}; for black and white at {pair}, declare "
        f"--value-range {likely} (value_range=({pair}))"
    )
