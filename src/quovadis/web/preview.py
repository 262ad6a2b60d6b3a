"""Transcode videos that browsers cannot play."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.writer import write_video
from quovadis.web.job_queue import ProgressCallback
from quovadis.web.limits import UploadInfo

_FPS = 25
_SHORT_SIDE_PX = 360
_PLAYABLE_CODECS = ("h264", "vp8", "vp9", "av1")
_PLAYABLE_PIXEL_FORMATS = ("yuv420p", "yuvj420p")


def plays_in_browsers(info: UploadInfo) -> bool:
    """Return whether all current browsers can play a file."""
    is_supported_container = not {"mp4", "webm"}.isdisjoint(info.container.split(","))
    return is_supported_container and info.codec in _PLAYABLE_CODECS and info.pixel_format in _PLAYABLE_PIXEL_FORMATS


def write_preview(path: str | Path, target: Path, info: UploadInfo, on_progress: ProgressCallback) -> Path:
    """Transcode a video to a small MP4 at 25 fps that browsers can play.

    Args:
        path: The video.
        target: The MP4 file to write.
        info: Measurements of the video.
        on_progress: Called about every two seconds of video.

    Returns:
        ``target``.
    """
    resize = partial(resize_frames, short_side_px=min(_SHORT_SIDE_PX, info.width, info.height))
    num_expected = max(info.seconds * _FPS, 1)
    with VideoReader(path) as reader:

        def frames() -> Iterator[Tensor]:
            for index, frame in reader.resampled_frames(float(_FPS)):
                if index % 50 == 0:
                    on_progress(min(index / num_expected, 1.0), "creating a preview")
                yield resize(frame.pixels[None])[0]

        return write_video(target, frames(), fps=_FPS, options={"preset": "ultrafast", "crf": "28"})
