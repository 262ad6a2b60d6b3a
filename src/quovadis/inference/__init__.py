"""Recognize actions, extract features, and compute timelines and class activation maps.

Example::

    recognizer = Recognizer.load()
    prediction = recognizer.predict("video.mp4")
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.inference.activation_maps import ActivationMaps as ActivationMaps
    from quovadis.inference.extract import ExtractJob as ExtractJob
    from quovadis.inference.extract import ExtractorSettings as ExtractorSettings
    from quovadis.inference.extract import ExtractResult as ExtractResult
    from quovadis.inference.extract import extract_all as extract_all
    from quovadis.inference.extract import extract_video as extract_video
    from quovadis.inference.extract import plan_jobs as plan_jobs
    from quovadis.inference.feature_files import FeatureFile as FeatureFile
    from quovadis.inference.feature_presets import FEATURE_PRESETS as FEATURE_PRESETS
    from quovadis.inference.feature_presets import WHOLE as WHOLE
    from quovadis.inference.feature_presets import FeaturePreset as FeaturePreset
    from quovadis.inference.feature_presets import find_feature_preset as find_feature_preset
    from quovadis.inference.features import FeatureExtractor as FeatureExtractor
    from quovadis.inference.features import FeatureRows as FeatureRows
    from quovadis.inference.features import FrameCountError as FrameCountError
    from quovadis.inference.fusion import mean_probabilities as mean_probabilities
    from quovadis.inference.fusion import sum_logits as sum_logits
    from quovadis.inference.live import Watcher as Watcher
    from quovadis.inference.live import WatchRow as WatchRow
    from quovadis.inference.live import watch as watch
    from quovadis.inference.prediction import Prediction as Prediction
    from quovadis.inference.prediction import Window as Window
    from quovadis.inference.recognizer import Recognizer as Recognizer
    from quovadis.inference.timeline import Segment as Segment
    from quovadis.inference.timeline import Timeline as Timeline
    from quovadis.inference.timeline import make_timeline as make_timeline

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "activation_maps": ["ActivationMaps"],
        "extract": ["ExtractJob", "ExtractResult", "ExtractorSettings", "extract_all", "extract_video", "plan_jobs"],
        "feature_files": ["FeatureFile"],
        "feature_presets": ["FEATURE_PRESETS", "FeaturePreset", "WHOLE", "find_feature_preset"],
        "features": ["FeatureExtractor", "FeatureRows", "FrameCountError"],
        "fusion": ["mean_probabilities", "sum_logits"],
        "live": ["WatchRow", "Watcher", "watch"],
        "prediction": ["Prediction", "Window"],
        "recognizer": ["Recognizer"],
        "timeline": ["Segment", "Timeline", "make_timeline"],
    },
)
