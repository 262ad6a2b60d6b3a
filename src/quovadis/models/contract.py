"""What every network here can do, so that nothing else needs to know which one it has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.types import ModelSpec, require_frames


class VideoModel(nn.Module, ABC):
    """A network that names actions. ``spec`` says what its inputs look like, stream by stream.

    Inputs are float32 (B, C, T, H, W) in [-1, 1], one tensor for each stream of ``spec.streams``, in that order;
    :func:`quovadis.transforms.to_model` makes them.
    """

    spec: ModelSpec
    num_classes: int
    feature_dim: int
    """D of :meth:`features`."""
    labels: tuple[str, ...] = ()
    """Class names in the order of the logits; () while nobody has named them, as after :meth:`reset_head`."""
    source: Mapping[str, Any] = MappingProxyType({})
    """Where the numbers came from: the published file, or recipe, step and data identity; empty for random weights."""

    @abstractmethod
    def forward(self, *streams: Tensor) -> Tensor:
        """Logits (B, classes)."""

    @abstractmethod
    def features(self, *streams: Tensor) -> Tensor:
        """Features (B, T', D), one row for each step that the network's time axis is left with."""

    @abstractmethod
    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Intermediate outputs by the paper's endpoint names; all of them, or those asked for.

        Raises:
            UnknownNameError: no endpoint of that name.
        """

    @abstractmethod
    def reset_head(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one for ``num_classes`` unnamed classes; everything else stays.

        Raises:
            InvalidInputError: fewer than one class.
        """

    def channels_last(self) -> Self:
        """Lay the weights out with channels last in memory: the same numbers, in about half the time on a CPU.

        Give inputs the same layout: ``x.contiguous(memory_format=torch.channels_last_3d)``.
        """
        return self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def check_inputs(self, *streams: Tensor) -> None:
        """Raise a readable error unless ``streams`` are what ``spec`` describes."""
        spec = self.spec
        if len(streams) != len(spec.streams):
            wanted = " and ".join(s.kind for s in spec.streams)
            raise InvalidInputError(f"{spec.name} takes {len(spec.streams)} input ({wanted}); got {len(streams)}")
        for x, stream in zip(streams, spec.streams, strict=True):
            what = f"{spec.name}'s {stream.kind} input"
            if not isinstance(x, Tensor) or not torch.is_floating_point(x):
                raise InvalidTypeError(
                    f"{what} must be a floating point tensor in [-1, 1]; got {getattr(x, 'dtype', type(x).__name__)}: "
                    "use quovadis.transforms.to_model"
                )
            weights = next(self.parameters()).dtype
            if x.dtype != weights and not torch.is_autocast_enabled(x.device.type):
                raise InvalidTypeError(f"{what} is {x.dtype}, the model's weights are {weights}: use x.to({weights})")
            if x.ndim != 5 or x.shape[1] != stream.channels:
                hint = ""
                if x.ndim == 5 and x.shape[-1] == stream.channels:
                    hint = "; it looks like (B, T, H, W, C): use x.permute(0, 4, 1, 2, 3)"
                elif x.ndim == 5 and x.shape[2] == stream.channels:
                    hint = "; it looks like (B, T, C, H, W): use x.transpose(1, 2)"
                elif x.ndim == 4:
                    hint = "; for a single clip use x.unsqueeze(0)"
                raise InvalidInputError(
                    f"{what} must have shape (B, {stream.channels}, T, H, W); got {tuple(x.shape)}{hint}"
                )
            require_frames(x.shape[2], spec.min_frames, "the input", spec.name)


def pick_endpoints(outputs: dict[str, Tensor], names: Sequence[str] | None) -> dict[str, Tensor]:
    """The outputs asked for, in the order asked for."""
    if names is None:
        return outputs
    for name in names:
        if name not in outputs:
            raise UnknownNameError.among("endpoint", name, outputs)
    return {name: outputs[name] for name in names}
