"""What a page that strangers send files to takes on: a file is measured without decoding it, before any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from quovadis.errors import InvalidInputError, QuovadisError, VideoError
from quovadis.video.opening import open_container, video_stream


@dataclass(frozen=True)
class VideoFacts:
    """What a file holds, counted packet by packet, whatever its header claims."""

    width: int
    height: int
    num_frames: int
    seconds: float
    codec: str
    container: str
    pixel_format: str


@dataclass(frozen=True)
class Limits:
    """The largest video that is worked on; what is larger is refused with the reason, before a pixel is decoded.

    >>> facts = Limits().check(getfixture("clip_path"))
    >>> facts.width, facts.height, facts.num_frames, facts.seconds
    (64, 48, 30, 1.2)
    >>> Limits(max_seconds=1).check(getfixture("clip_path"))
    Traceback (most recent call last):
    ...
    quovadis.errors.InvalidInputError: square.mp4 is 1.2 s long; at most 1 s are taken here: send a part of it
    """

    max_bytes: int = 200 * 2**20
    max_seconds: float = 600.0
    max_frame_pixels: int = 4096 * 2304
    """Width times height."""
    max_total_pixels: int = 40 * 10**9
    """Width times height times frames: ten minutes of 1920 x 1080 at 30 a second have 37 thousand million."""

    def check(self, path: str | Path, name: str | None = None) -> VideoFacts:
        """Measure a file, or say why it is not taken.

        Args:
            path: the file.
            name: what the person calls it, for messages; by default the name of the file.

        Raises:
            VideoError: not a video. InvalidInputError: beyond a limit.
        """
        path = Path(path)
        name = path.name if name is None else name
        size_bytes = path.stat().st_size if path.is_file() else 0
        if size_bytes > self.max_bytes:
            raise InvalidInputError(
                f"{name} has {size_bytes / 2**20:.0f} MiB; at most {self.max_bytes / 2**20:.0f} MiB are taken here: "
                "send a part of it, or a smaller copy"
            )
        # FFmpeg decodes a picture of some formats to open them; max_pixels bounds how much memory that can take.
        with called(path, name), open_container(path, max_pixels=self.max_frame_pixels) as container:
            stream = video_stream(container, path)
            context = stream.codec_context
            self._require_picture(context.width, context.height, name)
            num_frames, seconds = self._count(container, stream, name)
            facts = VideoFacts(
                width=context.width,
                height=context.height,
                num_frames=num_frames,
                seconds=seconds,
                codec=context.name,
                container=container.format.name,
                pixel_format=context.format.name if context.format else "",
            )
        if num_frames == 0:
            raise VideoError(f"{name} has a video stream without a single frame")
        return facts

    def _require_picture(self, width: int, height: int, name: str) -> None:
        most = f"{self.max_frame_pixels / 1e6:.3g} million pixels"
        if width * height > self.max_frame_pixels:
            raise InvalidInputError(
                f"{name} has pictures of {width} x {height}; at most {most} are taken here: send a smaller copy"
            )
        if not width * height:
            raise InvalidInputError(
                f"{name} has pictures of more than {most}, or broken ones; at most so many are taken here: send a "
                "smaller copy"
            )

    def _count(self, container: av.container.InputContainer, stream: av.VideoStream, name: str) -> tuple[int, float]:
        """Frames and seconds, by the packets; the reading ends where a limit is passed."""
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
                self._require_length(count, seconds, pixels, container, name)
        except FFmpegError:
            pass  # a damaged end: the recognizer says how far it came
        return count, seconds if count else 0.0

    def _require_length(
        self, count: int, seconds: float, pixels: int, container: av.container.InputContainer, name: str
    ) -> None:
        if seconds > self.max_seconds:
            promised = (container.duration or 0) / av.time_base
            raise InvalidInputError(
                f"{name} is {clock(max(seconds, promised))} long; at most {clock(self.max_seconds)} are taken here: "
                "send a part of it"
            )
        if count * pixels > self.max_total_pixels:
            raise InvalidInputError(
                f"{name} unpacks to more than {self.max_total_pixels / 1e9:.3g} thousand million pixels: send a part "
                "of it, or a smaller copy"
            )


@contextmanager
def called(path: Path, name: str) -> Iterator[None]:
    """Within this, errors name a file as the person does who sent it, and not where it lies on this machine."""
    try:
        yield
    except QuovadisError as error:
        error.args = tuple(str(a).replace(str(path), name) for a in error.args)
        raise


def clock(seconds: float) -> str:
    """A length of time as it is read.

    >>> clock(1.2), clock(75), clock(7200)
    ('1.2 s', '1:15', '2:00:00')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
