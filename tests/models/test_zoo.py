"""Table 1 of the paper compared with the models and their specs."""

import pytest
import torch

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.conv3d import Conv3D
from quovadis.models.convnet_lstm import ConvNetLSTM
from quovadis.models.i3d import I3D
from quovadis.models.resnet import I3DResNet50
from quovadis.models.spec import ModelSpec
from quovadis.models.two_stream import FusedTwoStream, TwoStream
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model, choose_stream

# Millions of parameters; frames and seconds of the footprint in training, and in testing, stream by stream.
TABLE_1 = {
    "convnet_lstm": (9, [25], 5.0, [50], 10.0),
    "conv3d": (79, [16], 0.64, [240], 9.6),
    "two_stream": (12, [1, 10], 0.4, [25, 250], 10.0),
    "fused_two_stream": (39, [5, 50], 2.0, [25, 250], 10.0),
}


def spec_of(name: str) -> ModelSpec:
    with torch.device("meta"):
        return build_model(name).spec


@pytest.mark.parametrize("name", list(TABLE_1))
def test_table_1(name: str) -> None:
    millions, train_frames, train_seconds, test_frames, test_seconds = TABLE_1[name]
    with torch.device("meta"):
        model = build_model(name, num_classes=400)
    spec = model.spec
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions in (int(parameters), round(parameters))  # the table rounds one way here and the other there
    assert [s.num_frames for s in spec.streams] == train_frames
    assert spec.train_seconds == pytest.approx(train_seconds)
    assert [s.num_frames_in(spec.test_frames) for s in spec.streams] == test_frames
    assert spec.test_seconds == pytest.approx(test_seconds)
    assert (spec.fps, spec.protocol) == (25.0, "paper")
    assert (spec.size_px, spec.short_side_px) == ((112, 128) if name == "conv3d" else (224, 256))


@pytest.mark.parametrize("network", [Conv3D, ConvNetLSTM, FusedTwoStream, I3D, I3DResNet50, TwoStream])
def test_networks_have_the_classes_of_kinetics_400_by_default(network: type[VideoModel]) -> None:
    with torch.device("meta"):
        assert network().num_classes == 400


def test_i3d_row_of_table_1_is_two_models() -> None:
    with torch.device("meta"):
        models = [build_model("i3d", stream=stream) for stream in ("rgb", "flow")]
    assert sum(p.numel() for model in models for p in model.parameters()) == 25_358_016
    for model in models:
        assert [s.num_frames for s in model.spec.streams] == [64]
        assert (model.spec.train_seconds, model.spec.test_frames) == (2.56, 250)


def test_choose_stream() -> None:
    assert choose_stream("fused_two_stream") == "rgb+flow"
    assert choose_stream("convnet_lstm") == "rgb"
    assert choose_stream("two_stream_tiny", "flow") == "flow"
    with pytest.raises(InvalidInputError, match=r"i3d supports stream='rgb' or 'flow'; got 'rgb\+flow'"):
        choose_stream("i3d", "rgb+flow")
    with pytest.raises(UnknownNameError, match="unknown stream 'rgb,flow'; did you mean 'rgb\\+flow'"):
        choose_stream("two_stream", "rgb,flow")
    with pytest.raises(UnknownNameError, match="unknown model 'two_streams'; did you mean 'two_stream'"):
        choose_stream("two_streams", "rgb")
