"""Streams that go on while they are read: cameras, RTSP and HTTP addresses; and files as if they did."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import av
from av.error import FFmpegError

from quovadis.errors import InvalidInputError, VideoError
from quovadis.video.frame import FrameConverter, VideoFrame
from quovadis.video.opening import FILE_FORMATS, close_container, video_stream
from quovadis.video.reader import VideoReader
from quovadis.video.sampling import frame_index_at

_ADDRESSES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "tls", "udp")

# What an address may send, and what a playlist among it may name in turn: never a file or a device of this machine.
_LIVE_ONLY = {
    "format_whitelist": ",".join(
        (*FILE_FORMATS, "hls", "dash", "rtsp", "rtp", "live_flv", "mpjpeg", "ac3", "eac3", "webvtt")
    ),
    "protocol_whitelist": ",".join((*_ADDRESSES, "httpproxy", "crypto")),
}

_JUMP_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class LiveFrame:
    """What is on screen at one point of a regular grid."""

    number: int
    """Counts from the start of the stream, over interruptions."""
    seconds: float
    """Since the start of the stream, by its own clock; of the shown frame's tick."""
    frame: VideoFrame
    fresh: bool = False
    """The stream begins here, or anew: what came before does not belong to it."""


class LiveStream:
    """A camera, a stream or a file, at a regular frame rate.

    Args:
        source: a file; an address (``rtsp://``, ``http://``, ``https://``, ``rtmp://``, ``udp://`` ...), which may
            be a playlist of addresses (HLS), but not of files; a camera: ``camera:0`` (Linux and macOS),
            ``/dev/video0``, or ``camera:NAME`` (Windows, and macOS).
        timeout_seconds: how long an address may be silent.
        reconnect: how often in a row a stream that broke off is asked for again, after 1, 2, 4 ... seconds.
        on_note: told when a stream breaks off and when it comes back.

    Raises:
        InvalidInputError: a timeout that is not above 0, fewer than 0 attempts, or an address of an unknown kind.

    >>> stream = LiveStream(str(getfixture("clip_path")))
    >>> ticks = list(stream.frames(10.0))
    >>> stream.is_live, len(ticks), ticks[3].number, ticks[3].seconds
    (False, 12, 3, 0.3)
    """

    def __init__(
        self,
        source: str,
        *,
        timeout_seconds: float = 10.0,
        reconnect: int = 5,
        on_note: Callable[[str], None] = lambda note: None,
    ):
        if not 0 < timeout_seconds < float("inf") or reconnect < 0:
            raise InvalidInputError(
                f"timeout_seconds must be above 0 and reconnect 0 or more; got {timeout_seconds} and {reconnect}"
            )
        self.name = public_name(source)
        self._source, self._timeout_seconds, self._reconnect = source, timeout_seconds, reconnect
        self._on_note = on_note
        self._is_file = not _is_camera(source) and not _is_address(source)
        self._container: av.container.InputContainer | None = None
        if _is_address(source) and source.partition("://")[0].lower() not in _ADDRESSES:
            raise InvalidInputError(
                f"{self.name} is not a supported address; expected a file, or one of {', '.join(_ADDRESSES)} before ://"
            )
        if self._is_file:
            VideoReader(source).close()  # says what is wrong with it
        else:
            self._container = self._open_first()
        self.is_live = self._container is not None and not (self._container.duration or self._container.size > 0)
        """True where nobody knows when it ends; a file behind an HTTP address has a length, and is not live."""

    def frames(self, fps: float) -> Iterator[LiveFrame]:
        """The stream on a regular grid, by the rule of :mod:`quovadis.video.sampling`.

        A stream whose clock jumps, whose picture changes its size, or that breaks off and comes back, begins anew
        (``fresh``); ticks and seconds count on.

        Raises:
            VideoError: a file that cannot be read; an address that does not come back.
        """
        if self._is_file:
            with VideoReader(self._source) as reader:
                for number, frame in reader.resampled_frames(fps):
                    yield LiveFrame(number, number / fps, frame, fresh=number == 0)
                if reader.damage:
                    self._on_note(f"{self.name} is damaged: {reader.damage}")
            return
        number, failures = 0, 0
        while True:
            try:
                for count, frame, fresh in self._shown(fps):
                    failures = 0
                    for step in range(count):
                        yield LiveFrame(number, number / fps, frame, fresh and step == 0)
                        number += 1
                return
            except FFmpegError as error:
                failures += 1
                if failures > self._reconnect or not self.is_live:
                    raise VideoError(f"{self.name} broke off: {_reason(error)}") from error
                wait = min(2.0 ** (failures - 1), _LONGEST_WAIT_SECONDS)
                self._on_note(f"{self.name} broke off ({_reason(error)}); asking again in {wait:g} s")
                time.sleep(wait)

    def _shown(self, fps: float) -> Iterator[tuple[int, VideoFrame, bool]]:
        container, self._container = self._container or self._open(), None
        try:
            stream = video_stream(container, Path(self.name))
            stream.thread_type = "SLICE"  # threads by frames would hold back as many frames as there are threads
            yield from _on_screen(_decoded(container, stream), fps)
        finally:
            close_container(container)

    def _open_first(self) -> av.container.InputContainer:
        try:
            return self._open()
        except (FFmpegError, OSError, ValueError) as error:
            hint = "is it plugged in, and free?" if _is_camera(self._source) else "is the address right, and is it on?"
            raise VideoError(f"{self.name} cannot be opened: {_reason(error)}; {hint}") from error

    def _open(self) -> av.container.InputContainer:
        file, container_format, options = _how_to_open(self._source)
        timeout = self._timeout_seconds, self._timeout_seconds
        limits = _LIVE_ONLY if container_format is None else {}  # a camera is opened by its format
        return av.open(
            file,
            format=container_format,
            options=options,
            container_options=limits,
            timeout=timeout,
            metadata_errors="replace",
        )


def public_name(source: str) -> str:
    """The source without the password that may stand in it, for messages and results.

    >>> public_name("rtsp://me:secret@10.0.0.7:554/one?token=x"), public_name("clip.mp4")
    ('rtsp://10.0.0.7:554/one', 'clip.mp4')
    """
    if not _is_address(source):
        return source
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _is_address(source: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source) is not None  # C:// is a path


def _is_camera(source: str) -> bool:
    return source.startswith(("camera:", "/dev/video"))


def _how_to_open(source: str) -> tuple[str, str | None, dict[str, str]]:
    """File, format and options for FFmpeg."""
    if not _is_camera(source):
        # RTSP over UDP loses packets, which turn into gray blocks that no network was trained on.
        return source, None, {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    which = source.removeprefix("camera:")
    if sys.platform == "darwin":
        return f"{which}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        return f"video={which}", "dshow", {}
    return f"/dev/video{which}" if which.isdigit() else which, "v4l2", {}


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[VideoFrame]:
    """Frames as they come; packets that do not decode are passed over, as a stream joined midway begins with some."""
    aspect = stream.sample_aspect_ratio
    converter, size = FrameConverter(aspect), (0, 0)
    base = float(stream.time_base) if stream.time_base else 1.0
    rate = stream.average_rate or stream.guessed_rate
    nominal = 1 / float(rate) if rate else 0.04
    seconds = 0.0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for raw in frames:
            if isinstance(raw, av.VideoFrame):
                seconds = raw.pts * base if raw.pts is not None else seconds + nominal
                if (raw.width, raw.height) != size:
                    converter, size = FrameConverter(aspect), (raw.width, raw.height)
                yield VideoFrame(raw, seconds, raw.duration * base if raw.duration else nominal, converter)


def _on_screen(frames: Iterator[VideoFrame], fps: float) -> Iterator[tuple[int, VideoFrame, bool]]:
    """Each frame with the number of ticks that it is on screen for, and whether the stream begins with it."""
    current: VideoFrame | None = None
    origin, fresh = 0.0, True
    for frame in frames:
        if current is None:
            current, origin = frame, frame.pts_seconds
            continue
        restarts = not 0 < frame.pts_seconds - current.pts_seconds < _JUMP_SECONDS
        restarts = restarts or frame.stored_size != current.stored_size
        count = _count_ticks(current, current.end_seconds if restarts else frame.pts_seconds, origin, fps)
        if count:
            yield count, current, fresh
        fresh = restarts or (fresh and not count)
        origin = frame.pts_seconds if restarts else origin
        current = frame
    if current is not None:
        count = _count_ticks(current, current.end_seconds, origin, fps)
        yield max(count, int(fresh)), current, fresh  # a stretch shows one frame at least


def _count_ticks(frame: VideoFrame, end_seconds: float, origin: float, fps: float) -> int:
    first, stop = frame_index_at([frame.pts_seconds - origin, end_seconds - origin], fps).tolist()
    return stop - first


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", None) or error)
