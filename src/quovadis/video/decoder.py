"""Decode the frames of one video stream in presentation order, from the start or from a key frame.

A :class:`FrameDecoder` runs at most one decoding pass at a time. Starting another pass, or closing the decoder, stops
the current one; its iterator then raises instead of ending early.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

import av
from av.error import FFmpegError

from quovadis.errors import InvalidInputError, VideoError
from quovadis.video.clock import StreamClock, StreamLength, measure_stream
from quovadis.video.frame import FrameConverter, VideoFrame
from quovadis.video.opening import close_container, open_container, video_stream

_MAX_FRAME_RATE = 1000  # higher values are the resolution of a clock, not a frame rate

# Containers with an index of key frames. In other containers FFmpeg estimates the position, and the frames found there
# have inaccurate times (MPEG program streams) or depend on missing frames (transport streams).
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}

# Files up to this size are checked for timestamps that decrease before seeking. Reading larger files takes too long.
_CHECKED_BEFORE_SEEK_BYTES = 64 * 2**20


class FrameDecoder:
    """Decode the video stream of a file that the ``ffmpeg`` program would choose.

    Args:
        path: Video file.
        num_threads: Number of decoding threads; 0 lets FFmpeg choose.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the file is not a video.

    Example:
        >>> decoder = FrameDecoder(getfixture("clip_path"))
        >>> [frame.pts_seconds for frame in decoder.from_start()][:3]
        [0.0, 0.04, 0.08]
        >>> next(decoder.from_key_frame(0.5)).pts_seconds <= 0.5
        True
        >>> decoder.close()
    """

    def __init__(self, path: Path, num_threads: int = 0):
        self.path = path
        self.closed = False
        self._num_threads = num_threads
        self._open()
        stream = self.stream
        self.converter = FrameConverter(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio)
        self.clock = StreamClock(self.container, stream)
        self._num_broken = 0
        self._early_end = ""
        self._current_pass: Generator[VideoFrame, None, None] | None = None
        self._after_first_frame: Iterator[VideoFrame] | None = None
        """Rest of the pass that decoded :attr:`first_frame`, while nothing else has used the decoder."""

    def _open(self) -> None:
        self.container = open_container(self.path)
        try:
            self.stream = video_stream(self.container, self.path)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.thread_count = self._num_threads
        except BaseException:
            close_container(self.container)
            raise

    def close(self) -> None:
        """Stop decoding and close the file."""
        if not self.closed:
            self._stop()
            self.closed = True
            close_container(self.container)

    @property
    def damage(self) -> str:
        """Problems found by the current pass so far; empty if there were none."""
        broken = f"{self._num_broken} broken packets or frames" if self._num_broken else ""
        return "; ".join(filter(None, [broken, self._early_end]))

    @property
    def frame_rate(self) -> float | None:
        """Average frames per second according to the header, or None if the header has no plausible value."""
        rate = self.clock.rate
        return float(rate) if rate and rate <= _MAX_FRAME_RATE else None

    @property
    def frame_duration_seconds(self) -> float:
        """Duration of a frame according to the header; 1/25 s if unknown."""
        return 1 / (self.frame_rate or 25.0)

    @cached_property
    def first_frame(self) -> VideoFrame:
        """First frame of the stream. Reading it keeps the pass open, so :meth:`from_start` does not decode it again."""
        frames = self._new_pass_from_start()
        first = next(frames, None)
        if first is None:
            if _is_animated_webp(self.path):
                raise VideoError(
                    f"{self.path} is an animated WebP, which FFmpeg cannot decode; convert it to GIF or MP4"
                )
            raise VideoError(f"{self.path} has a video stream, but none of its frames can be decoded")
        self._after_first_frame = frames
        return first

    @cached_property
    def length(self) -> StreamLength:
        """Length of the stream, from its packets."""
        return measure_stream(self.path, self.first_frame.pts_seconds)

    def from_start(self) -> Iterator[VideoFrame]:
        """Return all frames, starting with the first one."""
        first = self.first_frame
        if self._after_first_frame is not None:
            rest, self._after_first_frame = self._after_first_frame, None
            return chain((first,), rest)
        return self._new_pass_from_start()

    def from_key_frame(self, seconds: float) -> Iterator[VideoFrame]:
        """Return all frames from the key frame before ``seconds``; none if the container cannot find it."""
        self._stop()
        if not self._can_seek:
            return iter(())
        assert self.stream.time_base is not None
        try:
            target = round(seconds / float(self.stream.time_base))
            self.container.seek(target, stream=self.stream, backward=True)
        except (FFmpegError, OverflowError):  # a gap in the index, or a time outside of the container's range
            return iter(())
        return self._new_pass(first_stamp=None)

    @cached_property
    def _can_seek(self) -> bool:
        if self.container.format.name not in _INDEXED:
            return False
        return self.path.stat().st_size > _CHECKED_BEFORE_SEEK_BYTES or self.length.in_order

    def _new_pass_from_start(self) -> Iterator[VideoFrame]:
        self._stop()
        if self._current_pass is not None:  # opening the file again is the only way back that works in every container
            close_container(self.container)
            self._open()
        return self._new_pass(first_stamp=0)

    def _new_pass(self, first_stamp: int | None) -> Iterator[VideoFrame]:
        """Decode from the current position of the container; see :class:`StreamClock` for ``first_stamp``."""
        self.clock = StreamClock(self.container, self.stream, first_stamp)
        self.converter.restart()
        self._current_pass = frames = self._decode()
        return self._raise_if_stopped(frames)

    def _stop(self) -> None:
        """Stop the current pass: FFmpeg must not seek in or close a container that is being decoded."""
        self._after_first_frame = None
        if self._current_pass is not None:
            self._current_pass.close()

    def _raise_if_stopped(self, frames: Generator[VideoFrame, None, None]) -> Iterator[VideoFrame]:
        yield from frames
        if self._current_pass is not frames or self.closed:
            raise InvalidInputError(
                f"{self.path} was closed or read again before this iteration ended; open a second VideoReader"
            )

    def _decode(self) -> Generator[VideoFrame, None, None]:
        """Decode from the current position to the end, with times that never decrease."""
        self._num_broken, self._early_end = 0, ""
        last: VideoFrame | None = None
        for raw in self._raw_frames():
            shown = self.clock.stamp(raw)
            if shown is None:
                return
            last = VideoFrame(raw, shown.start_seconds, shown.duration_seconds, self.converter)
            yield last
        self._early_end = self._describe_early_end(last)

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        """Decode packet by packet; count packets that cannot be decoded and continue with the next one."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self._num_broken += 1
                return
            if packet.buffer_ptr and not packet.size:  # repeats the last frame; it does not mark the end
                continue
            self.clock.correct(packet)
            try:
                frames = packet.decode()
            except FFmpegError:
                self._num_broken += 1
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    self._num_broken += frame.is_corrupt
                    yield frame

    def _describe_early_end(self, last: VideoFrame | None) -> str:
        """Compare the last frame with the duration in the header; return an empty string if they agree."""
        if last is None:
            return "no frame can be decoded"
        stream = self.stream
        if stream.duration is not None and stream.time_base is not None:
            # The duration of a stream counts from its own start; the duration of a file counts from zero (Matroska).
            duration_seconds = float(stream.duration * stream.time_base)
            start_seconds = float((stream.start_time or 0) * stream.time_base)
        elif self.container.duration is None or len(self.container.streams) > 1:  # another stream may be longer
            return ""
        else:
            duration_seconds, start_seconds = self.container.duration / av.time_base, 0.0
        missing_seconds = start_seconds + duration_seconds - last.end_seconds
        if self.clock.jumped or missing_seconds <= max(3 * self.frame_duration_seconds, 0.05 * duration_seconds):
            return ""
        return f"it ends at {last.pts_seconds:.2f} s, its header says {duration_seconds:.2f} s"


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)
