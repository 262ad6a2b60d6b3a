"""The VideoModel interface, tested for all models at the input size of their spec."""

import functools
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, InvalidTypeError, TooFewFramesError, UnknownNameError
from quovadis.fvd.embed import VideoEmbedder
from quovadis.inference.features import FeatureExtractor
from quovadis.models.optimization import optimize
from quovadis.models.resnet import I3DResNet50
from quovadis.models.spec import ModelSpec, StreamSpec
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import MODELS, build_model, list_models
from tests.models.settled import settled

TINY = [name for name in MODELS if name.endswith("_tiny")]
"""Models that are small enough to run. The large ones share their code and are tested on the meta device."""

models = pytest.mark.parametrize("name", list(MODELS))
tiny_models = pytest.mark.parametrize("name", TINY)
models_and_streams = pytest.mark.parametrize(("name", "stream"), [(n, s) for n in MODELS for s in MODELS[n].streams])
tiny_models_and_streams = pytest.mark.parametrize(("name", "stream"), [(n, s) for n in TINY for s in MODELS[n].streams])

# Expected number of features for the number of frames of the first stream.
STEPS_LEFT: dict[str, Callable[[int], int]] = {
    "conv3d": lambda frames: math.ceil(frames / 32),
    "convnet_lstm": lambda frames: frames,
    "fused_two_stream": lambda pairs: math.ceil(pairs / 2),
    "i3d": lambda frames: math.ceil(frames / 8) - 1,
    "i3d_r50": lambda frames: frames // 2,
    "two_stream": lambda pairs: pairs,
}


def inputs(model: VideoModel, batch: int = 1, num_frames: int | None = None, **options: object) -> list[Tensor]:
    """Random inputs with the length of a training clip, or of ``num_frames`` frames of video."""
    spec = model.spec
    return [
        torch.randn(
            batch,
            s.channels,
            s.num_frames if num_frames is None else s.num_frames_in(num_frames),
            spec.size_px,
            spec.size_px,
            **options,  # type: ignore[call-overload]
        )
        for s in spec.streams
    ]


@functools.cache
def unchanged(name: str, stream: str | None = None) -> VideoModel:
    """A cached model with four classes in evaluation mode, for tests that do not modify it."""
    return build_model(name, stream=stream, num_classes=4).eval()


@functools.cache
def unchanged_settled(name: str, stream: str | None = None) -> VideoModel:
    """A cached model with meaningful batch norm statistics, for tests that do not modify it."""
    return settled(build_model(name, stream=stream, num_classes=4))


def steps_left(name: str, x: list[Tensor], stream: str) -> int:
    """Expected number of features for these inputs."""
    frames = x[0].shape[2]
    if stream == "flow" and "two_stream" in name:  # a step for every snippet, and not for every frame
        frames //= 10
    return STEPS_LEFT[name](frames)


def loss_of(model: VideoModel, x: list[Tensor], *labels: int) -> Tensor:
    return model.loss(model(*x), torch.tensor(labels))


def test_each_model_has_tiny_variant() -> None:
    of_the_paper = set(MODELS) - {"i3d_r50"}
    assert {f"{name.removesuffix('_tiny')}_tiny" for name in of_the_paper} == set(TINY)
    assert list_models() == sorted(MODELS)


@models_and_streams
def test_spec_matches_model_and_stream(name: str, stream: str) -> None:
    with torch.device("meta"):
        spec = build_model(name, stream=stream).spec
    assert spec.name == name
    assert [s.kind for s in spec.streams] == stream.split("+")
    assert [s.channels for s in spec.streams] == [{"rgb": 3, "flow": 2}[s.kind] for s in spec.streams]
    assert all(s.num_frames_in(spec.min_frames) > 0 for s in spec.streams)
    span = max(s.extent_frames for s in spec.streams)
    assert max(spec.min_frames, span) <= spec.test_frames
    assert spec.test_frames % (spec.test_clip_frames or spec.test_frames) == 0
    assert span <= (spec.test_clip_frames or spec.test_frames)
    assert spec.size_px <= spec.short_side_px
    assert spec.stream == stream


@models
def test_default_stream_is_that_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        assert build_model(name).spec.stream == ("rgb+flow" if "two_stream" in name else "rgb")


@pytest.mark.parametrize(("name", "stream"), [(n, s) for n in MODELS if n not in TINY for s in MODELS[n].streams])
@torch.no_grad()
def test_shapes_match_spec(name: str, stream: str) -> None:
    with torch.device("meta"):
        model = build_model(name, stream=stream, num_classes=11)
        x = inputs(model, batch=2)
        in_training = model(*x)
        assert in_training.shape == ((2, 25, 11) if name == "convnet_lstm" else (2, 11))
        assert model.video_logits(in_training).shape == (2, 11)
        features = model.eval().features(*x)
        assert features.shape == (2, steps_left(name, x, stream), model.feature_dim)
        outputs = model.endpoints(*x)
    assert list(outputs)[-2:] == ["Logits", "Predictions"]
    assert outputs["Logits"].shape == (2, 11)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in TINY])
def test_any_number_of_frames_from_minimum(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=4).eval()
        step = 10 if "two_stream" in name else 1
        for num_frames in {-(-n // step) * step for n in (model.spec.min_frames, 16, 17, 250)}:
            x = inputs(model, num_frames=num_frames)
            features = model.features(*x)
            assert features.shape == (1, steps_left(name, x, model.spec.stream), model.feature_dim)
            assert model.classify(features).shape == (1, 4)


@tiny_models_and_streams
def test_classify_of_features_equals_forward(name: str, stream: str) -> None:
    model = settled(build_model(name, stream=stream, num_classes=4))
    x = inputs(model, batch=2)
    assert torch.allclose(model.classify(model.features(*x)), model(*x), atol=1e-5)
    scores, features = model(*x), model.features(*x)
    assert not torch.allclose(scores[0], scores[1], atol=1e-3)
    model.get_submodule("dropout").p = 0.0  # type: ignore[assignment]
    assert torch.allclose(model.video_logits(model.train().classify(features)), scores, atol=1e-5)


def test_loss_of_several_steps_is_mean_of_step_losses() -> None:
    model = build_model("i3d_tiny", num_classes=3)
    outputs, labels = torch.randn(4, 5, 3), torch.tensor([0, 2, 1, 1])
    by_hand = torch.stack([torch.nn.functional.cross_entropy(outputs[:, t], labels) for t in range(5)]).mean()
    assert torch.allclose(model.loss(outputs, labels), by_hand)
    assert torch.allclose(
        model.loss(outputs[:, 0].half(), labels),
        torch.nn.functional.cross_entropy(outputs[:, 0], labels),
        atol=1e-3,
    )
    assert torch.equal(model.video_logits(outputs), outputs[:, 4])
    assert torch.equal(model.video_logits(outputs[:, 1]), outputs[:, 1])


@tiny_models
def test_logits_do_not_depend_on_batch(name: str) -> None:
    model = unchanged_settled(name)
    x = inputs(model, batch=3)
    together = model(*x)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], model(*[s[i : i + 1] for s in x]), atol=1e-4)


@tiny_models
@pytest.mark.parametrize("memory", ["contiguous", "channels last", "time first"])
def test_logits_do_not_depend_on_memory_format(name: str, memory: str) -> None:
    model = unchanged_settled(name)
    x = inputs(model)
    stored = {
        "contiguous": lambda v: v.contiguous(),
        "channels last": lambda v: v.contiguous(memory_format=torch.channels_last_3d),
        "time first": lambda v: v.transpose(1, 2).contiguous().transpose(1, 2),
    }[memory]
    assert torch.allclose(model(*[stored(v) for v in x]), model(*x), atol=1e-5)


@tiny_models
def test_endpoints_by_name(name: str) -> None:
    model = unchanged(name)
    x = inputs(model)
    every = model.endpoints(*x)
    names = [list(every)[5], "Logits", next(iter(every))]
    some = model.endpoints(*x, names=names)
    assert list(some) == names
    for key in names:
        assert torch.equal(some[key], every[key])
    assert model.endpoints(*x, names=[]) == {}


@tiny_models
def test_unknown_endpoint_is_rejected_with_suggestion(name: str) -> None:
    model = unchanged(name)
    known = next(iter(model.endpoints(*inputs(model))))
    with pytest.raises(UnknownNameError, match=f"unknown endpoint '{known}x'; did you mean '{known}'"):
        model.endpoints(*inputs(model), names=[f"{known}x"])


@tiny_models
def test_reset_head_replaces_only_classifier(name: str) -> None:
    model = build_model(name, num_classes=4).eval()
    x = inputs(model)
    features = model.features(*x)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.reset_head(7)
    assert model.num_classes == 7
    assert model(*x).shape == (1, 7)
    assert torch.equal(model.features(*x), features)
    after = model.state_dict()
    changed = {key for key in after if after[key].shape != before[key].shape or not after[key].equal(before[key])}
    assert after.keys() == before.keys()
    assert changed
    assert all(key.startswith("head.") for key in changed)
    assert all(p.requires_grad for p in model.get_submodule("head").parameters())


@tiny_models
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_new_head_has_dtype_of_model(name: str, dtype: torch.dtype) -> None:
    model = build_model(name, num_classes=4).to(dtype).eval()
    x = inputs(model, dtype=dtype)
    assert model(*x).dtype == dtype
    model.reset_head(3)
    assert model(*x).shape == (1, 3)
    assert model(*x).dtype == dtype


@models
@pytest.mark.parametrize("num_classes", [0, -1])
def test_num_classes_below_one_is_rejected(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        with pytest.raises(InvalidInputError, match="num_classes must be at least 1"):
            build_model(name, num_classes=num_classes)
        with pytest.raises(InvalidInputError, match="num_classes must be at least 1"):
            build_model(name).reset_head(num_classes)


@tiny_models_and_streams
def test_all_parameters_and_inputs_have_gradients(name: str, stream: str) -> None:
    model = build_model(name, stream=stream, num_classes=4)
    x = inputs(model, batch=3)
    for v in x:
        v.requires_grad_()
    loss_of(model, x, 1, 3, 0).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    for v in x:
        assert v.grad is not None
        assert v.grad.isfinite().all()
        assert v.grad.abs().amax((0, 1, 3, 4)).min() > 0, "a frame that no gradient reaches"


@tiny_models
def test_few_training_steps_reduce_loss(name: str) -> None:
    """Four clips, because batch norm over two clips normalizes any difference to the same value."""
    torch.manual_seed(0)
    model = build_model(name, num_classes=2, dropout=0.0)
    x = inputs(model, batch=4)
    rate = 0.1 if "lstm" in name else 0.02  # scales of 0.1 make small gradients
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    losses = []
    while len(losses) < 15 and (not losses or losses[-1] > losses[0] / 2):
        loss = loss_of(model, x, 0, 1, 1, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] <= losses[0] / 2


@tiny_models
def test_mixed_precision_is_close_to_float32(name: str) -> None:
    """Random weights amplify rounding errors, so the tolerance is relative to the difference between clips."""
    torch.manual_seed(0)
    model = unchanged_settled(name)
    x = inputs(model, batch=2)
    with torch.no_grad():
        full = model.features(*x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model.features(*[v[:1] for v in x])
            assert torch.isfinite(model.classify(mixed)).all()
    assert 0 < (mixed.float() - full[:1]).norm() < 0.5 * (full[0] - full[1]).norm()


WRONG: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "bytes": (lambda x: x.to(torch.uint8), InvalidTypeError, r"got torch.uint8: use quovadis.transforms.to_model"),
    "numpy": (lambda x: x.numpy(), InvalidTypeError, "got float32: use quovadis.transforms.to_model"),
    "a list": (lambda x: [x], InvalidTypeError, "got list"),
    "float64": (lambda x: x.double(), InvalidTypeError, r"is torch.float64.*use x.to\(torch.float32\)"),
    "channels last": (lambda x: x.permute(0, 2, 3, 4, 1), InvalidInputError, r"x.permute\(0, 4, 1, 2, 3\)"),
    "time first": (lambda x: x.transpose(1, 2), InvalidInputError, r"x.transpose\(1, 2\)"),
    "no batch": (lambda x: x[0], InvalidInputError, r"x.unsqueeze\(0\)"),
    "channels": (lambda x: x[:, :1], InvalidInputError, r"must have shape \(B, [23], T, H, W\); got \(1, 1, "),
    "too few frames": (lambda x: x[:, :, :0], TooFewFramesError, r"has 0 frames; \w+ needs at least \d+: use short="),
    "too small": (lambda x: x[..., :20], InvalidInputError, r"too small for \w+.*at least \d+ pixels"),
}


@tiny_models_and_streams
@pytest.mark.parametrize("wrong", list(WRONG))
def test_wrong_input_is_rejected_with_hint(name: str, stream: str, wrong: str) -> None:
    change, error, words = WRONG[wrong]
    model = unchanged(name, stream)
    x = inputs(model)
    for call in (model, model.features):
        with pytest.raises(error, match=words):
            call(*[change(v) for v in x])
    if wrong != "too small":
        with pytest.raises(error, match=words):
            model.endpoints(*[change(v) for v in x])  # type: ignore[arg-type]


def test_layout_hint_is_given_only_if_applicable() -> None:
    model = build_model("i3d_tiny")
    for shape, end in (
        ((1, 4, 16, 64, 64), r"got \(1, 4, 16, 64, 64\)"),
        ((1, 16, 3, 64, 64), r"use x.transpose\(1, 2\)"),
        ((1, 16, 64, 64, 3), r"use x.permute\(0, 4, 1, 2, 3\)"),
        ((3, 16, 3, 64), r"use x.unsqueeze\(0\)"),
        ((16, 3), r"got \(16, 3\)"),
    ):
        with pytest.raises(InvalidInputError, match=end + "$"):
            model(torch.zeros(shape))


@models_and_streams
def test_fewer_than_min_frames_is_rejected(name: str, stream: str) -> None:
    with torch.device("meta"):
        model = build_model(name, stream=stream)
        x = inputs(model, num_frames=model.spec.min_frames)
        least = x[-1].shape[2]
        with pytest.raises(TooFewFramesError, match=rf"has {least - 1} frames?; {name} needs at least {least}:"):
            model(*x[:-1], x[-1][:, :, 1:])


@models_and_streams
def test_wrong_number_of_inputs_is_rejected(name: str, stream: str) -> None:
    with torch.device("meta"):
        model = build_model(name, stream=stream)
        wanted = r"2 inputs \(rgb and flow\)" if stream == "rgb+flow" else rf"1 input \({stream}\)"
        for x in ([], inputs(model) * 2):
            with pytest.raises(InvalidInputError, match=rf"{name} takes {wanted}; got {len(x)}"):
                model(*x)


@tiny_models
def test_batch_of_one_in_training(name: str) -> None:
    model = build_model(name, num_classes=4)
    x = inputs(model)
    if "conv3d" in name or "lstm" in name:
        with pytest.raises(InvalidInputError, match=r"more than one value per channel .* at least two clips"):
            model(*x)
    else:
        assert model(*x).shape == (1, 4)


def test_unknown_names_are_rejected_with_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'i3f'; did you mean 'i3d'"):
        build_model("i3f")
    with pytest.raises(UnknownNameError, match=r"unknown stream 'flwo'; did you mean 'flow'"):
        build_model("i3d", stream="flwo")
    with pytest.raises(InvalidInputError, match=r"conv3d supports stream='rgb'; got 'flow'\. Choose another model"):
        build_model("conv3d", stream="flow")


@tiny_models
def test_channels_last_converts_kernels_and_keeps_results(name: str) -> None:
    model = settled(build_model(name, num_classes=4))
    x = inputs(model)
    before = model(*x)
    assert model.channels_last() is model
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    kernels = [p for p in model.parameters() if p.ndim in layouts]
    assert kernels
    assert all(p.is_contiguous(memory_format=layouts[p.ndim]) for p in kernels)
    assert torch.allclose(model(*x), before, atol=1e-4)


@tiny_models
def test_first_filters_are_first_kernels(name: str) -> None:
    model = build_model(name, num_classes=4)
    found = model.first_filters()
    first = {3, 2, 10, 20}  # channels of a frame, or of a snippet
    kernels = [p.detach() for p in model.parameters() if p.ndim > 3 and p.shape[1] in first]
    assert list(found) == [s.kind for s in model.spec.streams]
    for stream, filters, kernel in zip(model.spec.streams, found.values(), kernels, strict=True):
        assert (filters.ndim, filters.shape[1]) == (5, stream.channels)
        assert torch.allclose(filters.flatten(1).sort().values, kernel.flatten(1).sort().values)


def pooled(name: str, maps: Tensor) -> Tensor:
    """Pool class maps (B, classes, T', h, w) as the network pools its features before the classifier."""
    if name == "i3d_tiny":  # an average pooling of 2 x 2 x 2, written as sums of slices
        maps = (maps[:, :, :-1] + maps[:, :, 1:]) / 2
    return maps.mean((2, 3, 4))


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["rgb", "flow"])
@torch.no_grad()
def test_pooled_class_maps_equal_logits(stream: str) -> None:
    model = settled(build_model("i3d_tiny", stream=stream, num_classes=4)).double()
    for num_frames in (16, 41):
        x = inputs(model, batch=2, num_frames=num_frames, dtype=torch.float64)
        maps = model.class_maps(*x)
        assert maps.shape == (2, 4, math.ceil(num_frames / 8), 2, 2)
        torch.testing.assert_close(pooled("i3d_tiny", maps), model(*x), atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(model.pool_class_maps(maps), model(*x), atol=1e-10, rtol=1e-10)
        assert maps.std((2, 3, 4)).min() > 1e-3, "maps that vary over space and time"
        torch.testing.assert_close(optimize(model).class_maps(*x), maps, atol=1e-9, rtol=1e-9)
        assert model.has_class_maps
        assert optimize(model).has_class_maps


@torch.no_grad()
def test_class_maps_of_resnet_average_to_logits() -> None:
    model = settled(I3DResNet50(num_classes=4, width=1 / 16))
    x = torch.randn(1, 3, 9, 64, 96)
    maps = model.class_maps(x)
    assert maps.shape == (1, 4, 4, 2, 3)
    torch.testing.assert_close(pooled("i3d_r50", maps), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [n for n in TINY if n != "i3d_tiny"])
def test_class_maps_are_rejected_without_linear_head(name: str) -> None:
    model = unchanged(name)
    assert not model.has_class_maps
    assert not optimize(model).has_class_maps
    with pytest.raises(InvalidInputError, match=rf"{name} has no class activation maps.*use i3d"):
        model.class_maps(*inputs(model))


def test_class_maps_of_small_input_are_rejected() -> None:
    with pytest.raises(InvalidInputError, match="too small"):
        unchanged("i3d_tiny").class_maps(torch.zeros(1, 3, 16, 32, 32))


class AverageColor(VideoModel):
    """A network of a user: only what the base class requires."""

    def __init__(self) -> None:
        super().__init__()
        streams = (StreamSpec("rgb", channels=3, num_frames=16),)
        self.spec = ModelSpec("average_color", streams, size_px=64, short_side_px=72, min_frames=1, test_frames=250)
        self.feature_dim = 3
        self.reset_head(2)

    def new_head(self, num_classes: int) -> nn.Module:
        return nn.Linear(3, num_classes)

    def features(self, *streams: Tensor) -> Tensor:
        return streams[0].mean((3, 4)).transpose(1, 2)

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features).mean(1)
        return logits


def test_a_minimal_network_works_where_models_do(clip_path: Path) -> None:
    model, clip = AverageColor().eval(), torch.rand(2, 3, 16, 64, 64)
    found = model.endpoints(clip)
    assert torch.equal(found["Logits"], model(clip))
    assert torch.equal(found["Predictions"], model(clip).softmax(1))
    with pytest.raises(UnknownNameError, match="Known: Logits"):
        model.endpoints(clip, names=["Mixed_5c"])
    assert model.first_filters() == {}
    assert len(FeatureExtractor([model], device="cpu").extract(clip_path)) == 1  # 30 frames, windows of 16
    videos = torch.randint(0, 256, (3, 9, 80, 80, 3), dtype=torch.uint8)
    assert VideoEmbedder("own", weights=model, device="cpu").embed(videos).features.shape == (3, 2)
