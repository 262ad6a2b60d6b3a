"""Live sources at a regular frame rate: cameras, RTSP and HTTP streams; and video files as if they were live."""

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

_URL_SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "tcp", "tls", "udp")

# Formats and protocols allowed for a URL and for the playlists behind it: never a file or a device of this machine.
_LIVE_ONLY = {
    "format_whitelist": ",".join(
        (*FILE_FORMATS, "hls", "dash", "rtsp", "rtp", "live_flv", "mpjpeg", "ac3", "eac3", "webvtt")
    ),
    "protocol_whitelist": ",".join((*_URL_SCHEMES, "httpproxy", "crypto")),
}

_JUMP_SECONDS = 10.0
_LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class LiveFrame:
    """A frame of a stream on a regular time grid."""

    number: int
    """Frame index since the start of the stream; continues after interruptions."""
    seconds: float
    """Time of the index on the grid: ``number / fps``."""
    frame: VideoFrame
    restarted: bool = False
    """True for the first frame of the stream, and for the first one after an interruption or a jump in time."""


class LiveStream:
    """Read a camera, a network stream or a file at a regular frame rate.

    Args:
        source: A file; a URL (``rtsp://``, ``http://``, ``https://``, ``rtmp://``, ``udp://`` ...), which may be a
            playlist of URLs (HLS) but not of files; or a camera: ``camera:0`` (Linux and macOS), ``/dev/video0``, or
            ``camera:NAME`` (Windows and macOS).
        timeout_seconds: Longest time to wait for data from a URL.
        reconnect: Number of consecutive attempts to reconnect, after 1, 2, 4 ... seconds.
        on_note: Called with a message when the connection is lost, or when a file is damaged.

    Raises:
        InvalidInputError: If ``timeout_seconds`` is not above 0, ``reconnect`` is negative, or the scheme of the URL is
            not supported.
        VideoError: If the source cannot be opened.

    Example:
        >>> stream = LiveStream(str(getfixture("clip_path")))
        >>> frames = list(stream.frames(10.0))
        >>> stream.is_live, len(frames), frames[3].number, frames[3].seconds
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
        self._is_file = not _is_camera(source) and not _is_url(source)
        self._container: av.container.InputContainer | None = None
        if _is_url(source) and source.partition("://")[0].lower() not in _URL_SCHEMES:
            raise InvalidInputError(
                f"{self.name} is not a supported URL; expected a file, or one of {', '.join(_URL_SCHEMES)} before ://"
            )
        if self._is_file:
            VideoReader(source).close()  # raises if the file cannot be read
        else:
            self._container = self._open_first()
        self.is_live = self._container is not None and not (self._container.duration or self._container.size > 0)
        """True if the source has no known end. A file behind an HTTP URL has a length and is not live."""

    def frames(self, fps: float) -> Iterator[LiveFrame]:
        """Iterate over the stream, resampled to ``fps`` as described in :mod:`quovadis.video.sampling`.

        After a lost connection, a jump of the timestamps or a change of the frame size, the next frame has
        ``restarted`` set; numbers and seconds continue.

        Raises:
            VideoError: If a file cannot be read, or reconnecting fails.
        """
        if self._is_file:
            with VideoReader(self._source) as reader:
                for number, frame in reader.resampled_frames(fps):
                    yield LiveFrame(number, number / fps, frame, restarted=number == 0)
                if reader.damage:
                    self._on_note(f"{self.name} is damaged: {reader.damage}")
            return
        number, failures = 0, 0
        while True:
            try:
                for count, frame, restarted in self._repeated(fps):
                    failures = 0
                    for step in range(count):
                        yield LiveFrame(number, number / fps, frame, restarted and step == 0)
                        number += 1
                return
            except FFmpegError as error:
                failures += 1
                if failures > self._reconnect or not self.is_live:
                    raise VideoError(f"lost the connection to {self.name}: {_reason(error)}") from error
                wait_seconds = min(2.0 ** (failures - 1), _LONGEST_WAIT_SECONDS)
                self._on_note(
                    f"lost the connection to {self.name} ({_reason(error)}); reconnecting in {wait_seconds:g} s"
                )
                time.sleep(wait_seconds)

    def _repeated(self, fps: float) -> Iterator[tuple[int, VideoFrame, bool]]:
        container, self._container = self._container or self._open(), None
        try:
            stream = video_stream(container, Path(self.name))
            stream.thread_type = "SLICE"  # frame threads would delay each frame by the number of threads
            yield from _count_repeats(_decoded(container, stream), fps)
        finally:
            close_container(container)

    def _open_first(self) -> av.container.InputContainer:
        try:
            return self._open()
        except (FFmpegError, OSError, ValueError) as error:
            is_camera = _is_camera(self._source)
            hint = "is it connected, and not in use?" if is_camera else "is the URL correct, and the source running?"
            raise VideoError(f"{self.name} cannot be opened: {_reason(error)}; {hint}") from error

    def _open(self) -> av.container.InputContainer:
        file, container_format, options = _how_to_open(self._source)
        timeout = self._timeout_seconds, self._timeout_seconds
        limits = _LIVE_ONLY if container_format is None else {}  # the format of a camera is fixed
        return av.open(
            file,
            format=container_format,
            options=options,
            container_options=limits,
            timeout=timeout,
            metadata_errors="replace",
        )


def public_name(source: str) -> str:
    """Remove credentials and query from a URL, for messages and results; return other sources unchanged.

    Example:
        >>> public_name("rtsp://me:secret@10.0.0.7:554/one?token=x"), public_name("clip.mp4")
        ('rtsp://10.0.0.7:554/one', 'clip.mp4')
    """
    if not _is_url(source):
        return source
    parts = urlsplit(source)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _is_url(source: str) -> bool:
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", source) is not None  # C:// is a path


def _is_camera(source: str) -> bool:
    return source.startswith(("camera:", "/dev/video"))


def _how_to_open(source: str) -> tuple[str, str | None, dict[str, str]]:
    """Return the file, format and options for FFmpeg."""
    if not _is_camera(source):
        # RTSP over UDP loses packets, which appear as gray blocks in the frames.
        return source, None, {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    camera = source.removeprefix("camera:")
    if sys.platform == "darwin":
        return f"{camera}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        return f"video={camera}", "dshow", {}
    return f"/dev/video{camera}" if camera.isdigit() else camera, "v4l2", {}


def _decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[VideoFrame]:
    """Decode frames as they arrive. Skip undecodable packets: a stream joined midway starts with some."""
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


def _count_repeats(frames: Iterator[VideoFrame], fps: float) -> Iterator[tuple[int, VideoFrame, bool]]:
    """Pair each frame with its number of repeats at ``fps``, and whether the stream (re)starts with it."""
    current: VideoFrame | None = None
    origin, restarted = 0.0, True
    for frame in frames:
        if current is None:
            current, origin = frame, frame.pts_seconds
            continue
        restarts = not 0 < frame.pts_seconds - current.pts_seconds < _JUMP_SECONDS
        restarts = restarts or frame.stored_size != current.stored_size
        count = _num_repeats(current, current.end_seconds if restarts else frame.pts_seconds, origin, fps)
        if count:
            yield count, current, restarted
        restarted = restarts or (restarted and not count)
        origin = frame.pts_seconds if restarts else origin
        current = frame
    if current is not None:
        count = _num_repeats(current, current.end_seconds, origin, fps)
        yield max(count, int(restarted)), current, restarted  # at least one frame after each restart


def _num_repeats(frame: VideoFrame, end_seconds: float, origin: float, fps: float) -> int:
    first, stop = frame_index_at([frame.pts_seconds - origin, end_seconds - origin], fps).tolist()
    return stop - first


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return "timed out"
    return str(getattr(error, "strerror", None) or error)
