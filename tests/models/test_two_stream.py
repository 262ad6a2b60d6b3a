"""Two-Stream and 3D-Fused: number of parameters, alignment and fusion of streams."""

import pytest
import torch
from torch import Tensor

from quovadis.errors import InvalidInputError
from quovadis.models.inception import InceptionV1, SnippetInceptionV1
from quovadis.models.two_stream import GAUSSIAN_STD, FusedTwoStream, TwoStream
from quovadis.models.zoo import build_model
from tests.models.parameters import googlenet, linear

# A trunk over RGB frames, and one over snippets of ten flow frames with two channels each.
TRUNKS = {"rgb": googlenet(3), "flow": googlenet(20), "rgb+flow": googlenet(3) + googlenet(20)}


def num_parameters(name: str, stream: str) -> int:
    with torch.device("meta"):
        model = build_model(name, stream=stream)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("stream", ["rgb", "flow", "rgb+flow"])
def test_two_stream_has_trunk_and_classifier_per_stream(stream: str) -> None:
    heads = len(stream.split("+")) * linear(1024, 400)
    assert num_parameters("two_stream", stream) == TRUNKS[stream] + heads


@pytest.mark.parametrize("stream", ["rgb", "flow", "rgb+flow"])
def test_fused_has_convolution_over_concatenated_feature_maps(stream: str) -> None:
    grid = 1024 * len(stream.split("+"))
    fusion = 3**3 * grid * 512 + 512  # with a shift for each channel
    assert num_parameters("fused_two_stream", stream) == TRUNKS[stream] + fusion + linear(512, 400)


def test_number_of_parameters_of_the_paper() -> None:
    """Table 1: 12 M, and 39 M without the classifier, which requires concatenation instead of a sum."""
    assert num_parameters("two_stream", "rgb+flow") // 10**6 == 12
    assert (num_parameters("fused_two_stream", "rgb+flow") - linear(512, 400)) // 10**6 == 39


def test_shapes_at_full_size() -> None:
    with torch.device("meta"):
        rgb, flow = torch.empty(2, 3, 5, 224, 224), torch.empty(2, 2, 50, 224, 224)
        outputs = build_model("fused_two_stream").eval().endpoints(rgb, flow)
        assert tuple(outputs["rgb/Mixed_5c"].shape) == (2, 1024, 5, 7, 7)
        assert tuple(outputs["flow/Conv2d_1a_7x7"].shape) == (2, 64, 5, 112, 112)
        assert tuple(outputs["flow/Mixed_5c"].shape) == (2, 1024, 5, 7, 7)
        assert tuple(outputs["Conv3d_6a_3x3"].shape) == (2, 512, 5, 7, 7)
        assert tuple(outputs["MaxPool3d_6a_3x3"].shape) == (2, 512, 3, 4, 4)
        outputs = build_model("two_stream").eval().endpoints(rgb, flow)
        assert tuple(outputs["flow/AvgPool"].shape) == (2, 5, 1024)
        assert tuple(outputs["Logits"].shape) == (2, 400)


@pytest.mark.parametrize(("channels", "snippet"), [(2, 10), (2, 3), (3, 1)])
def test_snippet_channels_are_stacked_frame_by_frame(channels: int, snippet: int) -> None:
    """The channels are x and y of the first frame, x and y of the second frame, and so on."""
    over_video = SnippetInceptionV1(channels, snippet, width=1 / 8).eval()
    on_pictures = InceptionV1(2, channels * snippet, width=1 / 8).eval()
    on_pictures.load_state_dict(over_video.state_dict())
    x = torch.randn(2, channels, 3 * snippet, 40, 33)
    stages = dict(over_video.stages(x))
    for number in range(3):
        frames = [x[:, :, number * snippet + t] for t in range(snippet)]
        image = torch.cat(frames, 1)
        for name, want in on_pictures.stages(image):
            torch.testing.assert_close(stages[name][:, :, number], want, atol=1e-5, rtol=1e-4)
    filters = over_video.first_filters()
    assert filters.shape == (8, channels, snippet, 7, 7)
    weight = over_video.get_submodule("Conv2d_1a_7x7.conv").get_parameter("weight")
    assert torch.equal(filters[:, channels - 1, snippet - 1], weight[:, -1])
    assert torch.equal(filters[:, channels - 1, 0], weight[:, channels - 1])


def pair(num: int = 1, snippet: int = 10, batch: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 3, num, 64, 64), torch.randn(batch, 2, num * snippet, 64, 64)


def tiny(name: str, stream: str, state: dict[str, Tensor] | None = None) -> TwoStream | FusedTwoStream:
    model = build_model(f"{name}_tiny", stream=stream, num_classes=5).eval()
    assert isinstance(model, TwoStream | FusedTwoStream)
    if state is not None:
        model.load_state_dict({key: state[key] for key in model.state_dict()})
    return model


def test_logits_of_streams_are_averaged() -> None:
    both = tiny("two_stream", "rgb+flow")
    rgb, flow = pair()
    alone = [
        tiny("two_stream", kind, both.state_dict())(x) for kind, x in (("rgb", rgb), ("flow", flow))
    ]  # the same weights, each stream as a model of its own
    torch.testing.assert_close(both(rgb, flow), (alone[0] + alone[1]) / 2)


def test_logits_of_pairs_are_averaged() -> None:
    model = tiny("two_stream", "rgb+flow")
    rgb, flow = pair(4)
    one_by_one = [model(rgb[:, :, n : n + 1], flow[:, :, 10 * n : 10 * n + 10]) for n in range(4)]
    torch.testing.assert_close(model(rgb, flow), torch.stack(one_by_one).mean(0), atol=1e-5, rtol=1e-4)


def test_fusion_is_convolution_over_streams_and_time() -> None:
    model = tiny("fused_two_stream", "rgb+flow")
    assert isinstance(model, FusedTwoStream)
    rgb, flow = pair(5, snippet=5)
    outputs = model.endpoints(rgb, flow)
    grids = torch.cat([outputs["rgb/Mixed_5c"], outputs["flow/Mixed_5c"]], 1)
    assert grids.shape == (2, 512, 5, 2, 2)
    fused = torch.nn.functional.conv3d(grids, model.fusion.conv.weight, padding=1) / (1 + 1e-3) ** 0.5
    torch.testing.assert_close(outputs["Conv3d_6a_3x3"], fused.relu())
    pooled = torch.stack([fused.relu()[:, :, max(t - 1, 0) : t + 2].amax((2, 3, 4)) for t in (0, 2, 4)], 1)
    torch.testing.assert_close(model.features(rgb, flow), pooled)  # a window of 3 sees all of a 2 x 2 grid
    torch.testing.assert_close(outputs["Logits"], model.head(pooled.mean(1)))


def test_only_fused_model_depends_on_snippet_order() -> None:
    for name, snippet, matters in (("two_stream", 10, False), ("fused_two_stream", 5, True)):
        model = tiny(name, "rgb+flow")
        rgb, flow = pair(5, snippet)
        torch.nn.init.normal_(model.get_submodule("head").get_parameter("weight")) if matters else None
        turned = flow.unflatten(2, (5, snippet)).flip(2).flatten(2, 3)
        same = torch.allclose(model(rgb, flow), model(rgb.flip(2), turned), atol=1e-5)
        assert same is not matters


def test_new_layers_of_fused_model_have_gaussian_weights() -> None:
    model = build_model("fused_two_stream_tiny", num_classes=400)
    for name in ("fusion.conv.weight", "head.weight"):
        weight = model.get_parameter(name).detach()
        assert float(weight.std()) == pytest.approx(GAUSSIAN_STD, rel=0.02)
        assert float(weight.abs().max()) > 3 * GAUSSIAN_STD  # not cut off
    assert not model.get_parameter("head.bias").any()
    assert not build_model("two_stream_tiny").get_parameter("head.flow.bias").any()


@pytest.mark.parametrize(("name", "snippet"), [("two_stream", 10), ("fused_two_stream", 5)])
@pytest.mark.parametrize("shape", [(32, 64), (64, 32)])
def test_frames_smaller_than_last_pooling_are_rejected(name: str, snippet: int, shape: tuple[int, int]) -> None:
    model = tiny(name, "rgb+flow")
    rgb, flow = torch.zeros(1, 3, 1, *shape), torch.zeros(1, 2, snippet, *shape)
    with pytest.raises(InvalidInputError, match=rf"too small for {name}_tiny.* at least 33 pixels"):
        model(rgb, flow)


@pytest.mark.parametrize("name", ["two_stream", "fused_two_stream"])
def test_mismatched_streams_are_rejected(name: str) -> None:
    model = tiny(name, "rgb+flow")
    rgb, flow = pair(2, snippet=5 if name == "fused_two_stream" else 10)
    with pytest.raises(InvalidInputError, match=r"takes \d+ frames of flow for every \d of rgb; got \(2, 2, "):
        model(rgb[:, :, :1], flow)
    with pytest.raises(InvalidInputError, match=r"takes \d+ frames of flow for every \d of rgb; got \(2, 2, "):
        model(rgb[:1], flow)


def test_first_filters_by_stream() -> None:
    shapes = {kind: tuple(w.shape) for kind, w in tiny("two_stream", "rgb+flow").first_filters().items()}
    assert shapes == {"rgb": (16, 3, 1, 7, 7), "flow": (16, 2, 10, 7, 7)}
