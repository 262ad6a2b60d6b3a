"""Timestamps of a video stream, corrected as in the ``ffmpeg`` program, and the length of the stream.

Pass each packet to :meth:`StreamClock.correct` before decoding it, and each decoded frame to :meth:`StreamClock.stamp`.
The two methods follow FFmpeg's ``fftools``: ``ts_discontinuity_detect`` and ``video_duration_estimate``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av
from av.error import FFmpegError
from av.format import Flags

from quovadis.errors import VideoNotFoundError
from quovadis.video.opening import close_container, open_container, video_stream

_MAX_JUMP_SECONDS = 10  # FFmpeg's -dts_delta_threshold
_MAX_STEP_BACK_SECONDS = Fraction(1, 10)
_NEVER = -(1 << 63)
_MAX_REORDER = 16  # frames that a codec may decode before displaying the first of them


class DisplayTime(NamedTuple):
    """Time interval in which a frame is displayed."""

    start_seconds: float
    duration_seconds: float


@dataclass(frozen=True)
class StreamLength:
    """Length of a stream, from its packets and without decoding them."""

    num_frames: int
    """Number of displayed packets. In damaged files it may differ a little from the number of decoded frames."""
    end_seconds: float
    """End of the last frame."""
    in_order: bool
    """False if timestamps repeat or decrease between groups of pictures, so that seeking would miss frames."""


class StreamClock:
    """Correct the timestamps of packets and frames in one pass over a stream.

    Args:
        container: The open file.
        stream: The video stream in it.
        first_stamp: Timestamp of the first frame if it has none; None rejects such a frame.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, first_stamp: int | None = None):
        flags = Flags(container.format.flags)
        self._time_base = stream.time_base or Fraction(1)
        self.may_jump = bool(flags & Flags.ts_discont)
        """True for containers whose timestamps may restart, such as MPEG transport streams recorded in parts."""
        self.has_no_times = bool(flags & Flags.no_timestamps)
        """True for raw streams, which have no container."""
        # AVI stores no presentation times. FFmpeg's decoding times are exact there; its estimates for B-frames are not.
        self._uses_dts = container.format.name == "avi"
        codec_rate = stream.codec_context.framerate
        average = stream.average_rate or stream.guessed_rate
        self._codec_duration = self._in_units(1 / codec_rate) if codec_rate else 0
        self._average_duration = self._in_units(1 / average) if average else 0
        self.rate = codec_rate if self.has_no_times and codec_rate else average
        """Frames per second according to the header, or None. Raw streams use the rate of the codec, because FFmpeg
        reports 25 for all of them."""
        self._reorder_depth = stream.codec_context.reorder_depth
        self._first_stamp = first_stamp
        self.jumped = False
        """True after a jump of the timestamps was removed."""
        self._offset = 0
        self._packet_dts: int | None = None
        self._next_packet_dts = 0
        self._last: int | None = None
        self._last_duration = 0
        self._latest_seconds = float("-inf")
        self._num_faulty_pts = self._num_faulty_dts = 0
        self._last_pts = self._last_dts = _NEVER

    def correct(self, packet: av.Packet[av.VideoStream]) -> None:
        """Remove a jump from the timestamps of the next packet, in containers where they :attr:`may_jump`."""
        if not self.may_jump:
            return
        dts = None if packet.dts is None else packet.dts + self._offset
        if dts is not None and self._packet_dts is not None:
            jump = dts - self._next_packet_dts
            is_large = abs(jump) > self._in_units(_MAX_JUMP_SECONDS)
            if is_large or dts + self._in_units(_MAX_STEP_BACK_SECONDS) < self._packet_dts:
                self.jumped = True
                self._offset -= jump
                dts -= jump
        if self._offset:
            packet.dts = dts
            packet.pts = None if packet.pts is None else packet.pts + self._offset
        if dts is not None:
            self._packet_dts = dts
            self._next_packet_dts = dts + (packet.duration or self._codec_duration)

    def stamp(self, raw: av.VideoFrame) -> DisplayTime | None:
        """Return the display time of the next frame, which never starts before the previous one.

        Returns:
            The time; None for a first frame without a timestamp, if there is no ``first_stamp``.
        """
        stamp = raw.dts if self._uses_dts else self._plausible_stamp(raw.pts, raw.dts)
        if stamp is None:
            stamp = self._first_stamp if self._last is None else self._last + self._last_duration
        if stamp is None:
            return None
        duration = self._duration(raw.duration, 0 if self._last is None else stamp - self._last)
        self._last, self._last_duration = stamp, duration
        # A frame with the time of an earlier one replaces it, as in FFmpeg's fps filter.
        self._latest_seconds = max(float(stamp * self._time_base), self._latest_seconds)
        end_seconds = float((stamp + duration) * self._time_base)
        return DisplayTime(self._latest_seconds, max(end_seconds - self._latest_seconds, 0.0))

    def _plausible_stamp(self, pts: int | None, dts: int | None) -> int | None:
        """Return the presentation or the decoding time, whichever was wrong less often; either may be missing.

        From FFmpeg's ``guess_correct_pts``.
        """
        if dts is not None:
            self._num_faulty_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._num_faulty_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        trusted = self._num_faulty_pts <= self._num_faulty_dts or dts is None
        return pts if pts is not None and trusted else dts

    def measure(self, packets: Iterable[av.Packet[av.VideoStream]], first_seconds: float) -> StreamLength:
        """Compute the length of the whole stream from all its packets.

        Args:
            packets: All packets, in the order of the file.
            first_seconds: Presentation time of the first decoded frame.
        """
        times: list[tuple[int, int]] = []
        num_frames = total = 0
        latest = latest_before_group = _NEVER
        in_order = True
        for packet in packets:
            if not packet.size or packet.is_discard:
                continue
            self.correct(packet)
            num_frames += 1
            total += self._duration(packet.duration or 0, 0)
            stamp = packet.dts if self._uses_dts else packet.pts
            if stamp is None:
                continue
            times.append((stamp, packet.duration or 0))
            if packet.is_keyframe:
                latest_before_group = latest
            in_order &= stamp >= latest_before_group
            latest = max(latest, stamp)
        if not times:
            return StreamLength(num_frames, first_seconds + float(total * self._time_base), in_order)
        in_order &= len({stamp for stamp, _ in times}) == len(times)
        tail = sorted(times[-_MAX_REORDER:])
        last, stored = tail[-1]
        end = max(last + self._duration(stored, last - tail[-2][0] if len(tail) > 1 else 0), latest)
        earliest = round(first_seconds / self._time_base)
        if self._uses_dts:  # the decoder returns the first frame with this delay
            delay = self._reorder_depth * self._duration(stored, 0)
            end, earliest = end + delay, earliest - delay
        num_frames -= sum(stamp < earliest for stamp, _ in times)  # the decoder drops frames before a key frame
        return StreamLength(num_frames, float(end * self._time_base), in_order)

    def _duration(self, stored: int, step: int) -> int:
        """Return the duration of a frame that starts ``step`` after the previous one; ``stored`` is in the file."""
        is_guess = stored == 1 and step > 2  # by FFmpeg, in containers without durations
        if stored and not self.has_no_times and not is_guess:
            return stored
        if self.has_no_times and self._codec_duration:
            return self._codec_duration
        if step > 0:
            return step
        return stored or self._codec_duration or self._average_duration or max(self._last_duration, 1)

    def _in_units(self, seconds: Fraction | int) -> int:
        return round(seconds / self._time_base)


def measure_stream(path: Path, first_seconds: float) -> StreamLength:
    """Measure the video stream of a file by reading its packets. The result is cached until the file changes.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the file cannot be opened.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise VideoNotFoundError(f"no file at {path}") from error
    return _measure_stream(path, first_seconds, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _measure_stream(path: Path, first_seconds: float, size: int, changed: int) -> StreamLength:
    container = open_container(path)
    try:
        stream = video_stream(container, path)
        return StreamClock(container, stream).measure(_packets(container, stream), first_seconds)
    finally:
        close_container(container)


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet[av.VideoStream]]:
    """Iterate over the packets up to the first error."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, FFmpegError):
            return
