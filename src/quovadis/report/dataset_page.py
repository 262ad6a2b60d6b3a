"""Gather what the page about a dataset shows, and write it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from torch import Tensor

from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord
from quovadis.datasets.statistics import DatasetStatistics
from quovadis.errors import QuovadisError
from quovadis.report.dataset import dataset_page
from quovadis.report.pictures import picture_uri
from quovadis.runtime.atomic import write_atomically
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames

_PICTURE_SIDE_PX = 128
_TRIES = 3


def write_dataset_page(
    path: str | PathLike[str],
    data: Manifest,
    statistics: DatasetStatistics,
    *,
    on_class: Callable[[int], None] | None = None,
) -> Path:
    """Write one HTML page about a dataset, with a frame of each class.

    Args:
        path: the file.
        data: the videos.
        statistics: what :func:`quovadis.datasets.statistics.dataset_statistics` says of them.
        on_class: called with the number of classes that have their picture.

    Raises:
        StorageError: it cannot be written.
    """
    pictures = {}
    members: dict[int, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        if record.label != UNLABELED and record.status in ("listed", "ok"):
            members[record.label].append(record)
    for number, label in enumerate(data.labels):
        # A few tries, because a file that was never looked at may be corrupt.
        frames = (middle_frame(record.path) for record in members[number][:_TRIES])
        frame = next((f for f in frames if f is not None), None)
        if frame is not None:
            pictures[label] = picture_uri(frame)
        if on_class is not None:
            on_class(number + 1)
    return write_atomically(path, dataset_page(data.name, statistics, pictures))


def middle_frame(path: Path) -> Tensor | None:
    """The frame in the middle of a video, small, uint8 (3, H, W); None where it cannot be read."""
    try:
        with VideoReader(path, num_threads=1) as reader:
            frame = reader.frame_at(reader.first_pts_seconds + (reader.info.duration_seconds or 0.0) / 2)
            return resize_frames(frame.pixels[None], _PICTURE_SIDE_PX)[0]
    except QuovadisError:
        return None
