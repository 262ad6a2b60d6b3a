"""Open video files safely, with an error message for everything that is not a video."""

import errno
import stat
from pathlib import Path

import av
from av.error import FFmpegError

from quovadis.errors import VideoError, VideoNotFoundError

# FFmpeg's names of formats that consist of one file. Playlists, image sequences, devices and scripts are excluded,
# because FFmpeg opens other files or URLs for them. Before adding a name, check that its demuxer does not.
FILE_FORMATS = (
    *("mov", "matroska", "avi", "gif", "apng", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf", "rm", "wtv"),
    *("nut", "ivf", "dv", "dhav", "yuv4mpegpipe"),  # dhav: surveillance recorders (.dav)
    *("h264", "hevc", "vvc", "av1", "obu", "m4v", "mjpeg", "h261", "h263", "vc1"),  # video without a container
    *("png_pipe", "jpeg_pipe", "webp_pipe"),  # one image, detected by its content
    *("mp3", "wav", "flac", "aac"),  # audio only; opened for a better error message
)

# The size of a stream may change. Frames larger than this and than four times the size in the header count as broken,
# because a few bytes could otherwise request 268 million pixels, which is FFmpeg's own limit.
_LARGE_FRAME_PIXELS = 4096 * 2304

# FFmpeg also applies both lists to everything that a format opens.
_FILES_ONLY = {"format_whitelist": ",".join(FILE_FORMATS), "protocol_whitelist": "file"}


def open_container(path: Path, *, max_pixels: int | None = None) -> av.container.InputContainer:
    """Open a video file, but no other file, device or URL that it refers to.

    Close the result with :func:`close_container`.

    Args:
        path: The file.
        max_pixels: Width times height of the largest frame that may be allocated; FFmpeg decodes a frame to open some
            formats. Larger videos get the size 0 x 0.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the path is a folder, an empty or unreadable file, not a video, or has a format that is not in
            ``FILE_FORMATS``.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VideoNotFoundError(f"no file at {path}") from error
    except (OSError, ValueError) as error:  # no permission, a name that is too long or has a zero byte
        raise VideoError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(f"{path} is a folder; pass a video file in it")
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path} is not a regular file; save the video to a file first")
    if status.st_size == 0:
        raise VideoError(f"{path} is empty (0 bytes)")
    try:
        # "file:" because FFmpeg parses the part of a name before a colon as a protocol. Invalid metadata is replaced:
        # a broken title should not prevent decoding.
        options = {} if max_pixels is None else {"max_pixels": str(max_pixels)}
        container = av.open(f"file:{path}", metadata_errors="replace", options=options, container_options=_FILES_ONLY)
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.EINVAL:  # FFmpeg's error for a format that is not in the list
            reason = (
                "its header is invalid, or it is a playlist, an image sequence or another format that is not "
                "supported; convert it to one MP4 or Matroska file"
            )
        raise VideoError(f"{path} is not a video that FFmpeg can open: {reason}") from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            pixels = stream.codec_context.width * stream.codec_context.height
            stream.codec_context.options = {"max_pixels": str(max(4 * pixels, _LARGE_FRAME_PIXELS))}
    return container


def close_container(container: av.container.InputContainer) -> None:
    """Close a container after decoding, without a deadlock.

    PyAV holds the GIL while FFmpeg joins its decoder threads, and a thread that logs to Python waits for the GIL.
    Flushing first waits for the threads without the GIL.
    """
    for stream in container.streams:
        if stream.codec_context is not None:
            stream.codec_context.flush_buffers()
    container.close()


def video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """Return the video stream that the ``ffmpeg`` program selects: the largest one, with a bonus for the default.

    Cover images are not considered.

    Raises:
        VideoError: If there is no video stream, or none that can be decoded.
    """
    streams = moving_streams(container)
    usable = [stream for stream in streams if stream.codec_context is not None]
    if usable:
        return max(usable, key=_preference)
    if streams:
        raise VideoError(f"{path} has a video stream, but FFmpeg has no decoder for it")
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
    raise VideoError(f"{path} has no video stream; it contains {kinds}")


def moving_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    """Return the video streams without cover images."""
    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def _preference(stream: av.VideoStream) -> int:
    """Return the rank of a stream in FFmpeg's ``map_auto_video``."""
    num_pixels = stream.codec_context.width * stream.codec_context.height
    return num_pixels + 5_000_000 * bool(stream.disposition & av.stream.Disposition.default)
