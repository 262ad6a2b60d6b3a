"""Sets of videos for the Frechet Video Distance: folders of videos, folders of frames, and arrays."""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from quovadis.datasets.video_files import find_videos, is_ignored, require_videos, visible_folders
from quovadis.datasets.video_inputs import list_videos
from quovadis.errors import DatasetError, InvalidInputError, InvalidTypeError, UnknownNameError, VideoDamagedError
from quovadis.fvd.sampling import FrameSampling
from quovadis.runtime.hashing import sha256
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import VideoReader

FrameTransform = Callable[[Tensor], Tensor]
"""Maps a frame, uint8 (3, H, W), to (3, h, w). It runs as each frame is decoded, so large frames are not kept."""

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
_ARRAY_SUFFIXES = (".npy", ".npz", ".pt", ".pth")
_ARRAY_KEYS = ("videos", "video", "arr_0")


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


class FolderVideos(VideoSet):
    """All video files below a folder, sorted by path; see :func:`quovadis.datasets.video_files.find_videos`.

    Raises:
        DatasetError: If there are none.
    """

    def __init__(self, root: Path):
        self.root = root
        self.name = root.name or str(root)
        self.files = require_videos(find_videos(root))

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def sha256(self) -> str:
        """Hash of the relative path and the bytes of every file."""
        digest = hashlib.sha256()
        for index, path in enumerate(self.files):
            try:
                content = sha256(path)
            except OSError as error:
                content = f"unreadable: {error.strerror}"
            digest.update(f"{self.path(index)}\t{content}\n".encode())
        return digest.hexdigest()

    def path(self, index: int) -> str:
        """Path of a video relative to the folder."""
        return self.files[index].relative_to(self.root).as_posix()

    def num_frames(self, index: int, sampling: FrameSampling) -> int | None:
        """Number of frames from the packets of the file; damaged files may have fewer."""
        with VideoReader(self.files[index]) as reader:
            return reader.info.num_frames if sampling.fps is None else reader.num_resampled_frames(sampling.fps)

    def read(self, index: int, sampling: FrameSampling, transform: FrameTransform) -> SampledFrames | None:
        """Decode the sampled frames; with a random start, decode twice because the length must be known first."""
        with VideoReader(self.files[index]) as reader:
            start: int | None = 0
            if sampling.random_start:
                start = sampling.start(sum(1 for _ in _decode(reader, sampling.fps)), index)
            if start is None:
                return None
            taken = sampling.frames_from(start)
            frames = islice(_decode(reader, sampling.fps), taken.start, taken.stop, taken.step)
            sampled = _collect((frame.pixels for frame in frames), sampling, transform, self.path(index))
            if reader.damage:
                raise VideoDamagedError(f"{self.files[index]} is damaged: {reader.damage}")
        if sampling.num_frames is not None and len(sampled.frames) < sampling.num_frames:
            return None
        return sampled


class ListedVideos(FolderVideos):
    """Video files in the given order.

    Raises:
        DatasetError: If there are none.
    """

    def __init__(self, files: list[Path], name: str):
        if not files:
            raise DatasetError(f"{name} names no videos")
        self.files = tuple(files)
        self.name = name

    def path(self, index: int) -> str:
        """Path of a video as it was given."""
        return str(self.files[index])


class FrameFolders(VideoSet):
    """Videos stored as one folder of frames each, the layout of StyleGAN-V: ``ROOT/VIDEO/00000.jpg`` and so on.

    Frames are PNG or JPEG files of equal size, ordered by the numbers in their names.

    Raises:
        DatasetError: If no subfolder contains frames.
    """

    def __init__(self, root: Path):
        self.root = root
        self.name = root.name or str(root)
        self.frames = {folder: frames for folder in _folders_below(root) if (frames := _frame_files(folder))}
        if not self.frames:
            raise DatasetError(f"{root} has no video files and no subfolders of PNG or JPEG frames")
        self.folders = list(self.frames)

    def __len__(self) -> int:
        return len(self.folders)

    @cached_property
    def sha256(self) -> str:
        """Hash of the relative path and the bytes of every frame."""
        digest = hashlib.sha256()
        for frames in self.frames.values():
            for path in frames:
                digest.update(f"{path.relative_to(self.root).as_posix()}\t{sha256(path)}\n".encode())
        return digest.hexdigest()

    def path(self, index: int) -> str:
        """Path of a video relative to the folder."""
        return self.folders[index].relative_to(self.root).as_posix()

    def num_frames(self, index: int, sampling: FrameSampling) -> int | None:
        """Number of files."""
        return len(self.frames[self.folders[index]])

    def read(self, index: int, sampling: FrameSampling, transform: FrameTransform) -> SampledFrames | None:
        """Read the sampled frames.

        Raises:
            InvalidInputError: If a frame rate is requested; frames have none.
            VideoDamagedError: If a frame cannot be read or the sizes of frames differ.
        """
        if sampling.fps is not None:
            raise InvalidInputError(f"{self.name}: frames have no frame rate and cannot be read at {sampling.fps} fps")
        folder = self.folders[index]
        start = sampling.start(len(self.frames[folder]), index)
        if start is None:
            return None
        frames = map(_read_frame, self.frames[folder][sampling.frames_from(start)])
        return _collect(frames, sampling, transform, str(folder))


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
        return _collect(frames, sampling, transform, self.path(index))


def open_videos(source: Any, form: ArrayFormat | None = None) -> VideoSet:
    """Open a set of videos.

    Args:
        source: Folder of video files; folder with one subfolder of PNG or JPEG frames per video; list of video files,
            or ``.txt`` file with one path per line; ``.npy``, ``.npz`` or ``.pt`` file; array or tensor, by default
            uint8 (N, T, H, W, 3); or an opened set, which is returned.
        form: Meaning of the axes and values of an array.

    Raises:
        DatasetError: If the folder or file does not exist or contains no videos.
        InvalidTypeError: If an array is neither uint8 nor floating point with a declared range.
        InvalidInputError: If an array has another shape, or values outside of the declared range.

    Example:
        >>> videos = open_videos(np.zeros((2, 16, 64, 64, 3), np.uint8))
        >>> len(videos), videos.path(1)
        (2, 'array[1]')
    """
    if isinstance(source, VideoSet):
        return source
    if isinstance(source, list | tuple) and source and all(isinstance(item, str | PathLike) for item in source):
        return ListedVideos(list(map(Path, source)), "list")
    if not isinstance(source, str | PathLike):
        return ArrayVideos(source, form=form)
    path = Path(source)
    if path.is_dir():
        return FolderVideos(path) if find_videos(path).videos else FrameFolders(path)
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return ListedVideos(list(list_videos([path]).values()), path.name)
    if suffix not in _ARRAY_SUFFIXES:
        raise DatasetError(
            f"{path} is neither a folder of videos nor a {', '.join(_ARRAY_SUFFIXES)} or .txt file"
            f"{'' if path.exists() else ': there is no such file'}"
        )
    try:
        if suffix == ".npy":
            return ArrayVideos(np.load(path, mmap_mode="r", allow_pickle=False), path.name, form)
        if suffix in (".pt", ".pth"):
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


def _folders_below(root: Path) -> Iterator[Path]:
    """All subfolders, recursively and sorted, without hidden and system folders."""
    for folder in visible_folders(root):
        yield folder
        yield from _folders_below(folder)


def _frame_files(folder: Path) -> list[Path]:
    """The frames in a folder, ordered by the numbers in their names."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in _FRAME_SUFFIXES and not is_ignored(p.name)]
    return sorted(found, key=lambda p: ([int(digits) for digits in re.findall(r"\d+", p.stem)], p.name))


def _read_frame(path: Path) -> Tensor:
    """Read an image as uint8 (3, H, W)."""
    try:
        # Without the list of formats, PIL may start external programs, depending on the content of the file.
        with Image.open(path, formats=["PNG", "JPEG"]) as image:
            return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoDamagedError(f"{path} is not a readable PNG or JPEG image: {error}") from error


def _decode(reader: VideoReader, fps: float | None) -> Iterator[VideoFrame]:
    if fps is None:
        return reader.frames()
    return (frame for _, frame in reader.resampled_frames(fps))


def _collect(frames: Iterable[Tensor], sampling: FrameSampling, transform: FrameTransform, name: str) -> SampledFrames:
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
