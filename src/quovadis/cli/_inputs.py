"""Video arguments of commands: files, folders and lists, checked before a network is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from quovadis.runtime.plain_text import print

if TYPE_CHECKING:
    from quovadis.inference.prediction import Window

_MAX_NAME = 24
"""Characters of a file name next to a progress bar; longer ones would displace it in terminals of 80 columns."""


def open_videos(inputs: Sequence[Path], usage: str) -> tuple[list[Path], int]:
    """List the videos that can be opened, and print errors for the others.

    Args:
        inputs: Video files, folders with videos, text files with one path per line, or patterns.
        usage: Usage of the command, for the error message.

    Returns:
        The videos, and the number of videos that cannot be read.

    Raises:
        InvalidInputError: If ``inputs`` is empty.
        DatasetError: If a folder or list contains no videos, or a pattern matches no file.
    """
    from quovadis.datasets.video_inputs import expand_patterns, list_videos
    from quovadis.errors import InvalidInputError, VideoError
    from quovadis.video.opening import close_container, open_container, video_stream

    if not inputs:
        raise InvalidInputError(f"name at least one video, folder or list: {usage}")
    videos, num_failed = [], 0
    for argument in dict.fromkeys(expand_patterns(inputs)):
        for path in list_videos([argument]).values():
            try:
                container = open_container(path)
                try:
                    video_stream(container, path)
                finally:
                    close_container(container)
            except VideoError as error:
                num_failed += 1
                print(f"error: {error}", file=sys.stderr)
            else:
                videos.append(path)
    return list(dict.fromkeys(videos)), num_failed


def require_distinct_names(videos: Sequence[Path]) -> None:
    """Raise an error if the outputs of two videos would have the same file name."""
    from quovadis.errors import InvalidInputError

    stems: dict[str, Path] = {}
    for video in videos:
        if stems.setdefault(video.stem, video) != video:
            raise InvalidInputError(
                f"{stems[video.stem]} and {video} would be written to one file: process them with different --out"
            )


class VideoProgress:
    """Progress bar on stderr over the total duration of several videos.

    Args:
        videos: The videos, in the order in which they are processed.
    """

    def __init__(self, videos: Sequence[Path]):
        from quovadis.runtime.console import Console
        from quovadis.runtime.progress import progress_bar

        self._seconds = [_duration_seconds(path) for path in videos]
        self._bar = progress_bar(Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=max(round(sum(self._seconds)), 1))
        self._done = 0.0

    @contextmanager
    def video(self, path: Path) -> Iterator[None]:
        """Show the bar while a video is processed."""
        self._start: float | None = None
        name = path.name if len(path.name) <= _MAX_NAME else f"{path.name[: _MAX_NAME - 1]}…"
        self._bar.update(self._task, description=f"{name}, seconds")
        try:
            with self._bar:
                yield
        finally:
            self._done += self._seconds.pop(0)
            self._bar.update(self._task, completed=round(self._done))

    def window(self, window: Window) -> None:
        """Advance to the end of a window of the current video."""
        self._start = window.start_seconds if self._start is None else self._start
        self._bar.update(self._task, completed=round(self._done + window.stop_seconds - self._start))


def _duration_seconds(path: Path) -> float:
    from quovadis.errors import VideoError
    from quovadis.video.read import probe

    try:
        return probe(path).duration_seconds or 0.0
    except VideoError:
        return 0.0
