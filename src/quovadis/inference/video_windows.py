"""Read a video in windows, at constant memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike

import torch
from torch import Tensor

from quovadis.datasets.clip_dataset import clip_extent
from quovadis.errors import InvalidInputError
from quovadis.flow.source import FlowSource
from quovadis.models.spec import ModelSpec
from quovadis.runtime.prefetch import prefetch
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import fit_length, windows


@dataclass(frozen=True)
class VideoWindow:
    """A window of a video, resized for a model."""

    clip: Clip
    """Every ``clip_stride``-th frame of the window."""
    first_frame: int
    """Index of the first frame of the clip in the video, at the frame rate of the model."""
    start_seconds: float
    stop_seconds: float


def window_frames(
    spec: ModelSpec, window_seconds: float | None, stride_seconds: float | None, *, default_window: int
) -> tuple[int, int]:
    """Convert the length and stride of windows to frames; the stride defaults to the length.

    Raises:
        InvalidInputError: If the window is too short for the model, or the stride is shorter than a frame.
    """
    window = default_window if window_seconds is None else round(window_seconds * spec.fps)
    if window < spec.min_frames:
        raise InvalidInputError(
            f"a window of {window} frames is too short for {spec.name}, which needs at least {spec.min_frames}: "
            f"use {spec.min_frames / spec.fps:.2f} seconds or more"
        )
    stride = window if stride_seconds is None else round(stride_seconds * spec.fps)
    if stride < 1:
        raise InvalidInputError(f"the stride must be at least one frame; got {stride_seconds} seconds")
    return window, stride


def read_windows(
    path: str | PathLike[str],
    spec: ModelSpec,
    flow: FlowSource | None,
    window: int,
    stride: int,
    notes: list[str],
    *,
    min_rest: int = 1,
    num_threads: int = 0,
) -> Iterator[VideoWindow]:
    """Yield the windows of a video; the next one is decoded in a thread.

    Args:
        path: Video file.
        spec: Specification of the model.
        flow: Source of optical flow; None for models without flow.
        window: Length of a window in frames at ``spec.fps``. A video shorter than a training clip is looped.
        stride: Number of frames from one window to the next. The last window is moved back to end with the video.
        notes: Notes about short, damaged or unusual files are appended to this list.
        min_rest: Number of frames after the last regular window that need another one. Fewer are not used.
        num_threads: Number of decoding threads; 0 for the default of FFmpeg.
    """
    with (
        VideoReader(path, num_threads=num_threads) as reader,
        closing(prefetch(_decode_windows(reader, spec, window, stride, min_rest), depth=1)) as decoded,
    ):
        previous: VideoWindow | None = None
        for item in decoded:
            if flow is not None:
                clip = flow.add_to(
                    item.clip,
                    fps=spec.fps,
                    short_side_px=spec.short_side_px,
                    first_frame_index=item.first_frame,
                    known=_shared_flow(previous, item, spec),
                )
                item = replace(item, clip=clip)
                previous = item
            yield replace(item, clip=_loop_short(item.clip, spec, window, notes))
        notes += [*reader.notes, *reader.damage_notes()]


def _decode_windows(
    reader: VideoReader, spec: ModelSpec, window: int, stride: int, min_rest: int
) -> Iterator[VideoWindow]:
    """Decode the windows of :func:`quovadis.video.sampling.windows` without knowing the length of the video."""
    resize = partial(resize_frames, short_side_px=spec.short_side_px)
    recent: deque[tuple[int, Tensor, float]] = deque(maxlen=-(-window // spec.clip_stride))

    def latest_window(stop: int) -> VideoWindow:
        indices, frames, seconds = zip(*recent, strict=True)
        clip = Clip(torch.stack(frames), torch.tensor(seconds, dtype=torch.float64), source=str(reader.path))
        start_seconds, stop_seconds = (reader.frame_seconds(i, spec.fps) for i in (indices[0], stop))
        return VideoWindow(clip, indices[0], start_seconds, stop_seconds)

    num_frames = num_windows = 0
    last_frame, resized = None, torch.empty(0)
    for index, frame in reader.resampled_frames(spec.fps):
        if index % spec.clip_stride == 0:
            if frame is not last_frame:
                last_frame, resized = frame, resize(frame.pixels.unsqueeze(0))[0]
            recent.append((index, resized, frame.pts_seconds))
        num_frames = index + 1
        if num_frames == window + num_windows * stride:
            yield latest_window(num_frames)
            num_windows += 1
    rest = num_frames - (window + (num_windows - 1) * stride) if num_windows else num_frames
    if rest >= min_rest or not num_windows:
        for _, stop in windows(num_frames, window, stride)[num_windows:]:
            yield latest_window(stop)


def _shared_flow(previous: VideoWindow | None, item: VideoWindow, spec: ModelSpec) -> Tensor | None:
    """Return the flow of the pairs of frames at the begin of a window that the previous window has too."""
    if previous is None or previous.clip.flow is None:
        return None
    start, rest = divmod(item.first_frame - previous.first_frame, spec.clip_stride)
    return None if rest else previous.clip.flow[start:-1]  # the last flow of a clip is repeated


def _loop_short(clip: Clip, spec: ModelSpec, window: int, notes: list[str]) -> Clip:
    """Loop a clip that is shorter than a training clip and than the window."""
    num_frames = min(clip_extent(spec)[0], -(-window // spec.clip_stride))
    if len(clip) >= num_frames:
        return clip
    notes.append(f"the video has {len(clip)} frames at {spec.fps / spec.clip_stride:g} fps; looped to {num_frames}")
    return clip.take(torch.from_numpy(fit_length(len(clip), num_frames, "loop")))
