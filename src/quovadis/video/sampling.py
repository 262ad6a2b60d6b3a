"""Which frames to take: arithmetic on timestamps and indices, without any video.

A video at its own frame rate is read on a regular grid of *ticks*, ``fps`` of them a second (25 in the paper). The
grid is aligned to the start of the file, and tick 0 is the first one that shows a frame. A tick that begins at ``t``
shows the frame that is on screen just before its middle, ``t + 0.5 / fps``. That is the rule of FFmpeg's ``fps``
filter: an exact 25 fps video is taken as it is, frame by frame, also when its container rounds timestamps.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.video.clip import require_frames

ShortPolicy = Literal["loop", "pad", "skip", "error"]
SHORT_POLICIES: tuple[ShortPolicy, ...] = ("loop", "pad", "skip", "error")

# A timestamp is a fraction of integers that went through a float; this is far below any frame duration.
_ROUNDING_SLACK = 1e-6


def frame_index_at(seconds: ArrayLike, fps: float) -> NDArray[np.int64]:
    """The tick at which a frame that appears after ``seconds`` is first taken.

    Args:
        seconds: time since the start of the file.
        fps: ticks a second.

    >>> frame_index_at([0.0, 0.02, 0.04, 0.0333], 25.0).tolist()
    [0, 1, 1, 1]
    """
    return np.floor(np.asarray(seconds, np.float64) * fps + 0.5 + _ROUNDING_SLACK).astype(np.int64)


def resample_indices(
    pts_seconds: ArrayLike, end_seconds: float, fps: float, *, start_seconds: float | None = None
) -> NDArray[np.int64]:
    """For each tick, the index of the frame that it shows.

    Args:
        pts_seconds: (N,) presentation times of all frames, never decreasing.
        end_seconds: when the last frame leaves the screen.
        fps: ticks a second.
        start_seconds: when the file starts; None is the first frame.

    Returns:
        int64 (num_ticks,), at least one tick if there is a frame; source: FFmpeg's ``fps`` filter, ``round=near``.

    >>> resample_indices([0.0, 0.1, 0.2, 0.3], 0.4, fps=5.0).tolist()  # 10 fps to 5: every second frame
    [0, 2]
    >>> resample_indices([0.0, 0.1], 0.2, fps=25.0).tolist()  # 10 fps to 25: frames repeat
    [0, 0, 0, 1, 1]
    """
    pts = np.asarray(pts_seconds, np.float64)
    if pts.size == 0:
        return np.zeros(0, np.int64)
    start = pts[0] if start_seconds is None else start_seconds
    edges = frame_index_at(np.append(pts, end_seconds) - start, fps)
    edges[-1] = max(edges[-1], edges[0] + 1)
    return np.repeat(np.arange(pts.size), np.maximum(np.diff(edges), 0))


def fit_length(num_available: int, num_wanted: int, short: ShortPolicy, source: str = "") -> NDArray[np.int64]:
    """Indices that make ``num_wanted`` frames out of ``num_available``.

    Enough frames: the first ``num_wanted``. Too few: ``loop`` starts again from the first frame as often as needed
    (the paper), ``pad`` repeats the last frame, ``skip`` gives no indices, ``error`` raises.

    Raises:
        TooFewFramesError: too few frames and ``short="error"``, or no frame at all.
        UnknownNameError: no such policy.

    >>> [fit_length(3, 5, short).tolist() for short in ("loop", "pad", "skip")]
    [[0, 1, 2, 0, 1], [0, 1, 2, 2, 2], []]
    """
    if short not in SHORT_POLICIES:
        raise UnknownNameError.among("policy for short clips", short, SHORT_POLICIES)
    wanted = np.arange(num_wanted)
    if num_available >= num_wanted:
        return wanted
    if short == "skip":
        return wanted[:0]
    require_frames(num_available, num_wanted if short == "error" else 1, source, "this clip")
    return wanted % num_available if short == "loop" else np.minimum(wanted, num_available - 1)


def clip_indices(
    num_ticks: int,
    num_frames: int,
    *,
    frame_stride: int = 1,
    start: int = 0,
    short: ShortPolicy = "loop",
    source: str = "",
) -> NDArray[np.int64]:
    """Ticks of a clip of ``num_frames``, every ``frame_stride``-th tick from ``start`` on.

    Where the video ends before the clip does, ``short`` decides, counted from the start of the video.

    >>> clip_indices(10, 4, frame_stride=2, start=3).tolist()
    [3, 5, 7, 9]
    >>> clip_indices(6, 4, frame_stride=2, start=3).tolist()  # 9 is past the end: loops to 3
    [3, 5, 1, 3]
    """
    span = (num_frames - 1) * frame_stride + 1
    return fit_length(num_ticks, start + span, short, source)[start::frame_stride]


def random_start(num_ticks: int, span: int, rng: np.random.Generator) -> int:
    """A start among those that leave ``span`` ticks; 0 when the video is too short for a choice (paper, section 4)."""
    return int(rng.integers(0, max(num_ticks - span, 0) + 1))


def even_starts(num_ticks: int, span: int, num_clips: int) -> NDArray[np.int64]:
    """Starts of ``num_clips`` clips spread evenly from the first possible start to the last; one clip is centered.

    >>> even_starts(100, 16, 3).tolist(), even_starts(100, 16, 1).tolist(), even_starts(10, 16, 2).tolist()
    ([0, 42, 84], [42], [0, 0])
    """
    last = max(num_ticks - span, 0)
    if num_clips == 1:
        return np.array([last // 2])
    return np.linspace(0, last, num_clips).round().astype(np.int64)


def windows(num_ticks: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Stretches ``[start, stop)`` that cover a video: every ``stride`` ticks one of ``window``, the last moved back.

    A video shorter than one window gives a single short stretch. Every tick up to the end is covered when
    ``stride <= window``.

    >>> windows(10, 4, 4), windows(8, 4, 4), windows(3, 4, 4)
    ([(0, 4), (4, 8), (6, 10)], [(0, 4), (4, 8)], [(0, 3)])
    """
    if window < 1 or stride < 1:
        raise InvalidInputError(f"window and stride must be at least 1; got {window} and {stride}")
    if num_ticks <= window:
        return [(0, num_ticks)] if num_ticks else []
    starts = list(range(0, num_ticks - window + 1, stride))
    if starts[-1] + window < num_ticks:
        starts.append(num_ticks - window)
    return [(s, s + window) for s in starts]
