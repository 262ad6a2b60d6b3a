"""Read video files with PyAV: exact timestamps, constant memory, one swscale context per stream.

Pictures, times and the choice of the stream are those of the ``ffmpeg`` program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
import torch
from av.error import FFmpegError
from torch import Tensor

from quovadis.errors import (
    InvalidInputError,
    TooFewFramesError,
    UnknownNameError,
    VideoDamagedError,
    VideoError,
)
from quovadis.video.clip import Clip
from quovadis.video.clock import StreamClock, StreamLength, measure_stream
from quovadis.video.frame import FrameConverter, VideoFrame
from quovadis.video.info import VideoInfo
from quovadis.video.opening import close_container, moving_streams, open_container, video_stream
from quovadis.video.sampling import SHORT_POLICIES, ShortPolicy, fit_length, frame_index_at

FrameTransform = Callable[[Tensor], Tensor]
"""Applied to each frame as it is decoded: uint8 (1, 3, H, W) to uint8 (1, 3, h, w)."""

_MAX_GAP_SECONDS = 3600.0
_MAX_FRAME_RATE = 1000  # more is the resolution of a clock, not a rate

# Containers with an index of key frames. Elsewhere FFmpeg searches by guesses, and the frames that it lands on have
# guessed times (MPEG program streams) or no clean beginning (transport streams): there a start is found by decoding.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}

# Files up to this size are checked for timestamps that step back before a seek; reading more would take too long.
_CHECKED_BEFORE_SEEK_BYTES = 64 * 2**20


class VideoReader:
    """A video file, opened; frames come one by one, so memory does not grow with the length of the video.

    Args:
        path: any container and codec that FFmpeg reads. Sound is ignored.
        num_threads: decoding threads; 0 lets FFmpeg choose, 1 is right inside a data-loading worker.

    Raises:
        VideoNotFoundError: nothing at that path.
        VideoError: not a video: a folder, an empty file, text, sound only ...

    >>> with VideoReader(getfixture("clip_path")) as reader:
    ...     frame = next(reader.frames())
    ...     print(tuple(frame.pixels.shape), frame.pts_seconds)
    (3, 48, 64) 0.0
    """

    def __init__(self, path: str | PathLike[str], *, num_threads: int = 0):
        self.path = Path(path)
        self._container = open_container(self.path)
        try:
            self._stream = video_stream(self._container, self.path)
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = num_threads
        except BaseException:
            close_container(self._container)
            raise
        stream, aspect = self._stream, self._stream.sample_aspect_ratio
        self._converter = FrameConverter(aspect or stream.codec_context.sample_aspect_ratio)
        self._clock = StreamClock(self._container, stream)
        self._num_broken = 0
        self._early_end = ""
        self._head: tuple[VideoFrame, Iterator[VideoFrame]] | None = None
        self._decoding: Generator[VideoFrame, None, None] | None = None
        self._closed = False

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def close(self) -> None:
        """Close the file."""
        if not self._closed:
            self._stop_decoding()
            self._closed = True
            close_container(self._container)

    @property
    def damage(self) -> str:
        """What was wrong with the part that was decoded so far; empty when nothing was."""
        broken = f"{self._num_broken} broken packets or frames" if self._num_broken else ""
        return "; ".join(filter(None, [broken, self._early_end]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a user should know about the part that was decoded so far, in words."""
        count = len(moving_streams(self._container))
        several = f"the file has {count} video streams; read stream {self._stream.index}"
        return (*([several] if count > 1 else []), *self._converter.notes)

    @cached_property
    def first_pts_seconds(self) -> float:
        """When the first frame is shown."""
        return self._first_frame.pts_seconds

    @cached_property
    def _first_frame(self) -> VideoFrame:
        frames = self._decode()
        first = next(frames, None)
        if first is None:
            if _is_animated_webp(self.path):
                raise VideoError(
                    f"{self.path} is an animated WebP, which FFmpeg cannot decode; convert it to GIF or MP4"
                )
            raise VideoError(f"{self.path} has a video stream without a single frame that decodes")
        self._head = first, frames  # so that reading from the beginning goes on from here
        return first

    @cached_property
    def info(self) -> VideoInfo:
        """What the file says about itself: its header, its packets and its first frame."""
        stream, converter = self._stream, self._converter
        first_seconds = self.first_pts_seconds
        width, height = converter.shown_size
        seconds = self._length.end_seconds - first_seconds
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            fps=self.frame_rate or (self._length.num_frames / seconds if seconds else 0.0),
            num_frames=self._length.num_frames,
            duration_seconds=seconds,
            codec=stream.codec_context.name,
            container=self._container.format.name,
            rotation_degrees=converter.orientation.rotation_degrees,
            has_audio=bool(self._container.streams.audio),
            mirrored=converter.orientation.mirrored,
            pixel_aspect_ratio=float(converter.pixel_aspect),
            notes=self.notes,
        )

    @property
    def frame_rate(self) -> float | None:
        """Average frames per second by the header; None if it says nothing plausible."""
        rate = self._clock.rate
        return float(rate) if rate and rate <= _MAX_FRAME_RATE else None

    @cached_property
    def _length(self) -> StreamLength:
        return measure_stream(self.path, self.first_pts_seconds)

    @cached_property
    def start_seconds(self) -> float:
        """When the file starts, on its own clock; before the first frame if the picture comes late."""
        base = self._stream.time_base
        if self._container.start_time is None or base is None:
            return self.first_pts_seconds if self._clock.has_no_times else 0.0
        if self._clock.may_jump:  # only the streams that are used count
            return float((self._stream.start_time or 0) * base)
        return float(round(Fraction(self._container.start_time, av.time_base) / base) * base)

    def num_resampled_frames(self, fps: float) -> int:
        """Ticks of the whole video at ``fps``, from the packets of the picture stream, without decoding."""
        first, stop = self._ticks_of(fps, self.first_pts_seconds, self._length.end_seconds)
        return max(stop - first, 1)

    def frame_seconds(self, tick: int, fps: float) -> float:
        """When a tick begins, on the file's clock.

        Frame 0 shows the first frame and begins at the multiple of ``1 / fps`` nearest to it, counted from the start of
        the file.
        """
        first, _ = self._ticks_of(fps, self.first_pts_seconds, self.first_pts_seconds)
        return self.start_seconds + (first + tick) / fps

    def _ticks_of(self, fps: float, seconds: float, stop_seconds: float) -> tuple[int, int]:
        """Two times in ticks since the start of the file."""
        if not 0 < fps < float("inf"):
            raise InvalidInputError(f"fps must be above 0; got {fps}")
        first, stop = frame_index_at([seconds - self.start_seconds, stop_seconds - self.start_seconds], fps).tolist()
        return first, stop

    def frame_at(self, seconds: float) -> VideoFrame:
        """The frame that is on screen at this time: the first or the last one outside of the video."""
        found: VideoFrame | None = None
        for frame in self._frames_covering(seconds):
            if found is not None and frame.pts_seconds > seconds + 1e-9:
                break
            found = frame
        return found or self._first_frame

    def frames(self, start_seconds: float | None = None) -> Iterator[VideoFrame]:
        """Frames in the order they are shown, from the first one at or after ``start_seconds``.

        A start reads from the nearest key frame before it, so a jump costs one group of pictures, and gives exactly
        the frames that reading from the beginning would give. Where the container has no index of key frames, it
        costs decoding everything before the start.

        Raises:
            VideoError: no frame decodes.
            InvalidInputError: a second reading began before this one was at its end, or the file was closed.
        """
        if self._closed:
            raise InvalidInputError(f"{self.path} was closed; open it again to read it")
        if start_seconds is None or start_seconds <= self.first_pts_seconds:
            self.first_pts_seconds  # noqa: B018  (found before the first frame is handed out, it disturbs nobody)
            yield from self._decode()
            return
        for back_seconds in (0.0, 2.0, 20.0):
            frames = self._seek(start_seconds - back_seconds)
            first = next(frames, None)
            if first is not None and first.stands_alone and first.pts_seconds <= start_seconds:
                yield from (f for f in _chain(first, frames) if f.pts_seconds >= start_seconds - 1e-9)
                return
        yield from (f for f in self._decode() if f.pts_seconds >= start_seconds - 1e-9)

    def resampled_frames(self, fps: float, start_tick: int = 0) -> Iterator[tuple[int, VideoFrame]]:
        """The video on a regular grid: ``(tick, frame)`` for every tick from ``start_tick`` on.

        See :mod:`quovadis.video.sampling` for the rule. Memory holds two frames.
        """
        # One tick earlier, because a tick may show a frame that began before it.
        seek = self.frame_seconds(start_tick - 1, fps) if start_tick > 1 else None
        current: VideoFrame | None = None
        for following in self._frames_covering(seek):
            if current is not None:
                first, stop = self._ticks_between(current.pts_seconds, following.pts_seconds, fps)
                yield from ((k, current) for k in range(max(first, start_tick), stop))
            current = following
        if current is not None:
            first, stop = self._ticks_between(current.pts_seconds, current.end_seconds, fps)
            yield from ((k, current) for k in range(max(first, start_tick), max(stop, 1)))

    def read(
        self,
        *,
        fps: float | None = 25.0,
        start_seconds: float | None = None,
        stop_seconds: float | None = None,
        num_frames: int | None = None,
        frame_stride: int = 1,
        short: ShortPolicy = "error",
        transform: FrameTransform | None = None,
        damaged: Literal["error", "keep"] = "error",
    ) -> Clip | None:
        """A stretch of the video; :func:`read_clip` says what the arguments mean."""
        _check_arguments(start_seconds, stop_seconds, num_frames, frame_stride, short, damaged)
        pixels: list[Tensor] = []
        times: list[float] = []
        index: list[int] = []
        last: VideoFrame | None = None
        for position, frame in enumerate(self._stretch(fps, start_seconds, stop_seconds)):
            if position % frame_stride:
                continue
            if frame is not last:
                picture = frame.pixels.unsqueeze(0)
                picture = transform(picture) if transform is not None else picture
                pixels.append(picture[0].permute(1, 2, 0))
                last = frame
            index.append(len(pixels) - 1)
            times.append(frame.pts_seconds)
            if len(index) == num_frames:
                break
        if self.damage and damaged == "error":
            raise VideoDamagedError(f"{self.path} is damaged: {self.damage}")
        source = str(self.path)
        if not index:
            if short == "skip":
                return None
            until = "its end" if stop_seconds is None else f"{stop_seconds} s"
            raise TooFewFramesError(f"{source} shows no frame from {start_seconds or 0.0} s to {until}")
        chosen = np.arange(len(index)) if num_frames is None else fit_length(len(index), num_frames, short, source)
        if len(chosen) == 0:
            return None
        order = torch.as_tensor(np.asarray(index)[chosen])
        stacked = torch.stack(pixels)
        if not torch.equal(order, torch.arange(len(stacked))):
            stacked = stacked[order]
        return Clip(stacked.permute(0, 3, 1, 2), torch.tensor(times, dtype=torch.float64)[chosen], source=source)

    def _stretch(
        self, fps: float | None, start_seconds: float | None, stop_seconds: float | None
    ) -> Iterator[VideoFrame]:
        """The frames from ``start_seconds`` to ``stop_seconds``, at ``fps`` or as they are."""
        if fps is None:
            for frame in self.frames(start_seconds):
                if stop_seconds is not None and frame.pts_seconds >= stop_seconds - 1e-9:
                    return
                yield frame
            return
        origin = self.frame_seconds(0, fps)
        begin = 0 if start_seconds is None else max(int(frame_index_at(start_seconds - origin, fps)), 0)
        end = None if stop_seconds is None else int(frame_index_at(stop_seconds - origin, fps))
        for tick, frame in self.resampled_frames(fps, begin):
            if end is not None and tick >= end:
                return
            yield frame

    def _ticks_between(self, seconds: float, next_seconds: float, fps: float) -> tuple[int, int]:
        """The ticks ``[first, stop)`` of a frame that is on screen until ``next_seconds``."""
        if next_seconds - seconds > _MAX_GAP_SECONDS:
            raise VideoDamagedError(f"{self.path}: timestamps jump from {seconds:.1f} s to {next_seconds:.1f} s")
        before, _ = self._ticks_of(fps, self.first_pts_seconds, self.first_pts_seconds)
        first, stop = self._ticks_of(fps, seconds, next_seconds)
        return first - before, stop - before

    def _frames_covering(self, seconds: float | None) -> Iterator[VideoFrame]:
        """Frames from the one that is on screen at ``seconds``."""
        if seconds is None:
            yield from self.frames()
            return
        margin = 2 * self._nominal_seconds
        while True:
            start = seconds - margin
            if start <= self.first_pts_seconds:
                yield from self.frames()
                return
            frames = self.frames(start)
            first = next(frames, None)
            if first is not None and first.pts_seconds <= seconds:
                yield from _chain(first, frames)
                return
            margin *= 8  # a frame that stays on screen for long, or the end of the file

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode from the beginning."""
        if self._head is not None:
            first, rest = self._head
            self._head = None
            return _chain(first, rest)
        fresh = self._decoding is None
        self._stop_decoding()
        if not fresh:
            self._reopen()
        return self._start_decoding(first_stamp=0)

    def _seek(self, seconds: float) -> Iterator[VideoFrame]:
        """Decode from the key frame before ``seconds``; gives nothing where the container cannot find it."""
        assert self._stream.time_base is not None
        self._stop_decoding()
        if not self._can_seek:
            return iter(())
        try:
            target = round(seconds / float(self._stream.time_base))
            self._container.seek(target, stream=self._stream, backward=True)
        except (FFmpegError, OverflowError):  # an index without this stretch; a time that no container can hold
            return iter(())
        return self._start_decoding(first_stamp=None)

    @cached_property
    def _can_seek(self) -> bool:
        if self._container.format.name not in _INDEXED:
            return False
        return self.path.stat().st_size > _CHECKED_BEFORE_SEEK_BYTES or self._length.in_order

    def _start_decoding(self, first_stamp: int | None) -> Iterator[VideoFrame]:
        """Decode from where the container stands; see :class:`StreamClock`."""
        self._clock = StreamClock(self._container, self._stream, first_stamp)
        self._converter.restart()
        self._decoding = decoding = self._decoded_frames()
        return self._undisturbed(decoding)

    def _undisturbed(self, decoding: Generator[VideoFrame, None, None]) -> Iterator[VideoFrame]:
        """The frames; an end that is none must not look like one."""
        yield from decoding
        if self._decoding is not decoding or self._closed:
            raise InvalidInputError(
                f"{self.path} was closed or read anew before this reading was at its end; open a second VideoReader"
            )

    def _decoded_frames(self) -> Generator[VideoFrame, None, None]:
        """Frames from where the container stands to its end, with times that never step back."""
        self._num_broken, self._early_end = 0, ""
        last: VideoFrame | None = None
        for raw in self._raw_frames():
            shown = self._clock.stamp(raw)
            if shown is None:
                return
            last = VideoFrame(raw, shown.start_seconds, shown.duration_seconds, self._converter)
            yield last
        self._early_end = self._judge_end(last, self._nominal_seconds)

    def _stop_decoding(self) -> None:
        """End what is under way: FFmpeg must not be moved or closed under a running decoder."""
        self._head = None
        if self._decoding is not None:
            self._decoding.close()

    def _reopen(self) -> None:
        """Begin again; opening anew is the one way that works for every container."""
        threads = self._stream.codec_context.thread_count
        close_container(self._container)
        self._container = open_container(self.path)
        self._stream = video_stream(self._container, self.path)
        self._stream.thread_type = "AUTO"
        self._stream.codec_context.thread_count = threads

    def _raw_frames(self) -> Iterator[av.VideoFrame]:
        """Decoded frames; packets that do not decode are counted, and the rest of the file goes on."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self._num_broken += 1
                return
            if packet.buffer_ptr and not packet.size:  # "show the last picture again", not an end
                continue
            self._clock.correct(packet)
            try:
                frames = packet.decode()
            except FFmpegError:
                self._num_broken += 1
                continue
            for frame in frames:
                if isinstance(frame, av.VideoFrame):
                    self._num_broken += frame.is_corrupt
                    yield frame

    @property
    def _nominal_seconds(self) -> float:
        """How long a frame is shown, by the header."""
        return 1 / (self.frame_rate or 25.0)

    def _promised_seconds(self) -> float | None:
        """The duration in the header: of the stream, or else of the whole file."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return None if self._container.duration is None else self._container.duration / av.time_base

    def _judge_end(self, last: VideoFrame | None, frame_seconds: float) -> str:
        """After the last frame: does the header promise more?"""
        if last is None:
            return "no frame decodes"
        stream = self._stream
        promised = self._promised_seconds()
        another_stream_may_last_longer = stream.duration is None and len(self._container.streams) > 1
        if promised is None or another_stream_may_last_longer or self._clock.jumped:
            return ""
        # A stream's duration counts from its own start; a whole file's counts from zero (Matroska).
        start = stream.start_time or 0 if stream.duration is not None else 0
        start_seconds = float(start * stream.time_base) if stream.time_base else 0.0
        missing = start_seconds + promised - last.end_seconds
        if missing > max(3 * frame_seconds, 0.05 * promised):
            return f"it ends at {last.pts_seconds:.2f} s, its header says {promised:.2f} s"
        return ""


def _chain(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest


def _is_animated_webp(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _check_arguments(
    start_seconds: float | None,
    stop_seconds: float | None,
    num_frames: int | None,
    frame_stride: int,
    short: str,
    damaged: str,
) -> None:
    if frame_stride < 1 or (num_frames is not None and num_frames < 1):
        raise InvalidInputError(f"num_frames and frame_stride must be at least 1; got {num_frames} and {frame_stride}")
    for seconds in (start_seconds, stop_seconds):
        if seconds is not None and not math.isfinite(seconds):
            raise InvalidInputError(f"start_seconds and stop_seconds must be finite, or None; got {seconds}")
    if short not in SHORT_POLICIES:
        raise UnknownNameError.among("policy for short clips", short, SHORT_POLICIES)
    if damaged not in ("error", "keep"):
        raise UnknownNameError.among("policy for damaged files", damaged, ("error", "keep"))
