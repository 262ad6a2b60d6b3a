"""Kinetics-400, -600 and -700: annotations, downloads and class names.

Example::

    labels = class_labels("kinetics400")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.datasets.kinetics.annotations import KineticsClip as KineticsClip
    from quovadis.datasets.kinetics.annotations import read_annotations as read_annotations
    from quovadis.datasets.kinetics.annotations import select_clips as select_clips
    from quovadis.datasets.kinetics.class_names import class_labels as class_labels
    from quovadis.datasets.kinetics.clip_status import DownloadReport as DownloadReport
    from quovadis.datasets.kinetics.cvdf import download_from_cvdf as download_from_cvdf
    from quovadis.datasets.kinetics.cvdf_releases import download_annotations as download_annotations
    from quovadis.datasets.kinetics.load import load_kinetics as load_kinetics
    from quovadis.datasets.kinetics.youtube import download_from_youtube as download_from_youtube
    from quovadis.datasets.kinetics.yt_dlp import FetchFailure as FetchFailure
    from quovadis.datasets.kinetics.yt_dlp import VideoFetcher as VideoFetcher
    from quovadis.datasets.kinetics.yt_dlp import YtDlpFetcher as YtDlpFetcher

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "annotations": ["KineticsClip", "read_annotations", "select_clips"],
        "class_names": ["class_labels"],
        "clip_status": ["DownloadReport"],
        "cvdf": ["download_from_cvdf"],
        "cvdf_releases": ["download_annotations"],
        "load": ["load_kinetics"],
        "youtube": ["download_from_youtube"],
        "yt_dlp": ["FetchFailure", "VideoFetcher", "YtDlpFetcher"],
    },
)
