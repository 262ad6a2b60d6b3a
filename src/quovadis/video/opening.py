"""Open a file as video, or say why it is none."""

import errno
import stat
from pathlib import Path

import av
from av.error import FFmpegError

from quovadis.errors import VideoError, VideoNotFoundError

# FFmpeg's names of the formats that keep everything in one file. Playlists, image sequences, devices and scripts are
# left out: opening one makes FFmpeg open other files or addresses. New names must not do that; check the demuxer.
FILE_FORMATS = (
    *("mov", "matroska", "avi", "gif", "apng", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf", "rm", "wtv"),
    *("nut", "ivf", "dv", "dhav", "yuv4mpegpipe"),  # dhav: surveillance recorders (.dav)
    *("h264", "hevc", "vvc", "av1", "obu", "m4v", "mjpeg", "h261", "h263", "vc1"),  # video without a container
    *("png_pipe", "jpeg_pipe", "webp_pipe"),  # one picture, found by its content
    *("mp3", "wav", "flac", "aac"),  # no video; opened to say so
)

# A stream may change its size. Frames beyond this, and beyond four times the size in the header, count as broken: some
# bytes could claim 268 million pixels, FFmpeg's own limit.
_LARGE_FRAME_PIXELS = 4096 * 2304

# FFmpeg applies both lists to whatever a format opens in turn, too.
_FILES_ONLY = {"format_whitelist": ",".join(FILE_FORMATS), "protocol_whitelist": "file"}


def open_container(path: Path, *, max_pixels: int | None = None) -> av.container.InputContainer:
    """Open a video file, and never another file, device or address that it names.

    Close the result with :func:`close_container`.

    Args:
        path: the file.
        max_pixels: width times height of the largest picture to make room for; FFmpeg decodes one of some formats to
            open them. Larger ones have the size 0 x 0.

    Raises:
        VideoNotFoundError: nothing at that path. VideoError: a folder, empty, not to be read, no video, or a format
            outside ``FILE_FORMATS``.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoNotFoundError(f"no file at {path}") from error
    except (OSError, ValueError) as error:  # no permission, a name too long, a zero byte in it
        raise VideoError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{path} is a folder; name a video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path} is not a regular file; save the video to a file first")
    if status.st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes)")
    try:
        # "file:" because FFmpeg takes what stands before a colon in a name for a protocol.
        # A broken title or author must not keep anyone from the pictures.
        options = {} if max_pixels is None else {"max_pixels": str(max_pixels)}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options, container_options=_FILES_ONLY)
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EINVAL:  # FFmpeg's answer to a format that is not in the list
            reason = (
                "its header is invalid, or it is a playlist, an image sequence or of a format that is not supported; "
                "convert it to one MP4 or Matroska file"
            )
        raise VideoError(f"{path} is not a video that FFmpeg can open: {reason}") from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            pixels = stream.codec_context.width * stream.codec_context.height
            stream.codec_context.options = {"max_pixels": str(max(4 * pixels, _LARGE_FRAME_PIXELS))}
    return container


def close_container(container: av.container.InputContainer) -> None:
    """Close a container from which frames were decoded.

    PyAV holds the GIL while it frees a decoder, and FFmpeg waits there for its threads. A thread that logs to Python
    waits for the GIL: a deadlock. Flushing waits for the threads without the GIL.
    """
    for stream in container.streams:
        if stream.codec_context is not None:
            stream.codec_context.flush_buffers()
    container.close()


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The video stream that the ``ffmpeg`` program chooses: the largest picture, with a bonus for the default stream.

    Cover pictures are not considered.

    Raises:
        VideoError: no video stream, or none that can be decoded.
    """
    streams = moving_streams(container)
    usable = [stream for stream in streams if stream.codec_context is not None]
    if usable:
        return max(usable, key=_preference)
    if streams:
        raise VideoError(f"{path} has a video stream that no decoder here understands")
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
    raise VideoError(f"{path} has no video stream; it holds {kinds}")


def moving_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams without cover pictures."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def _preference(stream: av.VideoStream) -> int:
    """Higher for the stream to show; from FFmpeg's ``map_auto_video``."""
    num_pixels = stream.codec_context.width * stream.codec_context.height
    return num_pixels + 5_000_000 * bool(stream.disposition & av.stream.Disposition.default)
