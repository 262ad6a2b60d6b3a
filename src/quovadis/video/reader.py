"""Read frames from video files: exact timestamps, random access, resampling to a frame rate, constant memory.

Pixels, times and the choice of the stream are those of the ``ffmpeg`` program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cached_property, partial
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, TooFewFramesError, UnknownNameError, VideoDamagedError
from quovadis.video.clip import Clip
from quovadis.video.decoder import FrameDecoder
from quovadis.video.frame import VideoFrame
from quovadis.video.info import VideoInfo
from quovadis.video.opening import moving_streams
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import SHORT_POLICIES, ShortPolicy, fit_length, frame_index_at

FrameTransform = Callable[[Tensor], Tensor]
"""Applied to each frame as it is decoded: uint8 (1, 3, H, W) to uint8 (1, 3, h, w)."""

_MAX_GAP_SECONDS = 3600.0
_TOLERANCE_SECONDS = 1e-9  # rounding of timestamps


Damaged = Literal["use", "refuse"]
"""What to do with a damaged file: use the part that decodes, with a note, or raise VideoDamagedError."""


class VideoReader:
    """Read frames from a video file one at a time, with memory use independent of the length of the video.

    A reader supports any number of passes over the file, but only one at a time. Use it as a context manager, or call
    :meth:`close`. To read a whole clip in one call, use :func:`quovadis.read_clip`.

    Args:
        path: Video file, in any container and codec that FFmpeg can decode. Audio is ignored.
        num_threads: Number of decoding threads; 0 lets FFmpeg choose. Use 1 in the workers of a data loader.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the file is not a video.

    Example:
        >>> with VideoReader(getfixture("clip_path")) as reader:
        ...     frame = next(reader.frames(start_seconds=0.5))
        ...     print(tuple(frame.pixels.shape), frame.pts_seconds)
        (3, 48, 64) 0.52
    """

    def __init__(self, path: str | PathLike[str], *, num_threads: int = 0):
        self.path = Path(path)
        self._decoder = FrameDecoder(self.path, num_threads)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_decoder"):
            self.close()

    def close(self) -> None:
        """Close the file."""
        self._decoder.close()

    @property
    def damage(self) -> str:
        """Problems in the part of the file that was decoded so far; empty if there were none."""
        return self._decoder.damage

    def damage_notes(self, damaged: Damaged = "use") -> tuple[str, ...]:
        """Return a note on the damage of the part that was decoded so far; none if it is intact.

        Raises:
            VideoDamagedError: If there is damage, and ``damaged`` is ``"refuse"``.
        """
        if not self.damage:
            return ()
        if damaged == "refuse":
            raise VideoDamagedError(f"{self.path} is damaged: {self.damage}")
        return (f"the file is damaged ({self.damage}); results cover the part that decodes",)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on the part of the file that was decoded so far, such as an ignored second stream."""
        count = len(moving_streams(self._decoder.container))
        several = f"the file has {count} video streams; read stream {self._decoder.stream.index}"
        return (*([several] if count > 1 else []), *self._decoder.converter.notes)

    @property
    def first_pts_seconds(self) -> float:
        """Presentation time of the first frame."""
        return self._decoder.first_frame.pts_seconds

    @property
    def frame_rate(self) -> float | None:
        """Average frames per second according to the header, or None if the header has no plausible value."""
        return self._decoder.frame_rate

    @cached_property
    def info(self) -> VideoInfo:
        """Properties of the file, from its header, its packets and its first frame."""
        first_seconds = self.first_pts_seconds
        decoder, converter, length = self._decoder, self._decoder.converter, self._decoder.length
        width, height = converter.shown_size
        seconds = length.end_seconds - first_seconds
        return VideoInfo(
            path=self.path,
            width=width,
            height=height,
            fps=self.frame_rate or (length.num_frames / seconds if seconds else 0.0),
            num_frames=length.num_frames,
            duration_seconds=seconds,
            codec=decoder.stream.codec_context.name,
            container=decoder.container.format.name,
            rotation_degrees=converter.orientation.rotation_degrees,
            has_audio=bool(decoder.container.streams.audio),
            mirrored=converter.orientation.mirrored,
            pixel_aspect_ratio=float(converter.pixel_aspect),
            notes=self.notes,
        )

    @cached_property
    def start_seconds(self) -> float:
        """Start time of the file on its own clock. It is before the first frame if the video starts late."""
        container, stream, clock = self._decoder.container, self._decoder.stream, self._decoder.clock
        base = stream.time_base
        if container.start_time is None or base is None:
            return self.first_pts_seconds if clock.has_no_times else 0.0
        if clock.may_jump:  # FFmpeg considers only the selected stream here
            return float((stream.start_time or 0) * base)
        return float(round(Fraction(container.start_time, av.time_base) / base) * base)

    def num_resampled_frames(self, fps: float) -> int:
        """Return the number of frames of the whole video at ``fps``, from its packets, without decoding."""
        indices = self._grid_indices(fps, self.first_pts_seconds, self._decoder.length.end_seconds)
        return max(indices.stop - indices.start, 1)

    def frame_seconds(self, index: int, fps: float) -> float:
        """Return the start time, on the clock of the file, of a frame of the video resampled to ``fps``.

        Frame 0 shows the first frame of the file. It starts at the multiple of ``1 / fps`` nearest to that frame,
        counted from the start of the file.
        """
        first = self._grid_indices(fps, self.first_pts_seconds, self.first_pts_seconds).start
        return self.start_seconds + (first + index) / fps

    def frame_at(self, seconds: float) -> VideoFrame:
        """Return the frame shown at a time; the first or the last frame for times outside of the video."""
        found: VideoFrame | None = None
        for frame in self._frames_covering(seconds):
            if found is not None and frame.pts_seconds > seconds + _TOLERANCE_SECONDS:
                break
            found = frame
        return found or self._decoder.first_frame

    def frames(self, start_seconds: float | None = None) -> Iterator[VideoFrame]:
        """Iterate over the frames in presentation order, from the first one at or after ``start_seconds``.

        Decoding starts at the nearest key frame before ``start_seconds``, so random access costs one group of pictures
        and yields exactly the frames of sequential reading. In containers without an index of key frames, everything
        before the start is decoded.

        Raises:
            VideoError: If no frame can be decoded.
            InvalidInputError: If the reader is closed, or another iteration starts before this one ended.
        """
        if self._decoder.closed:
            raise InvalidInputError(f"{self.path} was closed; open it again to read it")
        if start_seconds is None or start_seconds <= self.first_pts_seconds:
            yield from self._decoder.from_start()
            return
        earliest = start_seconds - _TOLERANCE_SECONDS
        for back_seconds in (0.0, 2.0, 20.0):
            frames = self._decoder.from_key_frame(start_seconds - back_seconds)
            first = next(frames, None)
            if first is not None and first.stands_alone and first.pts_seconds <= start_seconds:
                yield from (f for f in chain((first,), frames) if f.pts_seconds >= earliest)
                return
        yield from (f for f in self._decoder.from_start() if f.pts_seconds >= earliest)

    def resampled_frames(self, fps: float, start_index: int = 0) -> Iterator[tuple[int, VideoFrame]]:
        """Iterate over the video at a constant frame rate, as pairs of frame index and frame.

        The index counts frames on the resampled time base, from 0 at the first frame of the file. A frame of the file
        is repeated or dropped as :mod:`quovadis.video.sampling` describes. At most two frames are held in memory.

        Args:
            fps: Frames per second.
            start_index: Index of the first pair.
        """
        # Seek to one frame earlier, because a frame of the file may start before the index that shows it.
        seek_seconds = self.frame_seconds(start_index - 1, fps) if start_index > 1 else None
        current: VideoFrame | None = None
        for following in self._frames_covering(seek_seconds):
            if current is not None:
                shown = self._resampled_indices(current.pts_seconds, following.pts_seconds, fps)
                yield from ((k, current) for k in range(max(shown.start, start_index), shown.stop))
            current = following
        if current is not None:
            shown = self._resampled_indices(current.pts_seconds, current.end_seconds, fps)
            yield from ((k, current) for k in range(max(shown.start, start_index), max(shown.stop, 1)))

    def read(
        self,
        *,
        fps: float | None = 25.0,
        start_seconds: float | None = None,
        stop_seconds: float | None = None,
        num_frames: int | None = None,
        frame_stride: int = 1,
        short: ShortPolicy = "error",
        short_side_px: int | None = None,
        transform: FrameTransform | None = None,
        damaged: Literal["error", "keep"] = "error",
    ) -> Clip | None:
        """Read a segment of the video; see :func:`quovadis.read_clip` for the arguments."""
        _check_arguments(start_seconds, stop_seconds, num_frames, frame_stride, short, damaged)
        if short_side_px is not None:
            if transform is not None:
                raise InvalidInputError("pass either short_side_px or transform, not both")
            transform = partial(resize_frames, short_side_px=short_side_px)
        segment = islice(self._segment(fps, start_seconds, stop_seconds), 0, None, frame_stride)
        pixels, times, index = _collect(islice(segment, num_frames), transform)
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

    def _segment(
        self, fps: float | None, start_seconds: float | None, stop_seconds: float | None
    ) -> Iterator[VideoFrame]:
        """Iterate over the frames from ``start_seconds`` to ``stop_seconds``, resampled unless ``fps`` is None."""
        if fps is None:
            for frame in self.frames(start_seconds):
                if stop_seconds is not None and frame.pts_seconds >= stop_seconds - _TOLERANCE_SECONDS:
                    return
                yield frame
            return
        origin = self.frame_seconds(0, fps)
        start = 0 if start_seconds is None else max(int(frame_index_at(start_seconds - origin, fps)), 0)
        stop = None if stop_seconds is None else int(frame_index_at(stop_seconds - origin, fps))
        for index, frame in self.resampled_frames(fps, start):
            if stop is not None and index >= stop:
                return
            yield frame

    def _frames_covering(self, seconds: float | None) -> Iterator[VideoFrame]:
        """Iterate over the frames from the one shown at ``seconds``, or from one before it."""
        if seconds is not None:
            margin_seconds = 2 * self._decoder.frame_duration_seconds
            while seconds - margin_seconds > self.first_pts_seconds:
                frames = self.frames(seconds - margin_seconds)
                first = next(frames, None)
                if first is not None and first.pts_seconds <= seconds:
                    yield from chain((first,), frames)
                    return
                margin_seconds *= 8  # a frame with a long duration, or the end of the file
        yield from self.frames()

    def _resampled_indices(self, seconds: float, next_seconds: float, fps: float) -> range:
        """Return the indices, on the resampled time base, that show a frame which starts at ``seconds``."""
        if next_seconds - seconds > _MAX_GAP_SECONDS:
            raise VideoDamagedError(f"{self.path}: timestamps jump from {seconds:.1f} s to {next_seconds:.1f} s")
        first = self._grid_indices(fps, self.first_pts_seconds, self.first_pts_seconds).start
        indices = self._grid_indices(fps, seconds, next_seconds)
        return range(indices.start - first, indices.stop - first)

    def _grid_indices(self, fps: float, seconds: float, stop_seconds: float) -> range:
        """Return the indices of a time window on the grid of ``fps`` that begins at the start of the file."""
        if not 0 < fps < float("inf"):
            raise InvalidInputError(f"fps must be above 0; got {fps}")
        first, stop = frame_index_at([seconds - self.start_seconds, stop_seconds - self.start_seconds], fps).tolist()
        return range(first, stop)


def _collect(
    frames: Iterator[VideoFrame], transform: FrameTransform | None
) -> tuple[list[Tensor], list[float], list[int]]:
    """Convert each distinct frame once. Return pixels (H, W, 3), and for each frame its time and its index in them."""
    pixels: list[Tensor] = []
    times: list[float] = []
    index: list[int] = []
    last: VideoFrame | None = None
    for frame in frames:
        if frame is not last:
            image = frame.pixels.unsqueeze(0)
            image = transform(image) if transform is not None else image
            pixels.append(image[0].permute(1, 2, 0))
            last = frame
        index.append(len(pixels) - 1)
        times.append(frame.pts_seconds)
    return pixels, times, index


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
