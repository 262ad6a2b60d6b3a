"""The two questions that most people have for a video file: what is it, and what does this stretch of it show."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Literal, overload

import numpy as np

from quovadis.errors import InvalidInputError
from quovadis.video.clip import Clip
from quovadis.video.info import VideoInfo
from quovadis.video.reader import FrameTransform, VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import ShortPolicy


def probe(path: str | PathLike[str], *, count: bool = False) -> VideoInfo:
    """What a video file says about itself.

    Args:
        path: a video file.
        count: decode every frame, to know the exact number of frames, the length, and whether frames are evenly
            spaced. Without it the header and all packets are read, and the first frame is decoded.

    Raises:
        VideoError: the file cannot be read as video, or no frame decodes.

    >>> info = probe(getfixture("clip_path"), count=True)
    >>> info.width, info.height, info.fps, info.num_frames, info.variable_frame_rate
    (64, 48, 25.0, 30, False)
    """
    with VideoReader(path) as reader:
        reader.first_pts_seconds  # noqa: B018  (a file without one frame is no video)
        info = reader.info
        if not count:
            return info
        times, end_seconds = [], 0.0
        for frame in reader.frames():
            times.append(frame.pts_seconds)
            end_seconds = frame.end_seconds
        notes = reader.notes
    gaps = np.diff(times)
    # Containers round timestamps, to a millisecond at worst.
    variable = bool(gaps.size and gaps.max() - gaps.min() > 0.0021)
    measured = float(1 / gaps.mean()) if gaps.size and gaps.mean() else info.fps
    return replace(
        info,
        num_frames=len(times),
        duration_seconds=end_seconds - times[0],
        counted=True,
        variable_frame_rate=variable,
        fps=measured if variable or abs(measured - info.fps) > 0.01 * measured else info.fps,
        notes=notes,
    )


@overload
def read_clip(
    path: str | PathLike[str],
    *,
    fps: float | None = ...,
    start_seconds: float | None = ...,
    stop_seconds: float | None = ...,
    num_frames: int | None = ...,
    frame_stride: int = ...,
    short: Literal["loop", "pad", "error"] = ...,
    short_side_px: int | None = ...,
    transform: FrameTransform | None = ...,
    num_threads: int = ...,
    damaged: Literal["error", "keep"] = ...,
) -> Clip: ...
@overload
def read_clip(
    path: str | PathLike[str],
    *,
    fps: float | None = ...,
    start_seconds: float | None = ...,
    stop_seconds: float | None = ...,
    num_frames: int | None = ...,
    frame_stride: int = ...,
    short: ShortPolicy = ...,
    short_side_px: int | None = ...,
    transform: FrameTransform | None = ...,
    num_threads: int = ...,
    damaged: Literal["error", "keep"] = ...,
) -> Clip | None: ...
def read_clip(
    path: str | PathLike[str],
    *,
    fps: float | None = 25.0,
    start_seconds: float | None = None,
    stop_seconds: float | None = None,
    num_frames: int | None = None,
    frame_stride: int = 1,
    short: ShortPolicy = "error",
    short_side_px: int | None = None,
    transform: FrameTransform | None = None,
    num_threads: int = 0,
    damaged: Literal["error", "keep"] = "error",
) -> Clip | None:
    """Read a stretch of a video as a :class:`~quovadis.video.clip.Clip`.

    Args:
        path: a video file.
        fps: frames a second to read at, by timestamp; None takes every frame of the file as it is.
        start_seconds: where to begin, on the file's clock; None is the first frame.
        stop_seconds: where to end (exclusive); None is the end of the file.
        num_frames: how many frames; None takes all up to ``stop_seconds``.
        frame_stride: take every n-th frame (after the change to ``fps``).
        short: what to do when there are fewer than ``num_frames``: ``loop`` from the start, ``pad`` with the last
            frame, ``skip`` (returns None), ``error``.
        short_side_px: Resize every frame to this short side as it is decoded, so that a large video is never held at
            full size.
        transform: Any other function for each decoded frame, uint8 (1, 3, H, W) to uint8 (1, 3, h, w).
        num_threads: decoding threads, 0 for FFmpeg's choice.
        damaged: what to do with a file that ends early or has broken frames: raise, or keep what decodes.

    Returns:
        The clip; ``frames`` is uint8 (T, 3, H, W).

    Raises:
        VideoError: the file cannot be read. VideoDamagedError: only in part.
        TooFewFramesError: too few frames, and ``short="error"``; or none at all.
        InvalidInputError, UnknownNameError: an argument without sense.

    >>> clip = read_clip(getfixture("clip_path"), start_seconds=0.2, num_frames=4, frame_stride=2)
    >>> clip.frames.shape, [round(t, 2) for t in clip.pts_seconds.tolist()]
    (torch.Size([4, 3, 48, 64]), [0.2, 0.28, 0.36, 0.44])
    >>> read_clip(getfixture("clip_path"), short_side_px=24).frames.shape
    torch.Size([30, 3, 24, 32])
    """
    if short_side_px is not None:
        if transform is not None:
            raise InvalidInputError("give short_side_px or transform, not both")
        transform = partial(resize_frames, short_side_px=short_side_px)
    with VideoReader(path, num_threads=num_threads) as reader:
        return reader.read(
            fps=fps,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
            num_frames=num_frames,
            frame_stride=frame_stride,
            short=short,
            transform=transform,
            damaged=damaged,
        )
