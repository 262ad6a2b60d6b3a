"""Open the videos for the Frechet Video Distance: folders of videos, folders of frames, lists and arrays."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from quovadis.datasets.video_files import find_videos, is_ignored, require_videos, visible_folders
from quovadis.datasets.video_inputs import list_videos
from quovadis.errors import DatasetError, InvalidInputError, VideoDamagedError
from quovadis.fvd.array_videos import ARRAY_SUFFIXES, ArrayFormat, ArrayVideos, read_array
from quovadis.fvd.sampling import FrameSampling
from quovadis.fvd.video_set import FrameTransform, SampledFrames, VideoSet, collect_frames
from quovadis.runtime.hashing import sha256
from quovadis.video.frame import VideoFrame
from quovadis.video.reader import VideoReader

_FRAME_SUFFIXES = (".png", ".jpg", ".jpeg")


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
            sampled = collect_frames((frame.pixels for frame in frames), sampling, transform, self.path(index))
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
        return collect_frames(frames, sampling, transform, str(folder))


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
    if path.suffix.lower() == ".txt":
        return ListedVideos(list(list_videos([path]).values()), path.name)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return read_array(path, form)
    raise DatasetError(
        f"{path} is neither a folder of videos nor a {', '.join(ARRAY_SUFFIXES)} or .txt file"
        f"{'' if path.exists() else ': there is no such file'}"
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
