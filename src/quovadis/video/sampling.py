"""Choose frames of a video: arithmetic on timestamps and frame indices, without decoding.

A video is resampled to a constant frame rate ``fps`` (25 in the paper) on a regular time grid. The grid is aligned to
the start of the file, and index 0 is the first that shows a frame of the file. The grid interval that starts at ``t``
shows the frame on screen just before its middle, ``t + 0.5 / fps``. This is the rule of FFmpeg's ``fps`` filter. A
video of exactly 25 fps is read frame by frame, even if its container rounds timestamps.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.video.clip import require_frames

ShortPolicy = Literal["loop", "pad", "skip", "error"]
SHORT_POLICIES: tuple[ShortPolicy, ...] = ("loop", "pad", "skip", "error")

# Timestamps are fractions of integers converted to floats; this is far below any frame duration.
_ROUNDING_SLACK = 1e-6

# Containers round timestamps to a millisecond or less, so the gaps of evenly spaced frames differ by up to twice that.
_MAX_GAP_DIFFERENCE_SECONDS = 0.0021


def frame_index_at(seconds: ArrayLike, fps: float) -> NDArray[np.int64]:
    """Return the first index on the grid that shows a frame presented at ``seconds``.

    Args:
        seconds: Presentation times since the start of the file.
        fps: Frames per second of the grid.

    Example:
        >>> frame_index_at([0.0, 0.02, 0.04, 0.0333], 25.0).tolist()
        [0, 1, 1, 1]
    """
    return np.floor(np.asarray(seconds, np.float64) * fps + 0.5 + _ROUNDING_SLACK).astype(np.int64)


def resample_indices(
    pts_seconds: ArrayLike, end_seconds: float, fps: float, *, start_seconds: float | None = None
) -> NDArray[np.int64]:
    """Return, for each frame on the grid, the index of the video frame that it shows.

    Args:
        pts_seconds: Presentation times (N,) of all frames of the video, never decreasing.
        end_seconds: End of the last frame.
        fps: Frames per second of the grid.
        start_seconds: Start of the file; None is the time of the first frame.

    Returns:
        int64 array with one index per frame on the grid; at least one if the video has a frame.

    Example:
        >>> resample_indices([0.0, 0.1, 0.2, 0.3], 0.4, fps=5.0).tolist()  # 10 fps to 5: every second frame
        [0, 2]
        >>> resample_indices([0.0, 0.1], 0.2, fps=25.0).tolist()  # 10 fps to 25: frames repeat
        [0, 0, 0, 1, 1]

    References:
        FFmpeg's ``fps`` filter with ``round=near``.
    """
    pts = np.asarray(pts_seconds, np.float64)
    if pts.size == 0:
        return np.zeros(0, np.int64)
    start = pts[0] if start_seconds is None else start_seconds
    edges = frame_index_at(np.append(pts, end_seconds) - start, fps)
    edges[-1] = max(edges[-1], edges[0] + 1)
    return np.repeat(np.arange(pts.size), np.maximum(np.diff(edges), 0))


def has_variable_frame_rate(pts_seconds: ArrayLike) -> bool:
    """Return whether frames are unevenly spaced in time, beyond the rounding of containers.

    Example:
        >>> has_variable_frame_rate([0.0, 0.033, 0.067, 0.1]), has_variable_frame_rate([0.0, 0.04, 0.12])
        (False, True)
    """
    gaps = np.diff(np.asarray(pts_seconds, np.float64))
    return bool(gaps.size and gaps.max() - gaps.min() > _MAX_GAP_DIFFERENCE_SECONDS)


def fit_length(num_available: int, num_wanted: int, short: ShortPolicy, source: str = "") -> NDArray[np.int64]:
    """Return the indices of ``num_wanted`` frames out of ``num_available``: the first ones, if there are enough.

    Args:
        num_available: Number of frames of the clip.
        num_wanted: Number of indices to return.
        short: Policy if there are too few: ``loop`` from the first frame as often as needed (the paper), ``pad`` with
            the last frame, ``skip`` (return no index), or ``error``.
        source: Name of the video, for the error message.

    Raises:
        TooFewFramesError: If there are too few frames and ``short="error"``, or no frames.
        UnknownNameError: If ``short`` is not one of the policies.

    Example:
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
    num_video_frames: int,
    num_frames: int,
    *,
    frame_stride: int = 1,
    start: int = 0,
    short: ShortPolicy = "loop",
    source: str = "",
) -> NDArray[np.int64]:
    """Return the frame indices of a clip of ``num_frames``: every ``frame_stride``-th frame, beginning at ``start``.

    If the video ends before the clip, ``short`` is applied to the frames counted from the start of the video.

    Example:
        >>> clip_indices(10, 4, frame_stride=2, start=3).tolist()
        [3, 5, 7, 9]
        >>> clip_indices(6, 4, frame_stride=2, start=3).tolist()  # 7 and 9 are past the end: 1 and 3 after looping
        [3, 5, 1, 3]
    """
    window = (num_frames - 1) * frame_stride + 1
    return fit_length(num_video_frames, start + window, short, source)[start::frame_stride]


def random_start(num_video_frames: int, window: int, rng: np.random.Generator) -> int:
    """Draw the start of a window of ``window`` frames; 0 if the video is shorter than the window (paper, section 4).

    Example:
        >>> random_start(10, 64, np.random.default_rng(0))
        0
    """
    return int(rng.integers(0, max(num_video_frames - window, 0) + 1))


def even_starts(num_video_frames: int, window: int, num_clips: int) -> NDArray[np.int64]:
    """Return the starts of ``num_clips`` windows, evenly spaced over the video; a single window is centered.

    Example:
        >>> even_starts(100, 16, 3).tolist(), even_starts(100, 16, 1).tolist(), even_starts(10, 16, 2).tolist()
        ([0, 42, 84], [42], [0, 0])
    """
    last = max(num_video_frames - window, 0)
    if num_clips == 1:
        return np.array([last // 2])
    return np.linspace(0, last, num_clips).round().astype(np.int64)


def windows(num_video_frames: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return windows ``[start, stop)`` of ``window`` frames that cover a video, ``stride`` frames apart.

    The last window is moved back to end with the video. A video shorter than one window gives one shorter window. Every
    frame is covered if ``stride <= window``.

    Example:
        >>> windows(10, 4, 4), windows(8, 4, 4), windows(3, 4, 4)
        ([(0, 4), (4, 8), (6, 10)], [(0, 4), (4, 8)], [(0, 3)])
    """
    if window < 1 or stride < 1:
        raise InvalidInputError(f"window and stride must be at least 1; got {window} and {stride}")
    if num_video_frames <= window:
        return [(0, num_video_frames)] if num_video_frames else []
    starts = list(range(0, num_video_frames - window + 1, stride))
    if starts[-1] + window < num_video_frames:
        starts.append(num_video_frames - window)
    return [(s, s + window) for s in starts]
