"""Write the HTML page about a dataset, with one frame of each class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from torch import Tensor

from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord
from quovadis.datasets.statistics import DatasetStatistics
from quovadis.errors import QuovadisError
from quovadis.report.charts import frame_uri
from quovadis.report.dataset import dataset_page
from quovadis.runtime.atomic import write_atomically
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames

_SHORT_SIDE_PX = 128
_MAX_ATTEMPTS = 3
"""Videos of a class to try: a file with status "listed" may be corrupt."""


def write_dataset_page(
    path: str | PathLike[str],
    data: Manifest,
    statistics: DatasetStatistics,
    *,
    on_class: Callable[[int], None] | None = None,
) -> Path:
    """Write an HTML page about a dataset, with one frame of each class.

    Args:
        path: The file to write.
        data: The videos.
        statistics: Result of :func:`quovadis.datasets.statistics.dataset_statistics` for ``data``.
        on_class: Called after each class with the number of classes done.

    Returns:
        The path of the file.

    Raises:
        StorageError: If the file cannot be written.

    Example:
        >>> data = quovadis.load_dataset("clips/")  # doctest: +SKIP
        >>> page = write_dataset_page("clips.html", data, dataset_statistics(data))  # doctest: +SKIP
    """
    records: dict[int, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        if record.label != UNLABELED and record.status in ("listed", "ok"):
            records[record.label].append(record)
    images = {}
    for index, label in enumerate(data.labels):
        frames = (middle_frame(record.path) for record in records[index][:_MAX_ATTEMPTS])
        frame = next((f for f in frames if f is not None), None)
        if frame is not None:
            images[label] = frame_uri(frame)
        if on_class is not None:
            on_class(index + 1)
    return write_atomically(path, dataset_page(data.name, statistics, images))


def middle_frame(path: Path) -> Tensor | None:
    """Read the middle frame of a video, resized to a thumbnail, uint8 (3, H, W); None if it cannot be read."""
    try:
        with VideoReader(path, num_threads=1) as reader:
            frame = reader.frame_at(reader.first_pts_seconds + (reader.info.duration_seconds or 0.0) / 2)
            return resize_frames(frame.pixels[None], _SHORT_SIDE_PX)[0]
    except QuovadisError:
        return None
