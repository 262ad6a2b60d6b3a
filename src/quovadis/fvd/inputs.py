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
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from quovadis.datasets.video_files import find_videos, is_ignored, require_videos, visible_folders
from quovadis.errors import DatasetError, InvalidInputError, InvalidTypeError, VideoDamagedError
from quovadis.fvd.sampling import FrameSampling
from quovadis.runtime.hashing import sha256
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import VideoReader

FrameTransform = Callable[[Tensor], Tensor]
"""Maps a frame, uint8 (3, H, W), to (3, h, w). It runs as each frame is decoded, so large frames are not kept."""

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
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


class ArrayVideos(VideoSet):
    """Videos in one array.

    Args:
        array: uint8 (N, T, H, W, 3), RGB.
        name: Name for messages and cards.

    Raises:
        InvalidTypeError: If the array is not uint8.
        InvalidInputError: If the array has another shape.
    """

    def __init__(self, array: Any, name: str = "array"):
        self.name = name
        self.array: NDArray[np.uint8] = array.cpu().numpy() if isinstance(array, Tensor) else np.asanyarray(array)
        if self.array.dtype != np.uint8:
            floats = self.array.dtype.kind == "f"
            hint = ": convert values in [0, 1] with (videos * 255).round().astype('uint8')" if floats else ""
            raise InvalidTypeError(f"{name}: videos must be uint8 in [0, 255]; got {self.array.dtype}{hint}")
        shape = self.array.shape
        if self.array.ndim != 5 or shape[4] != 3 or 0 in shape:
            hint = ""
            if self.array.ndim == 5 and shape[2] == 3:
                hint = "; for (N, T, 3, H, W), use videos.transpose(0, 1, 3, 4, 2)"
            elif self.array.ndim == 5 and shape[1] == 3:
                hint = "; for (N, 3, T, H, W), use videos.transpose(0, 2, 3, 4, 1)"
            raise InvalidInputError(f"{name}: videos must have shape (N, T, H, W, 3); got {shape}{hint}")

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def sha256(self) -> str:
        """Hash of the shape and the bytes."""
        digest = hashlib.sha256(repr(self.array.shape).encode())
        for video in self.array:
            digest.update(np.ascontiguousarray(video).data)
        return digest.hexdigest()

    def path(self, index: int) -> str:
        """Name and index of a video, such as ``array[0]``."""
        return f"{self.name}[{index}]"

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
        frames = (torch.from_numpy(np.array(frame)).permute(2, 0, 1) for frame in video[sampling.frames_from(start)])
        return _collect(frames, sampling, transform, self.path(index))


def open_videos(source: Any) -> VideoSet:
    """Open a set of videos.

    Args:
        source: Folder of video files, folder with one subfolder of PNG or JPEG frames per video, ``.npy`` or ``.npz``
            file, or array, uint8 (N, T, H, W, 3).

    Raises:
        DatasetError: If the folder or file does not exist or contains no videos.
        InvalidTypeError: If an array is not uint8.
        InvalidInputError: If an array has another shape.

    Example:
        >>> videos = open_videos(np.zeros((2, 16, 64, 64, 3), np.uint8))
        >>> len(videos), videos.path(1)
        (2, 'array[1]')
    """
    if not isinstance(source, str | Path):
        return ArrayVideos(source)
    path = Path(source)
    if path.is_dir():
        return FolderVideos(path) if find_videos(path).videos else FrameFolders(path)
    if path.suffix.lower() not in (".npy", ".npz"):
        raise DatasetError(f"{path} is neither a folder of videos nor a .npy or .npz file")
    try:
        if path.suffix.lower() == ".npy":
            return ArrayVideos(np.load(path, mmap_mode="r", allow_pickle=False), path.name)
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as loaded:
            keys = [k for k in _ARRAY_KEYS if k in loaded] or (list(loaded) if len(loaded) == 1 else [])
            if not keys:
                raise DatasetError(f"{path} has arrays {sorted(loaded)}; the videos must be under 'videos'")
            return ArrayVideos(loaded[keys[0]], path.name)
    except FileNotFoundError as error:
        raise DatasetError(f"no file at {path}") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        if isinstance(error, DatasetError | InvalidInputError):
            raise
        raise DatasetError(f"{path} cannot be read as an array: {error}") from error


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
