"""Optimized models compared with the original models and the official graph."""

import builtins
import copy
import importlib.util
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quovadis
from benchmarks.parity import GOLDEN, compare, reference_model
from quovadis.errors import InvalidInputError, InvalidTypeError, MissingExtraError, TooFewFramesError, UnknownNameError
from quovadis.models import fast_layers
from quovadis.models.fast_layers import FastTimeConv, FastTrunk
from quovadis.models.inception import MaxPoolSame
from quovadis.models.layers import BatchNorm2d, BatchNorm3d, ConvUnit, ShiftBatchNorm, max_pool_same
from quovadis.models.optimization import InferenceModel, for_inference, optimize
from quovadis.models.resnet import I3DResNet50
from quovadis.models.spec import Precision
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import build_model
from tests.models.test_video_model import inputs, tiny_models_and_streams, unchanged_settled

SINGLE, DOUBLE = torch.float32, torch.float64


def settled_r50() -> VideoModel:
    """A narrow I3D-R50 with random batch norm scales and statistics."""
    torch.manual_seed(0)
    model = I3DResNet50(num_classes=4, width=1 / 8)
    for module in model.modules():
        if isinstance(module, BatchNorm2d | BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def largest(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the standard deviation of the expected values."""
    return float((found - expected).abs().max() / expected.std())


def assert_alike(model: VideoModel, x: list[Tensor], tolerance: float) -> None:
    fast = optimize(model)
    with torch.no_grad():
        expected, found = model.endpoints(*x), fast.endpoints(*x)
        assert list(found) == list(expected)
        for name in expected:
            assert found[name].shape == expected[name].shape
            assert found[name].dtype == expected[name].dtype
            assert largest(found[name], expected[name]) < tolerance, name
        assert largest(fast(*x), model(*x)) < tolerance
        assert largest(fast.features(*x), model.features(*x)) < tolerance
        assert largest(fast.classify(model.features(*x)), model(*x)) < tolerance


@tiny_models_and_streams
def test_optimized_models_give_same_results(name: str, stream: str) -> None:
    model = copy.deepcopy(unchanged_settled(name, stream)).double()
    assert_alike(model, inputs(model, 2, dtype=DOUBLE), 1e-10)


def test_optimized_resnet_gives_same_results() -> None:
    model = settled_r50().double()
    assert_alike(model, [torch.randn(2, 3, 10, 63, 66, dtype=DOUBLE)], 1e-10)


@pytest.mark.parametrize(
    "size",
    [(9, 64, 64), (10, 65, 71), (15, 66, 70), (21, 79, 64), pytest.param((34, 64, 97), marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-10), (SINGLE, 3e-4)])
def test_odd_and_even_sizes(size: tuple[int, int, int], dtype: torch.dtype, tolerance: float) -> None:
    model = copy.deepcopy(unchanged_settled("i3d_tiny", "flow")).to(dtype)
    assert_alike(model, [torch.rand(2, 2, *size, dtype=dtype) * 2 - 1], tolerance)


@pytest.mark.parametrize("dtype", [SINGLE, pytest.param(DOUBLE, marks=pytest.mark.slow)], ids=["float32", "float64"])
@pytest.mark.parametrize("size", ["17x112x96", "19x197x211"])
def test_endpoints_agree_with_official_graph(size: str, dtype: torch.dtype) -> None:
    """With the same tolerances as the original network."""
    network = optimize(reference_model(GOLDEN).to(dtype)).network
    assert any(isinstance(layer, FastTimeConv) for layer in network.modules())
    rows = list(compare(network, GOLDEN, size, dtype))
    assert len(rows) > 15
    assert [(row.endpoint, row.difference, row.tolerance) for row in rows if not row.holds] == []


def test_chunked_forward_equals_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """The results do not depend on the chunk size of the first layers."""
    model = optimize(copy.deepcopy(unchanged_settled("i3d_tiny")).double())
    assert isinstance(model.network.trunk, FastTrunk)
    x = torch.rand(2, 3, 37, 65, 96, dtype=DOUBLE) * 2 - 1
    last = model.endpoints(x, names=["Mixed_5c"])["Mixed_5c"]
    for values in (1, 2**18, 2**30):
        monkeypatch.setattr(fast_layers, "_CHUNK_VALUES", values)
        assert largest(model.network.trunk(x), last) < 1e-10


@pytest.mark.parametrize("small_clip", [0, 1e30])
@pytest.mark.parametrize("size", [(9, 64, 64), (16, 64, 64), (37, 65, 96)])
def test_results_depend_neither_on_the_batch_nor_on_dividing_the_work(
    size: tuple[int, int, int], small_clip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_layers, "_SMALL_CLIP", small_clip)
    model = optimize(unchanged_settled("i3d_tiny"))
    x = torch.rand(1, 3, *size) * 2 - 1
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = model.features(x)[0]
        torch.set_num_threads(2)
        for batch_size in (1, 2, 3, 4):
            for row in model.features(x.expand(batch_size, -1, -1, -1, -1)):
                assert torch.equal(row, expected), batch_size
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 1), (4, 1), (3, 2), (7, 2), (4, 2), (7, 3)])
@pytest.mark.parametrize("num_frames", [1, 2, 5, 12])
def test_fast_time_conv_equals_pytorch(kernel: int, stride: int, num_frames: int) -> None:
    unit = ConvUnit(3, 3, 4, kernel, stride).double().eval()
    unit.batch_norm = nn.Identity()  # type: ignore[assignment]
    unit.conv.bias = nn.Parameter(torch.randn(4, dtype=DOUBLE))
    x = torch.randn(2, 3, num_frames, 9, 6, dtype=DOUBLE)
    with torch.no_grad():
        torch.testing.assert_close(FastTimeConv(unit.conv)(x), unit(x), atol=1e-12, rtol=1e-12)  # type: ignore[arg-type]


def test_float32_rounding_error_is_near_that_of_direct_sum() -> None:
    torch.manual_seed(0)
    unit = ConvUnit(3, 96, 32, 3).eval()
    unit.batch_norm = nn.Identity()  # type: ignore[assignment]
    unit.conv.bias = nn.Parameter(torch.zeros(32))
    x = torch.randn(1, 96, 8, 14, 14).relu()
    with torch.no_grad():
        direct, fast = unit(x), FastTimeConv(unit.conv)(x)  # type: ignore[arg-type]
        exact = unit.double()(x.double())
    direct_error, fast_error = ((y - exact).std() / exact.std() for y in (direct, fast))
    assert fast_error < 10 * direct_error
    assert fast_error < 3e-6


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (2, 2, 2), (4, 3, 5)])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2), (1, 2, 3)])
def test_fast_pooling_equals_plain_pooling(kernel: tuple[int, ...], stride: tuple[int, ...]) -> None:
    for size in ((7, 9, 6), (8, 5, 4), (1, 2, 3)):
        x = torch.randn(2, 3, *size) - 5
        found, expected = (pool(x, kernel, stride) for pool in (fast_layers.max_pool_fast, max_pool_same))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("precision", "drift"), [("bfloat16", 0.2), pytest.param("float16", 0.1, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["i3d_tiny", "two_stream_tiny", "convnet_lstm_tiny", "conv3d_tiny"])
def test_reduced_precision_is_close_and_returns_float32(name: str, precision: Any, drift: float) -> None:
    model = unchanged_settled(name)
    x = inputs(model, 2)
    with torch.no_grad():
        fast = optimize(model, precision=precision)
        expected, found = model.features(*x), fast.features(*x)
        assert fast(*x).dtype == found.dtype == torch.float32
    assert 0 < float((found - expected).norm() / expected.norm()) < drift


def test_optimize_does_not_modify_model() -> None:
    model = build_model("i3d_tiny", num_classes=3).train()
    model.labels, model.source = ("a", "b", "c"), {"file": "x"}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = quovadis.optimize(model)
    assert model.training
    assert any(isinstance(m, ShiftBatchNorm) for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert (fast.labels, fast.source, fast.spec) == (model.labels, model.source, model.spec)
    assert (fast.num_classes, fast.feature_dim, fast.training) == (3, model.feature_dim, False)
    assert torch.equal(fast.first_filters()["rgb"], model.first_filters()["rgb"])
    assert not any(isinstance(m, ShiftBatchNorm | MaxPoolSame | ConvUnit) for m in fast.modules())


def test_batch_norm_is_folded_and_i3d_trunk_is_replaced() -> None:
    """Unchanged layers would give the same results, but more slowly."""
    for model in (settled_r50(), unchanged_settled("i3d_tiny"), unchanged_settled("conv3d_tiny")):
        fast = optimize(model)
        assert not any(isinstance(m, ShiftBatchNorm | BatchNorm2d | BatchNorm3d) for m in fast.modules())
        assert any(isinstance(m, FastTrunk) for m in fast.modules()) == (model.spec.name == "i3d_tiny")


def test_layers_are_not_replaced_on_other_devices() -> None:
    """Tested on the meta device."""
    with torch.device("meta"):
        fast = optimize(build_model("i3d", num_classes=7), precision="bfloat16")
        x = torch.empty(2, 3, 64, 224, 224)
    assert not any(isinstance(m, FastTimeConv | ShiftBatchNorm) for m in fast.modules())
    assert (fast(x).shape, fast(x).dtype) == ((2, 7), torch.float32)
    assert fast.features(x).shape == (2, 7, 1024)


def test_optimized_model_cannot_train() -> None:
    model = unchanged_settled("i3d_tiny")
    fast = optimize(model)
    with pytest.raises(InvalidInputError, match="cannot be trained: train the original model"):
        fast.train()
    with pytest.raises(InvalidInputError, match="replace that of the original model"):
        fast.reset_head(3)
    assert not fast(*inputs(model)).requires_grad
    assert fast.eval() is fast


def test_optimizing_twice_returns_same_model() -> None:
    model = unchanged_settled("i3d_tiny")
    fast = optimize(model)
    assert optimize(fast) is fast
    assert for_inference(fast, torch.device("cpu"), precision="bfloat16") is fast
    with pytest.raises(
        InvalidInputError, match="optimized with precision 'float32' and backend 'torch'; got 'bfloat16'"
    ):
        optimize(fast, precision="bfloat16")


def test_optimized_model_rejects_wrong_inputs() -> None:
    for fast in (optimize(unchanged_settled("i3d_tiny")), optimize(unchanged_settled("i3d_tiny"), precision="float16")):
        with pytest.raises(InvalidInputError, match=r"use x\.permute"):
            fast(torch.zeros(1, 16, 64, 64, 3))
        with pytest.raises(TooFewFramesError):
            fast.features(torch.zeros(1, 3, 8, 64, 64))
        with pytest.raises(InvalidTypeError):
            fast(torch.zeros(1, 3, 16, 64, 64, dtype=DOUBLE))
        with pytest.raises(UnknownNameError, match="endpoint"):
            fast.endpoints(torch.zeros(1, 3, 16, 64, 64), names=["Mixed_9z"])


def test_unknown_options_are_rejected() -> None:
    model = unchanged_settled("i3d_tiny")
    with pytest.raises(UnknownNameError, match=r"unknown precision 'bf16'; .*Known: bfloat16, float16, float32"):
        optimize(model, precision="bf16")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown backend 'openvin'; did you mean 'openvino'"):
        optimize(model, backend="openvin")  # type: ignore[arg-type]


def test_missing_compiler_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InvalidInputError, match=r"needs a C\+\+ compiler on a CPU, but none was found"):
        optimize(unchanged_settled("i3d_tiny"), backend="compile")


def test_missing_openvino_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "openvino":
            raise ImportError(name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[openvino\]"):
        optimize(unchanged_settled("i3d_tiny"), backend="openvino")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize("name", ["i3d_tiny", "convnet_lstm_tiny"])
def test_openvino_gives_same_results(name: str) -> None:
    model = unchanged_settled(name)
    fast = optimize(model, backend="openvino")
    assert isinstance(fast, InferenceModel)
    for batch in (2, 3):
        x = inputs(model, batch)
        with torch.no_grad():
            assert largest(fast(*x), model(*x)) < 3e-3
            assert largest(fast.features(*x), model.features(*x)) < 3e-3


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.5), ("float16", 0.3)])
def test_openvino_reduces_the_precision(precision: Precision, error: float) -> None:
    model = unchanged_settled("i3d_tiny")
    fast, x = optimize(model, precision=precision, backend="openvino"), inputs(model, 1)
    with torch.no_grad():
        found, expected = fast.features(*x), model.features(*x)
    assert found.dtype == torch.float32
    assert float((found - expected).norm() / expected.norm()) < error
