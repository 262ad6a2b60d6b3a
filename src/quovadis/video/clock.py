"""Timestamps of a video stream, corrected as the ``ffmpeg`` program does, and the length that follows from them.

Packets pass through :meth:`StreamClock.correct` before they are decoded, and decoded frames through
:meth:`StreamClock.stamp`. Both functions follow FFmpeg's ``fftools``: ``ts_discontinuity_detect`` and
``video_duration_estimate``.
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
_MAX_REORDER = 16  # frames that a codec may decode before it shows the first of them


class Shown(NamedTuple):
    """When a frame is on screen."""

    start_seconds: float
    duration_seconds: float


@dataclass(frozen=True)
class StreamLength:
    """What the packets of a stream say about its length, without decoding them."""

    num_frames: int
    """Packets that are shown; a few more or less than frames that decode, in damaged files."""
    end_seconds: float
    """When the last frame leaves the screen."""
    in_order: bool
    """False if timestamps repeat or step back from one group of pictures to another: seeking would miss frames."""


class StreamClock:
    """The times of the packets and frames of one stream, read once from some place to the end.

    Args:
        container: the file.
        stream: the stream of it.
        first_stamp: the timestamp of a first frame that carries none; None refuses such a frame.
    """

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream, first_stamp: int | None = None):
        flags = Flags(container.format.flags)
        self._time_base = stream.time_base or Fraction(1)
        self.may_jump = bool(flags & Flags.ts_discont)
        """True for containers whose timestamps may start again, such as MPEG transport streams recorded in parts."""
        self.has_no_times = bool(flags & Flags.no_timestamps)
        """True for raw streams, which are only pictures one after the other."""
        # AVI stores no presentation times. FFmpeg's decoding times are exact there, its guesses for B-frames are not.
        self._uses_dts = container.format.name == "avi"
        codec_rate = stream.codec_context.framerate
        average = stream.average_rate or stream.guessed_rate
        self._codec_duration = self._in_units(1 / codec_rate) if codec_rate else 0
        self._average_duration = self._in_units(1 / average) if average else 0
        self.rate = codec_rate if self.has_no_times and codec_rate else average
        """Frames per second by the header, or None. Raw streams have their rate inside; FFmpeg's header says 25."""
        self._reorder_depth = stream.codec_context.reorder_depth
        self._first_stamp = first_stamp
        self.jumped = False
        """True once a jump of the timestamps was removed."""
        self._offset = 0
        self._packet_dts: int | None = None
        self._next_packet_dts = 0
        self._last: int | None = None
        self._last_duration = 0
        self._latest_seconds = float("-inf")
        self._num_faulty_pts = self._num_faulty_dts = 0
        self._last_pts = self._last_dts = _NEVER

    def correct(self, packet: av.Packet[av.VideoStream]) -> None:
        """Remove jumps from the timestamps of the next packet.

        Only where they ``may_jump``; elsewhere a gap is a pause.
        """
        if not self.may_jump:
            return
        dts = None if packet.dts is None else packet.dts + self._offset
        if dts is not None and self._packet_dts is not None:
            jump = dts - self._next_packet_dts
            far = abs(jump) > self._in_units(_MAX_JUMP_SECONDS)
            if far or dts + self._in_units(_MAX_STEP_BACK_SECONDS) < self._packet_dts:
                self.jumped = True
                self._offset -= jump
                dts -= jump
        if self._offset:
            packet.dts = dts
            packet.pts = None if packet.pts is None else packet.pts + self._offset
        if dts is not None:
            self._packet_dts = dts
            self._next_packet_dts = dts + (packet.duration or self._codec_duration)

    def stamp(self, raw: av.VideoFrame) -> Shown | None:
        """When the next frame is shown; never before the frame that came before it.

        Returns:
            None for a first frame without a timestamp, if no ``first_stamp`` was given.
        """
        stamp = raw.dts if self._uses_dts else self._plausible_stamp(raw.pts, raw.dts)
        if stamp is None:
            stamp = self._first_stamp if self._last is None else self._last + self._last_duration
        if stamp is None:
            return None
        duration = self._duration(raw.duration, 0 if self._last is None else stamp - self._last)
        self._last, self._last_duration = stamp, duration
        # A frame with the time of an earlier one takes its place, as in FFmpeg's fps filter.
        self._latest_seconds = max(float(stamp * self._time_base), self._latest_seconds)
        end_seconds = float((stamp + duration) * self._time_base)
        return Shown(self._latest_seconds, max(end_seconds - self._latest_seconds, 0.0))

    def _plausible_stamp(self, pts: int | None, dts: int | None) -> int | None:
        """The presentation or the decoding time of a frame, whichever went wrong less often; one may be missing.

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
        """Find the length of the whole stream from all its packets.

        Args:
            packets: in the order of the file, from the beginning.
            first_seconds: when the first decoded frame is shown.
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
        last, claimed = tail[-1]
        end = max(last + self._duration(claimed, last - tail[-2][0] if len(tail) > 1 else 0), latest)
        earliest = round(first_seconds / self._time_base)
        if self._uses_dts:  # the decoder shows a picture this many packets after it was given the first
            delay = self._reorder_depth * self._duration(claimed, 0)
            end, earliest = end + delay, earliest - delay
        num_frames -= sum(stamp < earliest for stamp, _ in times)  # the decoder drops what comes before a key frame
        return StreamLength(num_frames, float(end * self._time_base), in_order)

    def _duration(self, claimed: int, step: int) -> int:
        """How long a frame is shown, whose file says ``claimed`` and that comes ``step`` after the one before it."""
        is_guess = claimed == 1 and step > 2  # FFmpeg's, in containers without durations
        if claimed and not self.has_no_times and not is_guess:
            return claimed
        if self.has_no_times and self._codec_duration:
            return self._codec_duration
        if step > 0:
            return step
        return claimed or self._codec_duration or self._average_duration or max(self._last_duration, 1)

    def _in_units(self, seconds: Fraction | int) -> int:
        return round(seconds / self._time_base)


def measure_stream(path: Path, first_seconds: float) -> StreamLength:
    """Find the length of a file's video stream by reading its packets; remembered until the file changes.

    Raises:
        VideoError: it cannot be opened any more.
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
    """The packets up to the first error."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except (StopIteration, FFmpegError):
            return
