"""Write a segment of a video as a new video, accurate to the frame."""

from fractions import Fraction
from os import PathLike
from pathlib import Path

import numpy as np

from quovadis.errors import TooFewFramesError, VideoDamagedError
from quovadis.video.reader import VideoReader
from quovadis.video.sampling import has_variable_frame_rate
from quovadis.video.writer import write_video

# Measured on three Kinetics clips of height 256: about the size of the source, at a PSNR of 38 to 39 dB. FFmpeg's
# default of 23, which the Kinetics crawlers use, gives 34 to 36 dB, and `quovadis prepare` encodes a clip once more.
_ENCODER_OPTIONS = {"crf": "18"}


def trim_video(
    source: str | PathLike[str], target: str | PathLike[str], start_seconds: float, end_seconds: float
) -> float:
    """Write a segment of a video to a new file, without audio.

    Frames are decoded and encoded again (H.264), as the Kinetics crawlers do: without decoding, a cut could start only
    at a key frame. The new file has the frame rate, size and orientation of the source; a variable frame rate is kept
    to a millisecond. The file is written atomically.

    Args:
        source: Video file.
        target: File to write; its suffix selects the container.
        start_seconds: Start of the segment, counted from the first frame of the video.
        end_seconds: End of the segment (exclusive).

    Returns:
        Duration that was written, in seconds. It is shorter than the segment if the source ends earlier.

    Raises:
        TooFewFramesError: If the segment has no frame.
        VideoDamagedError: If frames of the segment are broken.
        VideoError: If the source is not a video.
        StorageError: If the target cannot be written.

    Example:
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
        frames = (frame.pixels for frame, _ in zip(reader.frames(start), times, strict=False))
        if has_variable_frame_rate(times):
            since_first = [seconds - times[0] for seconds in times]
            write_video(target, frames, fps=rate, pts_seconds=since_first, options=_ENCODER_OPTIONS)
        else:
            gaps = np.diff(times)
            drift_seconds = abs(gaps.sum() - gaps.size / rate)  # the rate in the header is an average of the whole file
            constant = rate if drift_seconds < 0.5 / rate else float(1 / gaps.mean())
            write_video(target, frames, fps=Fraction(constant).limit_denominator(1001), options=_ENCODER_OPTIONS)
    return round(min(last_seconds, end) - times[0], 6)
