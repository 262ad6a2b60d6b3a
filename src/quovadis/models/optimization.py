"""Model optimization for inference: folded batch norm, faster CPU layers, reduced precision and compilers."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.cuda_graph import GraphedFeatures
from quovadis.models.fast_layers import FastInceptionBlock, FastPointwise, FastPool, FastTimeConv, FastTrunk
from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import BatchNorm2d, BatchNorm3d, ConvUnit, ShiftBatchNorm
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.resnet import Bottleneck, ResNet50
from quovadis.models.spec import Backend, Precision
from quovadis.models.video_model import VideoModel

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class InferenceModel(VideoModel):
    """A model for inference created by :func:`optimize`. It has the interface of the original model but cannot train.

    Inputs and outputs have the dtype of the original model regardless of ``precision``. The state dict is specific to
    the optimized layers: save the weights of the original model instead.

    Attributes:
        precision: Precision of the convolutions.
        backend: Library that computes the features.
    """

    def __init__(self, model: VideoModel, network: VideoModel, precision: Precision, backend: Backend):
        super().__init__()
        self.spec, self.num_classes, self.feature_dim = model.spec, model.num_classes, model.feature_dim
        self.labels, self.source = model.labels, model.source
        self._receptive_field = model.receptive_field
        self.precision, self.backend = precision, backend
        self.network = network
        self._filters = {kind: weight.clone() for kind, weight in model.first_filters().items()}
        self._dtype = next(model.parameters()).dtype
        self._features: Callable[..., Tensor] = _feature_function(network, precision, backend)

    @torch.no_grad()
    def features(self, *streams: Tensor) -> Tensor:
        """Compute features (B, T', D)."""
        self.check_inputs(*streams)
        return self._features(*self._cast(streams)).to(self._dtype)

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Compute logits (B, classes)."""
        return self.network.classify(features)

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Receptive field of the original model."""
        return self._receptive_field

    @property
    def has_class_maps(self) -> bool:  # type: ignore[override]
        """Whether the original model supports :meth:`class_maps`."""
        return self.network.has_class_maps

    @torch.no_grad()
    def class_maps(self, *streams: Tensor) -> Tensor:
        """Compute class activation maps, with PyTorch for every backend."""
        self.check_inputs(*streams)
        return self.network.class_maps(*self._cast(streams)).to(self._dtype)

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Pool class activation maps to logits (B, classes)."""
        return self.network.pool_class_maps(maps)

    @torch.no_grad()
    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute intermediate outputs, with PyTorch for every backend."""
        return super().endpoints(*streams, names=names)

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        for name, output in self.network._endpoints(self._cast(streams), names):
            yield name, output.to(self._dtype)

    def first_filters(self) -> dict[str, Tensor]:
        """Return the first filters of the original model, without folded batch norm."""
        return self._filters

    def check_inputs(self, *streams: Tensor) -> None:
        """Check that the inputs match the spec and have the dtype of the original model."""
        cast = [x.to(self._network_dtype) if isinstance(x, Tensor) and x.dtype == self._dtype else x for x in streams]
        super().check_inputs(*cast)

    def train(self, mode: bool = True) -> Self:
        """Raise for ``mode=True`` because an optimized model cannot be trained."""
        if mode:
            raise InvalidInputError("an optimized model cannot be trained: train the original model")
        return super().train(False)

    def new_head(self, num_classes: int) -> nn.Module:
        """Refuse: the classifier is part of the optimized layers."""
        raise InvalidInputError(
            "the classifier of an optimized model cannot be replaced: replace that of the original model and "
            "optimize it again"
        )

    @property
    def _network_dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def _cast(self, streams: Sequence[Tensor]) -> list[Tensor]:
        return [x.to(self._network_dtype) for x in streams]


def optimize(model: VideoModel, *, precision: Precision = "float32", backend: Backend = "torch") -> InferenceModel:
    """Create a faster copy of a model for inference.

    Batch norm is folded into the convolutions for all models, except in the LSTM, where it differs between steps. On a
    CPU in float32 or float64, the layers are replaced as well: temporal convolutions use Winograd's algorithm
    (:class:`~quovadis.models.fast_layers.FastTimeConv`), pointwise convolutions are matrix products, and I3D processes
    its first layers a few frames at a time, which also limits memory use. Two threads each compute half of the frames
    (:func:`~quovadis.runtime.parallel.run_in_halves`). In float32, the logits of I3D deviate from those in float64 by
    at most 1.4e-6 of their standard deviation (1.5e-6 for the original model).

    On an NVIDIA GPU, I3D uses fused Triton kernels (:mod:`quovadis.models.triton_layers`). Inputs of up to 8 clips of
    64 frames run as a CUDA graph from the second call with the same shape on (:mod:`quovadis.models.cuda_graph`).

    Args:
        model: A model of :func:`quovadis.create_model` on any device. It is not modified.
        precision: Precision of the convolutions: ``"float32"``, ``"bfloat16"`` or ``"float16"``. Pooling, LSTM and
            classifier stay in float32, and so do inputs and outputs. On a CPU, bfloat16 is only faster with hardware
            support (AVX-512 BF16, AMX). The logits of I3D deviate by up to 1.5 % of their standard deviation in
            bfloat16 and 0.24 % in float16 (on average 0.5 % and 0.06 %; 16 frames of noise, random weights).
        backend: ``"torch"`` has no further requirements. ``"compile"`` uses ``torch.compile``, takes about a minute
            for each new input shape and needs a C++ compiler on a CPU. ``"openvino"`` supports CPUs only, takes some
            seconds for each new input shape and needs the extra ``openvino``.

    Returns:
        The optimized model in evaluation mode. An optimized model with the same settings is returned unchanged.

    Raises:
        UnknownNameError: If there is no precision or backend of that name.
        InvalidInputError: If ``model`` is optimized with other settings, the backend is ``"openvino"`` and the model is
            on a GPU, or no C++ compiler is installed for ``"compile"``.
        MissingExtraError: If the backend is ``"openvino"`` and OpenVINO is not installed.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("i3d_tiny", num_classes=10).eval()
        >>> fast, x = optimize(model), torch.randn(1, 3, 16, 64, 64)
        >>> torch.allclose(fast(x), model(x), atol=1e-5)
        True

    References:
        Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.
    """
    if precision not in _DTYPES:
        raise UnknownNameError.among("precision", precision, _DTYPES)
    if backend not in get_args(Backend):
        raise UnknownNameError.among("backend", backend, get_args(Backend))
    if isinstance(model, InferenceModel):
        if (model.precision, model.backend) != (precision, backend):
            raise InvalidInputError(
                f"the model is already optimized with precision {model.precision!r} and backend {model.backend!r}; got "
                f"{precision!r} and {backend!r}. Optimize the original model"
            )
        return model
    shared = {id(model.source): model.source, id(model.spec): model.spec}
    network = copy.deepcopy(model, shared).eval()
    with torch.no_grad():
        fold_batch_norm(network)
        if precision != "float32" and backend != "openvino":  # OpenVINO converts a float32 network itself
            _cast_convolutions(network, _DTYPES[precision])
        network.channels_last()
        device = next(network.parameters()).device.type
        if backend == "torch" and device == "cpu":
            _replace_layers(network, over_time=precision == "float32")
        elif backend == "torch" and device == "cuda" and find_spec("triton"):
            _use_triton(network)
    network.requires_grad_(False)
    return InferenceModel(model, network, precision, backend).eval()


def for_inference(
    model: VideoModel,
    device: torch.device,
    *,
    precision: Precision = "float32",
    backend: Backend = "torch",
) -> InferenceModel:
    """Move a model to a device and optimize it. An optimized model is returned unchanged, whatever its settings."""
    model = model.to(device)
    return model if isinstance(model, InferenceModel) else optimize(model, precision=precision, backend=backend)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place, with its running statistics.

    The computation uses float64, so each weight is rounded only once.

    Args:
        network: A model or module in evaluation mode.
    """
    for module in list(network.modules()):
        match module:
            case ConvUnit() | FullyConnectedUnit():
                pairs = [("conv", "batch_norm")]
            case Bottleneck():
                pairs = [(f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
                if module.downsample is not None:
                    _fold(module.downsample, "0", "1")
            case ResNet50():
                pairs = [("conv1", "bn1")]
            case _:
                continue
        for conv, norm in pairs:
            _fold(module, conv, norm)


def _fold(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d | nn.Conv3d)
    assert isinstance(norm, ShiftBatchNorm | BatchNorm2d | BatchNorm3d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if not isinstance(norm, ShiftBatchNorm):
        scale = scale * norm.weight.double()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    weight, dtype = conv.weight, conv.weight.dtype
    scaled = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    conv.weight = nn.Parameter(scaled.to(dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(dtype), requires_grad=False)
    setattr(module, norm_name, nn.Identity())


def _cast_convolutions(network: VideoModel, dtype: torch.dtype) -> None:
    """Cast all convolutions except the classifier to ``dtype``."""
    head = set(network.head.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module not in head:
            module.to(dtype)


def _replace_layers(module: nn.Module, *, over_time: bool) -> None:
    """Replace the layers of a network without batch norm by faster ones, in place."""
    # One pooling module of Inception is registered under two names; named_children() would skip the second one.
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if name and "." not in name:
            _replace_layers(child, over_time=over_time)
            setattr(module, name, _fast_layer(child, over_time=over_time))


def _fast_layer(layer: nn.Module, *, over_time: bool) -> nn.Module:
    match layer:
        case MaxPoolSame():
            return FastPool(layer)
        case InceptionBlock():
            return FastInceptionBlock(layer)
        case InceptionV1(dims=3) if over_time:
            return FastTrunk(layer)
        case ConvUnit(conv=conv) if set(conv.kernel_size) == {1}:
            return FastPointwise(conv)
        case ConvUnit(conv=nn.Conv3d() as conv) if over_time:
            return FastTimeConv(conv)
    return layer


def _use_triton(network: VideoModel) -> None:
    """Replace the trunk of I3D by one with fused Triton kernels, in place."""
    from quovadis.models.triton_layers import TritonTrunk

    for name, child in network.named_children():
        if isinstance(child, InceptionV1) and child.dims == 3:
            setattr(network, name, TritonTrunk(child))


def _feature_function(network: VideoModel, precision: Precision, backend: Backend) -> Callable[..., Tensor]:
    """Create the function that computes the features."""
    device = next(network.parameters()).device.type
    if backend == "torch":
        return GraphedFeatures(network) if device == "cuda" else network.features
    if backend == "openvino":
        from quovadis.models.openvino_backend import OpenVinoFeatures

        if device != "cpu":
            raise InvalidInputError(
                f"backend 'openvino' supports CPUs only; the model is on {device}. Use backend 'compile'"
            )
        return OpenVinoFeatures(network, precision)
    if device == "cpu":
        return _compiled_on_cpu(network.features)
    compiled = torch.compile(network.features, mode="max-autotune", dynamic=False)
    return lambda *streams: compiled(*streams).clone()  # the next call overwrites the output of a CUDA graph


def _compiled_on_cpu(features: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl") if name):
        raise InvalidInputError(
            "backend 'compile' needs a C++ compiler on a CPU, but none was found: install g++, set CXX, or use backend "
            "'torch' or 'openvino'"
        )
    options: dict[str, Any] = {"freezing": True}
    compiled = torch.compile(features, dynamic=False, options=options)

    def run(*streams: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about internals of the compiler
            return compiled(*streams)

    return run
