"""A network made ready for inference: the same numbers, several times faster.

What is done, and to which layers, is in :func:`optimize`; the layers are in :mod:`quovadis.models.fast_layers`.
"""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, UnknownNameError
from quovadis.models.conv3d import FullyConnectedUnit
from quovadis.models.fast_layers import FastInceptionBlock, FastPointwise, FastPool, FastTimeConv, FastTrunk
from quovadis.models.inception import InceptionBlock, InceptionV1, MaxPoolSame
from quovadis.models.layers import BatchNorm2d, BatchNorm3d, ConvUnit, ShiftBatchNorm
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.resnet import Bottleneck, ResNet50
from quovadis.models.video_model import VideoModel

Precision = Literal["float32", "bfloat16", "float16"]
Backend = Literal["torch", "compile", "openvino"]

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class InferenceModel(VideoModel):
    """What :func:`optimize` returns: the contract of the model that it was made from, without training.

    ``forward`` is ``classify(features(...))``; both give float32 (or float64, as the model they were made from), in
    whatever the convolutions are computed. Its ``state_dict`` is its own: keep the weights of the model that it was
    made from.
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
        self._features: Callable[..., Tensor] = _runner(network, precision, backend)

    def forward(self, *streams: Tensor) -> Tensor:
        """Logits (B, classes); inputs, shapes and errors as of the model that it was made from."""
        return self.classify(self.features(*streams))

    @torch.no_grad()
    def features(self, *streams: Tensor) -> Tensor:
        """Features (B, T', D)."""
        self.check_inputs(*streams)
        return self._features(*self._lowered(streams)).to(self._dtype)

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return self.network.classify(features)

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Receptive field of the original model."""
        return self._receptive_field

    @property
    def has_class_maps(self) -> bool:  # type: ignore[override]
        """As of the model that it was made from."""
        return self.network.has_class_maps

    @torch.no_grad()
    def class_maps(self, *streams: Tensor) -> Tensor:
        """Class activation maps, computed by PyTorch whatever ``backend`` is."""
        self.check_inputs(*streams)
        return self.network.class_maps(*self._lowered(streams)).to(self._dtype)

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Logits (B, classes), as the model that it was made from pools."""
        return self.network.pool_class_maps(maps)

    @torch.no_grad()
    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Intermediate outputs, by PyTorch layer after layer, whatever ``backend`` is."""
        self.check_inputs(*streams)
        outputs = self.network.endpoints(*self._lowered(streams), names=names)
        return {name: output.to(self._dtype) for name, output in outputs.items()}

    def first_filters(self) -> dict[str, Tensor]:
        """Those of the model that it was made from, before batch norm was folded into them."""
        return self._filters

    def check_inputs(self, *streams: Tensor) -> None:
        """As the model that it was made from: the convolutions may be in less than the inputs are."""
        lowered = [x.to(self._inner) if isinstance(x, Tensor) and x.dtype == self._dtype else x for x in streams]
        super().check_inputs(*lowered)

    def train(self, mode: bool = True) -> Self:
        """Raise: batch norm is folded away, so nothing is left to train."""
        if mode:
            raise InvalidInputError("an optimized model cannot be trained: train the model that it was made from")
        return super().train(False)

    def _new_head(self, num_classes: int) -> nn.Module:
        raise InvalidInputError(
            "the classifier of an optimized model cannot be replaced: replace that of the model that it was made from, "
            "and optimize it again"
        )

    @property
    def _inner(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    def _lowered(self, streams: Sequence[Tensor]) -> list[Tensor]:
        return [x.to(self._inner) for x in streams]


def optimize(model: VideoModel, *, precision: Precision = "float32", backend: Backend = "torch") -> InferenceModel:
    """A model for inference only, that gives the same numbers in less time; the given one stays as it is.

    - Batch norm is folded into the convolutions, for all networks and backends.
    - On a CPU in float32 (and float64), convolutions over time are Winograd's along time
      (:class:`~quovadis.models.fast_layers.FastTimeConv`), those of one cell are matrix products, poolings go axis by
      axis, branches write into one output, and I3D's first layers run a few frames at a time, which also bounds the
      memory. The logits of I3D in float32 are as near to those in float64 as the plain model's: 1.4e-6 and 1.5e-6 of
      their deviation at most.
    - On a GPU, and where a compiler does the rest, the layers are PyTorch's, with the channels last in memory.

    The batch norms of an LSTM differ from step to step, and stay.

    Args:
        model: any network of :func:`quovadis.create_model`, on a CPU or GPU, in training mode or not.
        precision: of the convolutions; pooling, LSTM and classifier stay in float32, and so do inputs and outputs. On
            a CPU bfloat16 pays only where the processor computes in it (AVX-512 BF16, AMX). I3D's logits then drift by
            1.5 % of their deviation at most in bfloat16, 0.5 % in the mean, and by 0.24 and 0.06 % in float16 (16
            frames of noise, random weights, every convolution's inputs and outputs rounded).
        backend: ``"torch"`` needs nothing else. ``"compile"`` is ``torch.compile`` (on a CPU with frozen weights): it
            wants a C++ compiler on a CPU, and each new shape of input compiles for about a minute. ``"openvino"`` (CPU
            only, extra ``openvino``) compiles each new shape of input for some seconds.

    Raises:
        UnknownNameError: no precision or backend of that name. MissingExtraError: OpenVINO is not installed.
        InvalidInputError: an optimized model, for something else than it was optimized for; OpenVINO on a GPU; no
            compiler.

    Sources: Winograd's convolution after Lavin and Gray, arXiv:1509.09308; the paper is silent on inference speed.

    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("i3d_tiny", num_classes=10).eval()
    >>> fast, x = optimize(model), torch.randn(1, 3, 16, 64, 64)
    >>> torch.allclose(fast(x), model(x), atol=1e-5)
    True
    """
    if precision not in _DTYPES:
        raise UnknownNameError.among("precision", precision, _DTYPES)
    if backend not in get_args(Backend):
        raise UnknownNameError.among("backend", backend, get_args(Backend))
    if isinstance(model, InferenceModel):
        if (model.precision, model.backend) != (precision, backend):
            raise InvalidInputError(
                f"this model is optimized for {model.precision} by {model.backend} already; for {precision} by "
                f"{backend} optimize the model that it was made from"
            )
        return model
    network = _copied(model).eval()
    with torch.no_grad():
        fold_batch_norm(network)
        if precision != "float32":
            _lower(network, _DTYPES[precision])
        network.channels_last()
        if backend == "torch" and next(network.parameters()).device.type == "cpu":
            _speed_up(network, over_time=precision == "float32")
    network.requires_grad_(False)
    return InferenceModel(model, network, precision, backend).eval()


def for_inference(
    model: VideoModel,
    device: torch.device,
    *,
    precision: Precision = "float32",
    backend: Backend = "torch",
) -> InferenceModel:
    """A model on a device, optimized as asked, or as it is already."""
    model = model.to(device)
    return model if isinstance(model, InferenceModel) else optimize(model, precision=precision, backend=backend)


def fold_batch_norm(network: nn.Module) -> None:
    """Multiply every batch norm in evaluation mode into the convolution before it, in place.

    In float64, so that each folded number has one rounding.
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


def _copied(model: VideoModel) -> VideoModel:
    """A copy that shares what nobody changes."""
    kept = {id(model.source): model.source, id(model.spec): model.spec}
    return copy.deepcopy(model, kept)


def _lower(network: VideoModel, dtype: torch.dtype) -> None:
    """The convolutions in less; classifier and LSTM as they are."""
    head = set(network.head.modules())
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module not in head:
            module.to(dtype)


def _speed_up(module: nn.Module, *, over_time: bool) -> None:
    """Replace the layers of a folded network by fast ones, in place."""
    # Inception has one pooling in two places, of which named_children() would show the first only.
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if name and "." not in name:
            _speed_up(child, over_time=over_time)
            setattr(module, name, _fast(child, over_time=over_time))


def _fast(layer: nn.Module, *, over_time: bool) -> nn.Module:
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


def _runner(network: VideoModel, precision: Precision, backend: Backend) -> Callable[..., Tensor]:
    """What computes the features."""
    if backend == "torch":
        return network.features
    device = next(network.parameters()).device.type
    if backend == "openvino":
        from quovadis.models.openvino_backend import OpenVinoFeatures

        if device != "cpu":
            raise InvalidInputError(f"OpenVINO is for the CPU here; the model is on {device}")
        return OpenVinoFeatures(network, precision)
    if device == "cpu":
        return _compiled_on_cpu(network.features)
    compiled = torch.compile(network.features, mode="max-autotune", dynamic=False)
    return lambda *streams: compiled(*streams).clone()  # the next call of a CUDA graph writes where this one did


def _compiled_on_cpu(features: Callable[..., Tensor]) -> Callable[..., Tensor]:
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl") if name):
        raise InvalidInputError(
            "backend 'compile' needs a C++ compiler on a CPU, and there is none: install g++ or set CXX, or use "
            "backend 'torch' or 'openvino'"
        )
    options: dict[str, Any] = {"freezing": True}
    compiled = torch.compile(features, dynamic=False, options=options)

    def run(*streams: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about itself
            return compiled(*streams)

    return run
