"""Labeled videos: folders, tables, UCF-101, HMDB-51, manifests, prepared datasets and the data loader.

Example::

    data = load_dataset("clips/")  # clips/CLASS/VIDEO.mp4, a table, a list or a manifest
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.datasets.clip_dataset import ClipDataset as ClipDataset
    from quovadis.datasets.clip_dataset import EpochBatchSampler as EpochBatchSampler
    from quovadis.datasets.clip_dataset import Sample as Sample
    from quovadis.datasets.clip_dataset import clip_extent as clip_extent
    from quovadis.datasets.clip_dataset import collate as collate
    from quovadis.datasets.hmdb51 import load_hmdb51 as load_hmdb51
    from quovadis.datasets.inspection import index_videos as index_videos
    from quovadis.datasets.inspection import verify_videos as verify_videos
    from quovadis.datasets.leakage import check_no_leakage as check_no_leakage
    from quovadis.datasets.load import load_dataset as load_dataset
    from quovadis.datasets.loader import VideoDataLoader as VideoDataLoader
    from quovadis.datasets.manifest import Manifest as Manifest
    from quovadis.datasets.manifest import VideoRecord as VideoRecord
    from quovadis.datasets.motions import MotionsConfig as MotionsConfig
    from quovadis.datasets.motions import load_motions as load_motions
    from quovadis.datasets.motions import motions_clip as motions_clip
    from quovadis.datasets.preparation import PrepareSettings as PrepareSettings
    from quovadis.datasets.preparation import prepare as prepare
    from quovadis.datasets.probe_cache import ProbeCache as ProbeCache
    from quovadis.datasets.scenes import SCENE_LABELS as SCENE_LABELS
    from quovadis.datasets.scenes import draw_scene as draw_scene
    from quovadis.datasets.statistics import ClassCount as ClassCount
    from quovadis.datasets.statistics import DatasetStatistics as DatasetStatistics
    from quovadis.datasets.statistics import Duplicate as Duplicate
    from quovadis.datasets.statistics import Overlap as Overlap
    from quovadis.datasets.statistics import dataset_statistics as dataset_statistics
    from quovadis.datasets.ucf101 import load_ucf101 as load_ucf101
    from quovadis.datasets.video_files import FoundVideos as FoundVideos
    from quovadis.datasets.video_files import find_videos as find_videos
    from quovadis.datasets.video_inputs import list_videos as list_videos

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "clip_dataset": ["ClipDataset", "EpochBatchSampler", "Sample", "clip_extent", "collate"],
        "hmdb51": ["load_hmdb51"],
        "inspection": ["index_videos", "verify_videos"],
        "leakage": ["check_no_leakage"],
        "load": ["load_dataset"],
        "loader": ["VideoDataLoader"],
        "manifest": ["Manifest", "VideoRecord"],
        "motions": ["MotionsConfig", "load_motions", "motions_clip"],
        "preparation": ["PrepareSettings", "prepare"],
        "probe_cache": ["ProbeCache"],
        "scenes": ["SCENE_LABELS", "draw_scene"],
        "statistics": ["ClassCount", "DatasetStatistics", "Duplicate", "Overlap", "dataset_statistics"],
        "ucf101": ["load_ucf101"],
        "video_files": ["FoundVideos", "find_videos"],
        "video_inputs": ["list_videos"],
    },
)
