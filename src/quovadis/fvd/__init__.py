"""Fréchet Video Distance by named protocols.

Example::

    result = frechet_video_distance("real/", "generated/")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.fvd.card import FvdCard as FvdCard
    from quovadis.fvd.card import VideoEmbeddings as VideoEmbeddings
    from quovadis.fvd.distance import FvdResult as FvdResult
    from quovadis.fvd.distance import frechet_video_distance as frechet_video_distance
    from quovadis.fvd.embed import VideoEmbedder as VideoEmbedder
    from quovadis.fvd.metric_values import SET_METRICS as SET_METRICS
    from quovadis.fvd.metric_values import SetMetric as SetMetric
    from quovadis.fvd.metric_values import set_metrics as set_metrics
    from quovadis.fvd.protocols import FVD_PROTOCOLS as FVD_PROTOCOLS
    from quovadis.fvd.protocols import FvdProtocol as FvdProtocol
    from quovadis.fvd.protocols import find_fvd_protocol as find_fvd_protocol
    from quovadis.fvd.sampling import FrameSampling as FrameSampling
    from quovadis.fvd.torchmetrics import FrechetVideoDistance as FrechetVideoDistance
    from quovadis.fvd.torchmetrics import KernelVideoDistance as KernelVideoDistance
    from quovadis.fvd.torchmetrics import VideoPrecisionRecall as VideoPrecisionRecall

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "card": ["FvdCard", "VideoEmbeddings"],
        "distance": ["FvdResult", "frechet_video_distance"],
        "embed": ["VideoEmbedder"],
        "protocols": ["FVD_PROTOCOLS", "FvdProtocol", "find_fvd_protocol"],
        "sampling": ["FrameSampling"],
        "metric_values": ["SET_METRICS", "SetMetric", "set_metrics"],
        "torchmetrics": ["FrechetVideoDistance", "KernelVideoDistance", "VideoPrecisionRecall"],
    },
)
