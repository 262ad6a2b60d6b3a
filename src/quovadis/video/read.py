"""Read clips and properties of video files: :func:`read_clip` and :func:`probe`."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import Literal, overload

import numpy as np

from quovadis.video.clip import Clip
from quovadis.video.info import VideoInfo
from quovadis.video.reader import FrameTransform, VideoReader
from quovadis.video.sampling import ShortPolicy, has_variable_frame_rate


def probe(path: str | PathLike[str], *, count: bool = False) -> VideoInfo:
    """Read the properties of a video file: size, frame rate, length, codec.

    Args:
        path: Video file.
        count: Decode every frame to get the exact number of frames and duration, and whether frames are evenly spaced.
            By default only the header, all packets and the first frame are read.

    Returns:
        The properties of the video as it is displayed: upright, with square pixels.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the file is not a video, or none of its frames can be decoded.

    Example:
        >>> info = probe(getfixture("clip_path"), count=True)
        >>> info.width, info.height, info.fps, info.num_frames, info.variable_frame_rate
        (64, 48, 25.0, 30, False)
    """
    with VideoReader(path) as reader:
        info = reader.info
        if not count:
            return info
        times, end_seconds = [], 0.0
        for frame in reader.frames():
            times.append(frame.pts_seconds)
            end_seconds = frame.end_seconds
        notes = reader.notes
    gaps = np.diff(times)
    variable = has_variable_frame_rate(times)
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
    """Read a video, or a segment of it, as a :class:`~quovadis.video.clip.Clip`.

    Frames are upright RGB images with square pixels, equal to those of the ``ffmpeg`` program. To process a long video
    frame by frame, use :class:`~quovadis.video.reader.VideoReader`.

    Args:
        path: Video file.
        fps: Resample to this many frames per second, by timestamp. None keeps the frames of the file.
        start_seconds: Start of the segment on the clock of the file; None starts at the first frame.
        stop_seconds: End of the segment (exclusive); None reads to the end of the file.
        num_frames: Number of frames to return; None returns all frames up to ``stop_seconds``.
        frame_stride: Keep every n-th frame, after resampling.
        short: Policy for segments of fewer than ``num_frames``: ``loop`` from their start, ``pad`` with the last frame,
            ``skip`` (return None), or ``error``.
        short_side_px: Resize each frame to this short side as it is decoded, so that large videos are never held in
            memory at full size.
        transform: Any other function to apply to each decoded frame: uint8 (1, 3, H, W) to uint8 (1, 3, h, w).
        num_threads: Number of decoding threads; 0 lets FFmpeg choose.
        damaged: Policy for files that end early or have broken frames: ``error``, or ``keep`` what can be decoded.

    Returns:
        The clip, with ``frames`` uint8 (T, 3, H, W); None for a short segment with ``short="skip"``.

    Raises:
        VideoNotFoundError: If the file does not exist.
        VideoError: If the file is not a video.
        VideoDamagedError: If the file can be decoded only in part, and ``damaged="error"``.
        TooFewFramesError: If there are fewer than ``num_frames`` and ``short="error"``, or no frames.
        InvalidInputError: If a number is out of range, or both ``short_side_px`` and ``transform`` are given.
        UnknownNameError: If ``short`` or ``damaged`` is not one of the policies.

    Example:
        >>> clip = read_clip(getfixture("clip_path"), start_seconds=0.2, num_frames=4, frame_stride=2, short_side_px=24)
        >>> clip.frames.shape, [round(t, 2) for t in clip.pts_seconds.tolist()]
        (torch.Size([4, 3, 24, 32]), [0.2, 0.28, 0.36, 0.44])
    """
    with VideoReader(path, num_threads=num_threads) as reader:
        return reader.read(
            fps=fps,
            start_seconds=start_seconds,
            stop_seconds=stop_seconds,
            num_frames=num_frames,
            frame_stride=frame_stride,
            short=short,
            short_side_px=short_side_px,
            transform=transform,
            damaged=damaged,
        )
