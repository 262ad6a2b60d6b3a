"""Classify actions in videos with I3D: pretrained models, training, and evaluation by the paper's protocol.

The public names are loaded when they are first used, so that ``import quovadis`` and ``quovadis --help`` are fast.

Example::

    recognizer = quovadis.Recognizer.load()
    print(recognizer.predict("video.mp4").top(5))
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach
from quovadis.runtime.threads import set_thread_policy
from quovadis.version import __version__ as __version__

if TYPE_CHECKING:
    from quovadis.datasets.load import load_dataset as load_dataset
    from quovadis.errors import QuovadisError as QuovadisError
    from quovadis.evaluation.evaluator import evaluate as evaluate
    from quovadis.evaluation.results import EvaluationResult as EvaluationResult
    from quovadis.flow.estimate import estimate_flow as estimate_flow
    from quovadis.fvd.distance import frechet_video_distance as frechet_video_distance
    from quovadis.inference.prediction import Prediction as Prediction
    from quovadis.inference.recognizer import Recognizer as Recognizer
    from quovadis.metrics.frechet import frechet_distance as frechet_distance
    from quovadis.models.inflation import inflate as inflate
    from quovadis.models.optimization import optimize as optimize
    from quovadis.models.zoo import list_models as list_models
    from quovadis.training.loop import train as train
    from quovadis.video.clip import Clip as Clip
    from quovadis.video.info import VideoInfo as VideoInfo
    from quovadis.video.read import probe as probe
    from quovadis.video.read import read_clip as read_clip
    from quovadis.weights.load import create_model as create_model
    from quovadis.weights.load import load_model as load_model

set_thread_policy()

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "datasets.load": ["load_dataset"],
        "errors": ["QuovadisError"],
        "evaluation.evaluator": ["evaluate"],
        "evaluation.results": ["EvaluationResult"],
        "flow.estimate": ["estimate_flow"],
        "fvd.distance": ["frechet_video_distance"],
        "inference.prediction": ["Prediction"],
        "inference.recognizer": ["Recognizer"],
        "metrics.frechet": ["frechet_distance"],
        "models.inflation": ["inflate"],
        "models.optimization": ["optimize"],
        "models.zoo": ["list_models"],
        "training.loop": ["train"],
        "version": ["__version__"],
        "video.clip": ["Clip"],
        "video.info": ["VideoInfo"],
        "video.read": ["probe", "read_clip"],
        "weights.load": ["create_model", "load_model"],
    },
)
