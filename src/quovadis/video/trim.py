"""Cut a stretch out of a video, to the frame."""

from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from quovadis.errors import TooFewFramesError, VideoDamagedError
from quovadis.video.reader import VideoReader
from quovadis.video.writer import write_video

# Measured on three Kinetics clips of 256 lines: about as large as the source, and 38 to 39 dB to it. FFmpeg's default
# of 23, which the Kinetics crawlers use, gives 34 to 36 dB in 60 % of that, and preparing encodes a clip once more.
_ENCODER_OPTIONS = {"crf": "18"}
_EVEN_SECONDS = 0.0021  # containers round timestamps, to a millisecond at worst


def trim_video(
    source: str | PathLike[str], target: str | PathLike[str], start_seconds: float, end_seconds: float
) -> float:
    """Write the frames from ``start_seconds`` to ``end_seconds`` of a video as a video of its own, without sound.

    The frames are decoded and encoded again (H.264), as the Kinetics crawlers do, because a cut without decoding begins
    at a key frame: too early, or black until the next one. Frame rate, size and rotation
    stay; frames at uneven times keep them, to a millisecond. The file appears whole or not at all.

    Args:
        source: a video file.
        target: the file to write; its ending chooses the container.
        start_seconds: the first frame is the first one at or after this, counted from the beginning of the video.
        end_seconds: the last frame is the last one before this, or the last of the video.

    Returns:
        Seconds of video that were written: less than asked for where the source ends before.

    Raises:
        TooFewFramesError: no frame between the two. VideoDamagedError: broken frames there. VideoError: no video.
        StorageError: the target cannot be written.

    >>> path = getfixture("tmp_path") / "part.mp4"
    >>> trim_video(getfixture("clip_path"), path, 0.4, 1.0)
    0.6
    """
    source, target = Path(source), Path(target)
    with VideoReader(source) as reader:
        rate = reader.frame_rate or 25.0
        start, end = (reader.first_pts_seconds + seconds for seconds in (start_seconds, end_seconds))
        times, last_seconds = [], 0.0
        for frame in reader.frames(start):
            if frame.pts_seconds >= end - 1e-9:
                break
            times.append(frame.pts_seconds)
            last_seconds = frame.end_seconds
        if reader.damage:
            raise VideoDamagedError(f"{source} is damaged: {reader.damage}")
        if not times:
            raise TooFewFramesError(f"{source} shows no frame from {start_seconds:g} s to {end_seconds:g} s")
        pictures = (frame.pixels for frame, _ in zip(reader.frames(start), times, strict=False))
        gaps = np.diff(times)
        if gaps.size and gaps.max() - gaps.min() > _EVEN_SECONDS:
            since_first = [seconds - times[0] for seconds in times]
            write_video(target, pictures, fps=rate, pts_seconds=since_first, options=_ENCODER_OPTIONS)
        else:
            drift = abs(gaps.sum() - gaps.size / rate)  # the header's rate is an average: does it hold here?
            even = rate if drift < 0.5 / rate else float(1 / gaps.mean())
            write_video(target, pictures, fps=Fraction(even).limit_denominator(1001), options=_ENCODER_OPTIONS)
    return round(min(last_seconds, end) - times[0], 6)
