"""Limits on uploaded videos, checked without decoding a frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from quovadis.errors import InvalidInputError, QuovadisError, VideoError
from quovadis.report.timeline import format_time
from quovadis.video.opening import open_container, video_stream


@dataclass(frozen=True)
class UploadInfo:
    """Properties of a video file, counted from its packets because headers may be wrong."""

    width: int
    height: int
    num_frames: int
    seconds: float
    codec: str
    container: str
    pixel_format: str


@dataclass(frozen=True)
class Limits:
    """Limits on the size and duration of a video.

    Example:
        >>> info = Limits().check(getfixture("clip_path"))
        >>> info.width, info.height, info.num_frames, info.seconds
        (64, 48, 30, 1.2)
        >>> Limits(max_seconds=1).check(getfixture("clip_path"))
        Traceback (most recent call last):
        ...
        quovadis.errors.InvalidInputError: square.mp4 is 1.2 s long; the limit is 1 s. Upload a shorter part.
    """

    max_bytes: int = 200 * 2**20
    max_seconds: float = 600.0
    max_frame_pixels: int = 4096 * 2304
    """Width times height."""
    max_total_pixels: int = 40 * 10**9
    """Width times height times frames; ten minutes of 1920 x 1080 at 30 fps have 37 billion pixels."""

    def check(self, path: str | Path, name: str | None = None) -> UploadInfo:
        """Measure a video file and check it against the limits.

        Args:
            path: The file.
            name: Name for error messages; by default the name of the file.

        Raises:
            VideoError: If the file is not a video.
            InvalidInputError: If the video exceeds a limit.
        """
        path = Path(path)
        name = path.name if name is None else name
        size_bytes = path.stat().st_size if path.is_file() else 0
        if size_bytes > self.max_bytes:
            raise InvalidInputError(
                f"{name} has {size_bytes / 2**20:.0f} MiB; the limit is {self.max_bytes / 2**20:.0f} MiB. Upload a "
                "shorter part or a smaller copy."
            )
        # For some formats FFmpeg decodes a frame when it opens the file; max_pixels limits the memory for that.
        with use_display_name(path, name), open_container(path, max_pixels=self.max_frame_pixels) as container:
            stream = video_stream(container, path)
            context = stream.codec_context
            self._check_frame_size(context.width, context.height, name)
            num_frames, seconds = self._count(container, stream, name)
            info = UploadInfo(
                width=context.width,
                height=context.height,
                num_frames=num_frames,
                seconds=seconds,
                codec=context.name,
                container=container.format.name,
                pixel_format=context.format.name if context.format else "",
            )
        if num_frames == 0:
            raise VideoError(f"{name} has a video stream without frames")
        return info

    def _check_frame_size(self, width: int, height: int, name: str) -> None:
        limit = f"{self.max_frame_pixels / 1e6:.3g} million pixels"
        if width * height > self.max_frame_pixels:
            raise InvalidInputError(
                f"{name} has frames of {width} x {height}; the limit is {limit}. Upload a smaller copy."
            )
        if not width * height:
            raise InvalidInputError(
                f"{name} has frames that are damaged or larger than the limit of {limit}. Upload a smaller copy."
            )

    def _count(self, container: av.container.InputContainer, stream: av.VideoStream, name: str) -> tuple[int, float]:
        """Count frames and seconds from the packets; raises as soon as a limit is exceeded."""
        base = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate
        pixels = stream.codec_context.width * stream.codec_context.height
        count, first, last = 0, None, None
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                count += 1
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    first = stamp if first is None else min(first, stamp)
                    end = stamp + (packet.duration or 0)
                    last = end if last is None else max(last, end)
                seconds = float((last - first) * base) if last is not None and first is not None else 0.0
                seconds = max(seconds, count / float(rate) if rate and last is None else 0.0)
                self._check_length(count, seconds, pixels, container, name)
        except FFmpegError:
            pass  # the file is damaged at the end; the recognizer reports how far it could read
        return count, seconds if count else 0.0

    def _check_length(
        self, count: int, seconds: float, pixels: int, container: av.container.InputContainer, name: str
    ) -> None:
        if seconds > self.max_seconds:
            header_seconds = (container.duration or 0) / av.time_base
            raise InvalidInputError(
                f"{name} is {format_time(max(seconds, header_seconds))} long; the limit is "
                f"{format_time(self.max_seconds)}. Upload a shorter part."
            )
        if count * pixels > self.max_total_pixels:
            raise InvalidInputError(
                f"{name} decodes to more than the limit of {self.max_total_pixels / 1e9:.3g} billion pixels. Upload a "
                "shorter part or a smaller copy."
            )


@contextmanager
def use_display_name(path: Path, name: str) -> Iterator[None]:
    """Replace the path of a file by its display name in the messages of errors raised in the block."""
    try:
        yield
    except QuovadisError as error:
        error.args = tuple(str(a).replace(str(path), name) for a in error.args)
        raise
