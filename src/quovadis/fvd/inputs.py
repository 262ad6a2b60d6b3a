"""Where the videos of a Frechet Video Distance come from: a folder of files, or one array."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from quovadis.datasets.video_files import find_videos, is_ignored, require_videos, visible_folders
from quovadis.errors import DatasetError, InvalidInputError, InvalidTypeError, VideoDamagedError
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import VideoReader

FrameTransform = Callable[[Tensor], Tensor]
"""uint8 (3, H, W) to (3, h, w), as soon as the frame is there, so that large frames are never held."""

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")
_ARRAY_KEYS = ("videos", "video", "arr_0")


@dataclass(frozen=True)
class FrameChoice:
    """Which frames of a video are taken."""

    num_frames: int | None = None
    """None takes all."""
    frame_stride: int = 1
    fps: float | None = None
    """Frames a second to read files at; None takes the frames of the file as they are."""
    random_start: bool = False
    seed: int = 0
    resolution_px: int | None = None
    """Short side resized to this (Lanczos), middle square cropped, before anything else; None leaves frames alone."""

    def describe(self) -> str:
        """Where clips begin, in words."""
        return f"random start, seed {self.seed}" if self.random_start else "from the first frame"

    def start(self, num_available: int, number: int) -> int | None:
        """First frame of video ``number``; None where it is too short.

        StyleGAN-V's rule: a video must have ``num_frames * frame_stride`` frames, and a random start is one of all
        that leave the last frame inside.
        """
        if self.num_frames is None:
            return 0
        if num_available < self.num_frames * self.frame_stride:
            return None
        if not self.random_start:
            return 0
        last = num_available - self.num_frames * self.frame_stride + self.frame_stride - 1
        return int(np.random.default_rng([self.seed, number]).integers(0, last + 1))

    def taken(self, start: int) -> slice:
        """The frames from ``start`` on."""
        stop = None if self.num_frames is None else start + (self.num_frames - 1) * self.frame_stride + 1
        return slice(start, stop, self.frame_stride)


@dataclass(frozen=True)
class ChosenFrames:
    """What was taken of one video."""

    frames: Tensor
    """(T, 3, h, w), after the transform."""
    height: int
    """Before the transform, as is the width."""
    width: int


class VideoSet(ABC):
    """Videos in a fixed order."""

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """How many videos."""

    @cached_property
    @abstractmethod
    def sha256(self) -> str:
        """Hash of all that is in it."""

    @abstractmethod
    def path(self, number: int) -> str:
        """A name of video ``number``."""

    @abstractmethod
    def read(self, number: int, choice: FrameChoice, transform: FrameTransform) -> ChosenFrames | None:
        """The chosen frames of a video; None where it is too short.

        Raises:
            VideoError: it cannot be read.
        """


class FolderVideos(VideoSet):
    """All video files below a folder, sorted; see :func:`quovadis.datasets.video_files.find_videos`.

    Raises:
        DatasetError: there are none.
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
        for number, path in enumerate(self.files):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                content = f"unreadable: {error.strerror}"
            digest.update(f"{self.path(number)}\t{content}\n".encode())
        return digest.hexdigest()

    def path(self, number: int) -> str:
        """Relative to the folder."""
        return self.files[number].relative_to(self.root).as_posix()

    def read(self, number: int, choice: FrameChoice, transform: FrameTransform) -> ChosenFrames | None:
        """Decode the chosen frames; a video whose start is random is decoded twice, to know its length."""
        with VideoReader(self.files[number]) as reader:
            begin: int | None = 0
            if choice.random_start:
                begin = choice.start(sum(1 for _ in _frames(reader, choice.fps)), number)
            if begin is None:
                return None
            taken = choice.taken(begin)
            frames, size = [], (0, 0)
            for frame in islice(_frames(reader, choice.fps), taken.start, taken.stop, taken.step):
                pixels = _square(frame.pixels, choice.resolution_px)
                size = (pixels.shape[1], pixels.shape[2])
                frames.append(transform(pixels))
            if reader.damage:
                raise VideoDamagedError(f"{self.files[number]} is damaged: {reader.damage}")
        if choice.num_frames is not None and len(frames) < choice.num_frames:
            return None
        return ChosenFrames(torch.stack(frames), *size)


class FrameFolders(VideoSet):
    """Videos as folders of frames, one folder each, as StyleGAN-V stores them: ``ROOT/VIDEO/00000.jpg`` ...

    Frames are PNG or JPEG files of one size, in the order of the numbers in their names.

    Raises:
        DatasetError: If no subfolder holds frames.
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
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.relative_to(self.root).as_posix()}\t{content}\n".encode())
        return digest.hexdigest()

    def path(self, number: int) -> str:
        """Relative to the root."""
        return self.folders[number].relative_to(self.root).as_posix()

    def read(self, number: int, choice: FrameChoice, transform: FrameTransform) -> ChosenFrames | None:
        """Read the chosen frames.

        Raises:
            InvalidInputError: If a frame rate is given: frames have none.
            VideoDamagedError: If a frame cannot be read, or has another size than the first.
        """
        if choice.fps is not None:
            raise InvalidInputError(f"{self.name}: frames have no frame rate and cannot be read at {choice.fps} fps")
        files = self.frames[self.folders[number]]
        start = choice.start(len(files), number)
        if start is None:
            return None
        frames = [_square(_read_frame(path), choice.resolution_px) for path in files[choice.taken(start)]]
        sizes = {tuple(frame.shape[1:]) for frame in frames}
        if len(sizes) > 1:
            raise VideoDamagedError(f"{self.folders[number]} has frames of several sizes: {sorted(sizes)}")
        return ChosenFrames(torch.stack([transform(f) for f in frames]), frames[0].shape[1], frames[0].shape[2])


class ArrayVideos(VideoSet):
    """Videos in one array.

    Args:
        array: uint8 (N, T, H, W, 3).
        name: what to call it.

    Raises:
        InvalidTypeError, InvalidInputError: another type or layout.
    """

    def __init__(self, array: Any, name: str = "array"):
        self.name = name
        self.array: NDArray[np.uint8] = array.cpu().numpy() if isinstance(array, Tensor) else np.asanyarray(array)
        if self.array.dtype != np.uint8:
            floats = self.array.dtype.kind == "f"
            hint = ": for values in [0, 1] give (videos * 255).round().astype('uint8')" if floats else ""
            raise InvalidTypeError(f"{name}: videos must be uint8 in [0, 255]; got {self.array.dtype}{hint}")
        shape = self.array.shape
        if self.array.ndim != 5 or shape[4] != 3 or 0 in shape:
            hint = ""
            if self.array.ndim == 5 and shape[2] == 3:
                hint = "; it looks like (N, T, 3, H, W): use videos.transpose(0, 1, 3, 4, 2)"
            elif self.array.ndim == 5 and shape[1] == 3:
                hint = "; it looks like (N, 3, T, H, W): use videos.transpose(0, 2, 3, 4, 1)"
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

    def path(self, number: int) -> str:
        """Its number in the array."""
        return f"{self.name}[{number}]"

    def read(self, number: int, choice: FrameChoice, transform: FrameTransform) -> ChosenFrames | None:
        """The chosen frames."""
        if choice.fps is not None:
            raise InvalidInputError(f"{self.name}: an array has no frame rate and cannot be read at {choice.fps} fps")
        video = self.array[number]
        start = choice.start(len(video), number)
        if start is None:
            return None
        frames = [torch.from_numpy(np.array(frame)).permute(2, 0, 1) for frame in video[choice.taken(start)]]
        frames = [_square(frame, choice.resolution_px) for frame in frames]
        return ChosenFrames(torch.stack([transform(f) for f in frames]), frames[0].shape[1], frames[0].shape[2])


def open_videos(source: Any) -> VideoSet:
    """Videos from a folder of video files or of folders with frames, a ``.npy`` or ``.npz`` file, or an array.

    Raises:
        DatasetError: no such folder or file, or no videos in it.
        InvalidTypeError, InvalidInputError: an array of another type or layout.
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
    """All folders below a folder that are neither hidden nor the system's, sorted."""
    for folder in visible_folders(root):
        yield folder
        yield from _folders_below(folder)


def _frame_files(folder: Path) -> list[Path]:
    """The frames in a folder, in the order of the numbers in their names."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in _FRAME_SUFFIXES and not is_ignored(p.name)]
    return sorted(found, key=lambda p: ([int(digits) for digits in re.findall(r"\d+", p.stem)], p.name))


def _read_frame(path: Path) -> Tensor:
    """uint8 (3, H, W)."""
    try:
        with Image.open(path, formats=["PNG", "JPEG"]) as picture:  # by content, PIL would start other programs too
            return torch.from_numpy(np.asarray(picture.convert("RGB")).copy()).permute(2, 0, 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoDamagedError(f"{path} is not a PNG or JPEG picture that can be read: {error}") from error


def _frames(reader: VideoReader, fps: float | None) -> Iterator[VideoFrame]:
    """The frames of a file as they are, or at a rate."""
    if fps is None:
        return reader.frames()
    return (frame for _, frame in reader.resampled_frames(fps))


def _square(pixels: Tensor, resolution_px: int | None) -> Tensor:
    """uint8 (3, H, W): the short side to ``resolution_px`` by Lanczos, and the middle square of that."""
    height, width = pixels.shape[1:]
    if resolution_px is None or (height, width) == (resolution_px, resolution_px):
        return pixels
    short = min(height, width)
    size = (int(resolution_px * width / short), int(resolution_px * height / short))
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).resize(size, Image.Resampling.LANCZOS)
    left, top = (round((side - resolution_px) / 2) for side in size)
    square = picture.crop((left, top, left + resolution_px, top + resolution_px))
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)
