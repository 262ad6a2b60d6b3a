"""What every network can do, tested once for all of them, at the size that its own spec asks for."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quovadis.errors import InvalidInputError, InvalidTypeError, TooFewFramesError, UnknownNameError
from quovadis.models.contract import VideoModel
from quovadis.models.zoo import MODELS, build_model, list_models

STREAMS = ("rgb", "flow")
TINY = [name for name in MODELS if name.endswith("_tiny")]
"""The networks whose weights are small enough to run; the large ones have the same code and run without numbers."""

models = pytest.mark.parametrize("name", list(MODELS))
tiny_models = pytest.mark.parametrize("name", TINY)
streams = pytest.mark.parametrize("stream", STREAMS)


def inputs(model: VideoModel, batch: int = 1, num_frames: int | None = None, **options: object) -> list[Tensor]:
    """Random input for each stream of the spec, at its size."""
    size = model.spec.size_px
    return [
        torch.randn(batch, s.channels, num_frames or s.num_frames, size, size, **options)  # type: ignore[call-overload]
        for s in model.spec.streams
    ]


def steps_left(name: str, num_frames: int) -> int:
    """Rows of ``features``: what the strides of the network leave of its frames."""
    return num_frames // 2 if name == "i3d_r50" else math.ceil(num_frames / 8) - 1


def test_each_network_has_a_tiny_variant() -> None:
    of_the_paper = set(MODELS) - {"i3d_r50"}
    assert {f"{name.removesuffix('_tiny')}_tiny" for name in of_the_paper} == set(TINY)
    assert list_models() == sorted(MODELS)


@models
@streams
def test_the_spec_names_the_model_and_the_stream(name: str, stream: str) -> None:
    with torch.device("meta"):
        spec = build_model(name, stream=stream).spec
    assert spec.name == name
    assert [s.kind for s in spec.streams] == [stream]
    assert [s.channels for s in spec.streams] == [{"rgb": 3, "flow": 2}[stream]]
    assert spec.min_frames <= spec.streams[0].num_frames <= spec.test_frames
    assert spec.size_px <= spec.short_side_px


@models
@streams
def test_shapes_follow_the_spec(name: str, stream: str) -> None:
    with torch.device("meta"):
        model = build_model(name, stream=stream, num_classes=11)
        x = inputs(model, batch=2)
        num_frames = model.spec.streams[0].num_frames
        assert model(*x).shape == (2, 11)
        assert model.features(*x).shape == (2, steps_left(name, num_frames), model.feature_dim)
        outputs = model.endpoints(*x)
    assert list(outputs)[-2:] == ["Logits", "Predictions"]
    assert outputs["Logits"].shape == (2, 11)


@models
def test_any_number_of_frames_from_the_smallest_on(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes=4)
        for num_frames in (model.spec.min_frames, 15, 16, 17, 25, 250):
            x = inputs(model, num_frames=num_frames)
            assert model.features(*x).shape == (1, steps_left(name, num_frames), model.feature_dim)


@tiny_models
def test_a_clip_scores_the_same_alone_and_in_a_batch(name: str) -> None:
    model = build_model(name, num_classes=4).eval()
    x = inputs(model, batch=3)
    together = model(*x)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], model(*[s[i : i + 1] for s in x]), atol=1e-5)


@tiny_models
@pytest.mark.parametrize("memory", ["contiguous", "channels last", "time first"])
def test_the_layout_in_memory_does_not_matter(name: str, memory: str) -> None:
    model = build_model(name, num_classes=4).eval()
    x = inputs(model)
    stored = {
        "contiguous": lambda v: v.contiguous(),
        "channels last": lambda v: v.contiguous(memory_format=torch.channels_last_3d),
        "time first": lambda v: v.transpose(1, 2).contiguous().transpose(1, 2),
    }[memory]
    assert torch.allclose(model(*[stored(v) for v in x]), model(*x), atol=1e-5)


@tiny_models
def test_endpoints_come_as_asked(name: str) -> None:
    model = build_model(name, num_classes=4).eval()
    x = inputs(model)
    every = model.endpoints(*x)
    names = [list(every)[5], "Logits", next(iter(every))]
    some = model.endpoints(*x, names=names)
    assert list(some) == names
    for key in names:
        assert torch.equal(some[key], every[key])
    assert model.endpoints(*x, names=[]) == {}


@tiny_models
def test_an_unknown_endpoint_is_named_with_the_nearest(name: str) -> None:
    model = build_model(name, num_classes=4).eval()
    known = next(iter(model.endpoints(*inputs(model))))
    with pytest.raises(UnknownNameError, match=f"unknown endpoint '{known}x'; did you mean '{known}'"):
        model.endpoints(*inputs(model), names=[f"{known}x"])


@tiny_models
def test_reset_head_replaces_the_classifier_and_nothing_else(name: str) -> None:
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
def test_a_fresh_head_has_the_type_of_the_rest(name: str, dtype: torch.dtype) -> None:
    model = build_model(name, num_classes=4).to(dtype).eval()
    x = inputs(model, dtype=dtype)
    assert model(*x).dtype == dtype
    model.reset_head(3)
    assert model(*x).shape == (1, 3)
    assert model(*x).dtype == dtype


@models
@pytest.mark.parametrize("num_classes", [0, -1])
def test_a_classifier_needs_a_class(name: str, num_classes: int) -> None:
    with torch.device("meta"):
        with pytest.raises(InvalidInputError, match="num_classes must be at least 1"):
            build_model(name, num_classes=num_classes)
        with pytest.raises(InvalidInputError, match="num_classes must be at least 1"):
            build_model(name).reset_head(num_classes)


@tiny_models
@streams
def test_gradients_reach_every_parameter_and_the_input(name: str, stream: str) -> None:
    model = build_model(name, stream=stream, num_classes=4)
    x = inputs(model, batch=2)
    for v in x:
        v.requires_grad_()
    torch.nn.functional.cross_entropy(model(*x), torch.tensor([1, 3])).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    for v in x:
        assert v.grad is not None
        assert v.grad.isfinite().all()
        assert v.grad.abs().amax((0, 1, 3, 4)).min() > 0, "a frame that no gradient reaches"


@tiny_models
def test_a_few_steps_learn_to_tell_two_clips_apart(name: str) -> None:
    model = build_model(name, num_classes=2, dropout=0.0)
    x, y = inputs(model, batch=2), torch.tensor([0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(6):
        loss = torch.nn.functional.cross_entropy(model(*x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@tiny_models
def test_mixed_precision_runs_and_stays_near(name: str) -> None:
    model = build_model(name, num_classes=4).eval()
    x = inputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(*x)
    assert torch.allclose(mixed.float(), model(*x), atol=0.05)


WRONG: dict[str, tuple[Callable[[Tensor], object], type[Exception], str]] = {
    "bytes": (lambda x: x.to(torch.uint8), InvalidTypeError, r"got torch.uint8: use quovadis.transforms.to_model"),
    "numpy": (lambda x: x.numpy(), InvalidTypeError, "got float32: use quovadis.transforms.to_model"),
    "a list": (lambda x: [x], InvalidTypeError, "got list"),
    "float64": (lambda x: x.double(), InvalidTypeError, r"is torch.float64.*use x.to\(torch.float32\)"),
    "channels last": (lambda x: x.permute(0, 2, 3, 4, 1), InvalidInputError, r"x.permute\(0, 4, 1, 2, 3\)"),
    "time first": (lambda x: x.transpose(1, 2), InvalidInputError, r"x.transpose\(1, 2\)"),
    "no batch": (lambda x: x[0], InvalidInputError, r"x.unsqueeze\(0\)"),
    "channels": (lambda x: x[:, :1], InvalidInputError, r"must have shape \(B, [23], T, H, W\); got \(1, 1, "),
    "too few frames": (lambda x: x[:, :, :6], TooFewFramesError, r"has 6 frames; \w+ needs at least \d+: use short="),
    "too small": (lambda x: x[..., :20], InvalidInputError, r"too small for \w+.*at least \d+ pixels"),
}


@tiny_models
@streams
@pytest.mark.parametrize("wrong", list(WRONG))
def test_wrong_input_is_explained(name: str, stream: str, wrong: str) -> None:
    change, error, words = WRONG[wrong]
    model = build_model(name, stream=stream, num_classes=4).eval()
    x = inputs(model)
    for call in (model, model.features):
        with pytest.raises(error, match=words):
            call(*[change(v) for v in x])
    if wrong != "too small":
        with pytest.raises(error, match=words):
            model.endpoints(*[change(v) for v in x])  # type: ignore[arg-type]


@models
def test_the_wrong_number_of_inputs_is_explained(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name)
        for x in ([], inputs(model) * 2):
            with pytest.raises(InvalidInputError, match=rf"{name} takes 1 input \(rgb\); got {len(x)}"):
                model(*x)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown model 'i3f'; did you mean 'i3d'"):
        build_model("i3f")
    with pytest.raises(UnknownNameError, match=r"unknown stream 'flwo'; did you mean 'flow'"):
        build_model("i3d", stream="flwo")
