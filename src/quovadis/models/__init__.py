"""The five networks of the paper, inflation, and optimized inference.

Example::

    model = build_model("i3d", num_classes=400)
    logits = model(x)  # x: float32 (B, 3, T, H, W) in [-1, 1]
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.models.batch_norm import BatchStatistics as BatchStatistics
    from quovadis.models.batch_norm import recompute_running_statistics as recompute_running_statistics
    from quovadis.models.checkpointing import recompute_activations as recompute_activations
    from quovadis.models.conv3d import Conv3D as Conv3D
    from quovadis.models.convnet_lstm import ConvNetLSTM as ConvNetLSTM
    from quovadis.models.i3d import I3D as I3D
    from quovadis.models.inflation import fold_input_range as fold_input_range
    from quovadis.models.inflation import inflate as inflate
    from quovadis.models.inputs import clip_to_streams as clip_to_streams
    from quovadis.models.inputs import cut_clip as cut_clip
    from quovadis.models.optimization import InferenceModel as InferenceModel
    from quovadis.models.optimization import optimize as optimize
    from quovadis.models.preprocessing import preprocessing_steps as preprocessing_steps
    from quovadis.models.receptive_field import ReceptiveField as ReceptiveField
    from quovadis.models.receptive_field import TemporalLayer as TemporalLayer
    from quovadis.models.resnet import I3DResNet50 as I3DResNet50
    from quovadis.models.spec import Backend as Backend
    from quovadis.models.spec import ModelSpec as ModelSpec
    from quovadis.models.spec import Precision as Precision
    from quovadis.models.spec import StreamChoice as StreamChoice
    from quovadis.models.spec import StreamKind as StreamKind
    from quovadis.models.spec import StreamSpec as StreamSpec
    from quovadis.models.two_stream import FusedTwoStream as FusedTwoStream
    from quovadis.models.two_stream import TwoStream as TwoStream
    from quovadis.models.video_model import VideoModel as VideoModel
    from quovadis.models.zoo import build_model as build_model
    from quovadis.models.zoo import list_models as list_models

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "batch_norm": ["BatchStatistics", "recompute_running_statistics"],
        "checkpointing": ["recompute_activations"],
        "conv3d": ["Conv3D"],
        "convnet_lstm": ["ConvNetLSTM"],
        "i3d": ["I3D"],
        "inflation": ["fold_input_range", "inflate"],
        "inputs": ["clip_to_streams", "cut_clip"],
        "optimization": ["InferenceModel", "optimize"],
        "preprocessing": ["preprocessing_steps"],
        "receptive_field": ["ReceptiveField", "TemporalLayer"],
        "resnet": ["I3DResNet50"],
        "spec": ["Backend", "ModelSpec", "Precision", "StreamChoice", "StreamKind", "StreamSpec"],
        "two_stream": ["FusedTwoStream", "TwoStream"],
        "video_model": ["VideoModel"],
        "zoo": ["build_model", "list_models"],
    },
)
