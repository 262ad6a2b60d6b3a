"""Read video files with PyAV: exact timestamps, constant memory, one swscale context a stream.

Keeping one ``VideoReformatter`` a stream is what makes PyAV the fastest decoder we measured; its default flags give
the same pixels as the ``ffmpeg`` program, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
import torch
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from torch import Tensor

from quovadis.errors import (
    InvalidInputError,
    TooFewFramesError,
    UnknownNameError,
    VideoDamagedError,
    VideoError,
)
from quovadis.types import Clip, VideoInfo
from quovadis.video.frame import VideoFrame
from quovadis.video.opening import close_container, open_container, video_stream
from quovadis.video.sampling import SHORT_POLICIES, ShortPolicy, fit_length, tick_of

FrameTransform = Callable[[Tensor], Tensor]
"""Applied to each frame as it is decoded: uint8 (1, 3, H, W) to uint8 (1, 3, h, w)."""

_MAX_GAP_SECONDS = 3600.0

# Containers with an index of key frames. Elsewhere FFmpeg searches by guesses, and the frames that it lands on have
# guessed times (MPEG program streams) or no clean beginning (transport streams): there a start is found by decoding.
_INDEXED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}


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
        self._reformatter = VideoReformatter()
        self._num_broken = 0
        self._early_end = ""
        self._head: tuple[VideoFrame, Iterator[VideoFrame]] | None = None
        self._decoding: Generator[VideoFrame, None, None] | None = None
        self._closed = False
        # AVI stores no presentation times; FFmpeg's decode order is exact there, its guesses for B-frames are not.
        self._clock = "dts" if self._container.format.name == "avi" else "pts"

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

    @cached_property
    def first_pts_seconds(self) -> float:
        """When the first frame is shown."""
        return self._first_frame.pts_seconds

    @cached_property
    def _first_frame(self) -> VideoFrame:
        frames = self._decode()
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{self.path} has a video stream without a single frame that decodes")
        self._head = first, frames  # so that reading from the beginning goes on from here
        return first

    @cached_property
    def info(self) -> VideoInfo:
        """What the header says."""
        stream, container = self._stream, self._container
        rotation = self._first_frame.rotation_degrees
        width, height = stream.codec_context.width, stream.codec_context.height
        if rotation % 180:
            width, height = height, width
        rate = stream.average_rate or stream.guessed_rate
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            fps=float(rate) if rate else 0.0,
            num_frames=stream.frames or None,
            duration_seconds=self._promised_seconds(),
            codec=stream.codec_context.name,
            container=container.format.name,
            rotation_degrees=rotation,
            has_audio=bool(container.streams.audio),
        )

    def num_ticks(self, fps: float) -> int:
        """Ticks of the whole video at ``fps``: from the header where it says a duration, else by decoding it all."""
        duration = self.info.duration_seconds
        if duration is None:
            return sum(1 for _ in self.ticks(fps))
        return max(int(tick_of(duration, fps)), 1)

    def frames(self, start_seconds: float | None = None) -> Iterator[VideoFrame]:
        """Frames in the order they are shown, from the first one at or after ``start_seconds``.

        A start reads from the nearest key frame before it, so a jump costs one group of pictures, and gives exactly
        the frames that reading from the beginning would give. Where the container has no index of key frames, it
        costs decoding everything before the start.

        Raises:
            VideoError: no frame decodes, or the picture changes its size on the way.
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

    def ticks(self, fps: float, start_tick: int = 0) -> Iterator[tuple[int, VideoFrame]]:
        """The video on a regular grid: ``(tick, frame)`` for every tick from ``start_tick`` on.

        See :mod:`quovadis.video.sampling` for the rule. Memory holds two frames.
        """
        if not 0 < fps < float("inf"):
            raise InvalidInputError(f"fps must be above 0; got {fps}")
        origin = self.first_pts_seconds
        # One frame earlier than the tick's own time, because a tick may show a frame that began before it.
        seek = origin + (start_tick - 1.0) / fps if start_tick > 1 else None
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
        origin = self.first_pts_seconds
        begin = 0 if start_seconds is None else max(int(tick_of(start_seconds - origin, fps)), 0)
        end = None if stop_seconds is None else int(tick_of(stop_seconds - origin, fps))
        for tick, frame in self.ticks(fps, begin):
            if end is not None and tick >= end:
                return
            yield frame

    def _ticks_between(self, seconds: float, next_seconds: float, fps: float) -> tuple[int, int]:
        """The ticks ``[first, stop)`` of a frame that is on screen until ``next_seconds``."""
        if next_seconds - seconds > _MAX_GAP_SECONDS:
            raise VideoDamagedError(f"{self.path}: timestamps jump from {seconds:.1f} s to {next_seconds:.1f} s")
        first, stop = tick_of([seconds - self.first_pts_seconds, next_seconds - self.first_pts_seconds], fps).tolist()
        return first, stop

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
        return self._start_decoding(0.0)

    def _seek(self, seconds: float) -> Iterator[VideoFrame]:
        """Decode from the key frame before ``seconds``; gives nothing where the container cannot find it."""
        assert self._stream.time_base is not None
        self._stop_decoding()
        if self._container.format.name not in _INDEXED:
            return iter(())
        try:
            target = round(seconds / float(self._stream.time_base))
            self._container.seek(target, stream=self._stream, backward=True)
        except (FFmpegError, OverflowError):  # an index without this stretch; a time that no container can hold
            return iter(())
        return self._start_decoding(None)

    def _start_decoding(self, default_seconds: float | None) -> Iterator[VideoFrame]:
        """Decode from where the container stands; see :meth:`_decoded_frames`."""
        self._decoding = decoding = self._decoded_frames(default_seconds)
        return self._undisturbed(decoding)

    def _undisturbed(self, decoding: Generator[VideoFrame, None, None]) -> Iterator[VideoFrame]:
        """The frames; an end that is none must not look like one."""
        yield from decoding
        if self._decoding is not decoding or self._closed:
            raise InvalidInputError(
                f"{self.path} was closed or read anew before this reading was at its end; open a second VideoReader"
            )

    def _decoded_frames(self, default_seconds: float | None) -> Generator[VideoFrame, None, None]:
        """Frames from where the container stands to its end, with times that always advance.

        ``default_seconds`` is the time of a first frame that carries none; None gives up on such a beginning.
        """
        stream = self._stream
        self._num_broken, self._early_end = 0, ""
        base = float(stream.time_base) if stream.time_base else 1.0
        nominal = self._nominal_seconds
        last: VideoFrame | None = None
        for raw in self._raw_frames():
            stamp = getattr(raw, self._clock)
            seconds = stamp * base if stamp is not None else None
            if last is None:
                seconds = default_seconds if seconds is None else seconds
                if seconds is None:
                    return
            else:
                if seconds is None or seconds <= last.pts_seconds:
                    seconds = last.pts_seconds + nominal
                if raw.width != last.stored_size[0] or raw.height != last.stored_size[1]:
                    raise VideoError(
                        f"{self.path} changes its picture from {last.stored_size[0]}x{last.stored_size[1]} to "
                        f"{raw.width}x{raw.height} at {seconds:.2f} s; convert it to one size, or split it there"
                    )
            duration = raw.duration * base if raw.duration else nominal
            last = VideoFrame(raw, seconds, duration, self._reformatter)
            yield last
        self._early_end = self._judge_end(last, nominal)

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
        rate = self._stream.average_rate or self._stream.guessed_rate
        return 1 / float(rate) if rate else 0.04

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
        if promised is None or another_stream_may_last_longer:
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
