"""What every network here can do, so that nothing else needs to know which one it has."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.spec import ModelSpec
from quovadis.video.clip import require_frames


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
    """Origin of the weights: the published file, or recipe, step and data fingerprint; empty for random weights."""

    @abstractmethod
    def forward(self, *streams: Tensor) -> Tensor:
        """Logits (B, classes).

        In training a model may give them for several steps, (B, steps, classes), where it has to know the class at each
        of them; :meth:`loss` and :meth:`answer` take either.
        """

    @abstractmethod
    def features(self, *streams: Tensor) -> Tensor:
        """Features (B, T', D), one row for each step that the network's time axis is left with."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """What :meth:`forward` gives, from the :meth:`features` of the same input.

        They are what ``head`` sees, so a new classifier can be trained on features that were computed once.
        """

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Temporal receptive field of :meth:`features`, or None if they are not a convolution over time.

        With a receptive field, the features of a long video can be computed in chunks.
        """
        return None

    has_class_maps: bool = False
    """Whether :meth:`class_maps` works."""

    def class_maps(self, *streams: Tensor) -> Tensor:
        """Compute the class activation maps: the evidence for each class at each position, (B, classes, T', h, w).

        Where a linear classifier follows average pooling, the classifier can be applied to the grid before the pooling
        instead. Pooling the maps as the network pools its features gives exactly the logits, so the maps are no
        approximation (Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016).

        Args:
            streams: inputs as for :meth:`forward`. Dropout is not applied.

        Raises:
            InvalidInputError: The network has more than a linear layer after its last grid, or none over space.
        """
        raise InvalidInputError(
            f"{self.spec.name} has no class activation maps: its classifier is not a linear layer over average-pooled "
            "features; use i3d, i3d_tiny or i3d_r50"
        )

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Pool the maps of :meth:`class_maps` as the network pools its features: logits (B, classes).

        Args:
            maps: float (B, classes, T', h, w).
        """
        return maps.mean((2, 3, 4))

    @abstractmethod
    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Intermediate outputs by the paper's endpoint names; all of them, or those asked for.

        Raises:
            UnknownNameError: no endpoint of that name.
        """

    @abstractmethod
    def _new_head(self, num_classes: int) -> nn.Module:
        """A classifier with random weights."""

    def reset_head(self, num_classes: int) -> None:
        """Replace the classifier by a fresh one for ``num_classes`` unnamed classes; everything else stays.

        Raises:
            InvalidInputError: fewer than one class.
        """
        if num_classes < 1:
            raise InvalidInputError(f"num_classes must be at least 1; got {num_classes}")
        rest = next(self.parameters())
        self.num_classes = num_classes
        self.labels = ()
        self.head = self._new_head(num_classes).to(rest.device, rest.dtype)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What training makes small: the mean cross-entropy over clips, and over steps where there are several.

        Args:
            outputs: what :meth:`forward` gave, (B, classes) or (B, steps, classes).
            labels: int64 (B,).
        """
        if outputs.ndim == 3:
            labels = labels.repeat_interleave(outputs.shape[1])
        return F.cross_entropy(outputs.float().flatten(0, -2), labels)

    def answer(self, outputs: Tensor) -> Tensor:
        """The logits (B, classes) that count: those of the last step where :meth:`forward` gave several."""
        return outputs[:, -1] if outputs.ndim == 3 else outputs

    def first_filters(self) -> dict[str, Tensor]:
        """The first convolution of each stream, (filters, C, T, h, w), by the stream's kind: figure 4 of the paper."""
        first = next(p for p in self.parameters() if p.ndim == 5)
        return {self.spec.stream: first.detach()}

    def channels_last(self) -> Self:
        """Lay the weights out with channels last in memory: the same numbers, in about half the time on a CPU.

        Give inputs the same layout: ``x.contiguous(memory_format=torch.channels_last_3d)``.
        """
        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self.parameters():
            if parameter.ndim in layouts:
                parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
        return self

    def check_inputs(self, *streams: Tensor) -> None:
        """Raise a readable error unless ``streams`` are what ``spec`` describes."""
        spec = self.spec
        if len(streams) != len(spec.streams):
            wanted = " and ".join(s.kind for s in spec.streams)
            plural = "s" * (len(spec.streams) > 1)
            raise InvalidInputError(
                f"{spec.name} takes {len(spec.streams)} input{plural} ({wanted}); got {len(streams)}"
            )
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
            require_frames(x.shape[2], stream.frames_in(spec.min_frames), "the input", spec.name)
        self._check_same_time(*streams)

    def _check_same_time(self, *streams: Tensor) -> None:
        """Raise unless each stream has its share of frames: ten of flow for each RGB frame, say."""
        first, given = self.spec.streams[0], streams[0].shape
        for x, stream in zip(streams[1:], self.spec.streams[1:], strict=True):
            if x.shape[2] * first.num_frames != given[2] * stream.num_frames or x.shape[0] != given[0]:
                raise InvalidInputError(
                    f"{self.spec.name} takes {stream.num_frames} frames of {stream.kind} for every "
                    f"{first.num_frames} of {first.kind}; got {tuple(x.shape)} and {tuple(given)}"
                )


def pick_endpoints(outputs: dict[str, Tensor], names: Sequence[str] | None) -> dict[str, Tensor]:
    """The outputs asked for, in the order asked for."""
    if names is None:
        return outputs
    for name in names:
        if name not in outputs:
            raise UnknownNameError.among("endpoint", name, outputs)
    return {name: outputs[name] for name in names}
