"""Read, probe, trim and write video files, and read live streams.

Example::

    clip = read_clip("video.mp4", num_frames=64, short_side_px=256)
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.video.clip import Clip as Clip
    from quovadis.video.frame import VideoFrame as VideoFrame
    from quovadis.video.info import VideoInfo as VideoInfo
    from quovadis.video.live import LiveFrame as LiveFrame
    from quovadis.video.live import LiveStream as LiveStream
    from quovadis.video.read import probe as probe
    from quovadis.video.read import read_clip as read_clip
    from quovadis.video.reader import FrameTransform as FrameTransform
    from quovadis.video.reader import VideoReader as VideoReader
    from quovadis.video.sampling import ShortPolicy as ShortPolicy
    from quovadis.video.sampling import clip_indices as clip_indices
    from quovadis.video.sampling import even_starts as even_starts
    from quovadis.video.sampling import fit_length as fit_length
    from quovadis.video.sampling import frame_index_at as frame_index_at
    from quovadis.video.sampling import random_start as random_start
    from quovadis.video.sampling import resample_indices as resample_indices
    from quovadis.video.sampling import windows as windows
    from quovadis.video.trim import trim_video as trim_video
    from quovadis.video.writer import LOSSLESS as LOSSLESS
    from quovadis.video.writer import write_video as write_video

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "clip": ["Clip"],
        "frame": ["VideoFrame"],
        "info": ["VideoInfo"],
        "live": ["LiveFrame", "LiveStream"],
        "read": ["probe", "read_clip"],
        "reader": ["FrameTransform", "VideoReader"],
        "sampling": [
            "ShortPolicy",
            "clip_indices",
            "even_starts",
            "fit_length",
            "frame_index_at",
            "random_start",
            "resample_indices",
            "windows",
        ],
        "trim": ["trim_video"],
        "writer": ["LOSSLESS", "write_video"],
    },
)
