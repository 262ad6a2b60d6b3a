"""The common interface of all video models."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quovadis.errors import InvalidInputError, InvalidTypeError, UnknownNameError
from quovadis.models.receptive_field import ReceptiveField
from quovadis.models.spec import ModelSpec, StreamSpec
from quovadis.video.clip import require_frames


class VideoModel(nn.Module, ABC):
    """Base class of all networks for action recognition.

    Inputs are float32 tensors (B, C, T, H, W) in [-1, 1]: one tensor per stream of :attr:`spec`, in that order.
    :func:`quovadis.transforms.to_model` creates them. All methods that take ``*streams`` check them and raise:

    - InvalidTypeError: If an input is not a floating point tensor, or its dtype differs from that of the weights.
    - InvalidInputError: If the number of inputs or their shapes do not match :attr:`spec`, or they are too small.
    - TooFewFramesError: If an input has fewer frames than the network needs.

    Example:
        >>> import torch
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("i3d_tiny", num_classes=10).eval()
        >>> clip = torch.rand(2, 3, 24, 64, 64) * 2 - 1
        >>> model(clip).shape, model.features(clip).shape
        (torch.Size([2, 10]), torch.Size([2, 2, 256]))
        >>> model.endpoints(clip, names=["Mixed_5c"])["Mixed_5c"].shape
        torch.Size([2, 256, 3, 2, 2])
        >>> model.reset_head(num_classes=5)
        >>> model(clip).shape
        torch.Size([2, 5])
    """

    spec: ModelSpec
    """Input streams and their sizes."""
    num_classes: int
    """Number of classes of the logits."""
    feature_dim: int
    """Length D of a feature vector."""
    labels: tuple[str, ...] = ()
    """Class names in the order of the logits. Empty if they are unknown, as after :meth:`reset_head`."""
    source: Mapping[str, Any] = MappingProxyType({})
    """Origin of the weights: published file, or recipe, step and data fingerprint. Empty for random weights."""

    def forward(self, *streams: Tensor) -> Tensor:
        """Compute logits.

        Returns:
            Logits (B, classes). In training, a model may return logits for each time step, (B, steps, classes); see
            :meth:`loss` and :meth:`video_logits`.
        """
        return self.classify(self.features(*streams))

    @abstractmethod
    def features(self, *streams: Tensor) -> Tensor:
        """Compute the inputs of the classifier.

        Returns:
            Features (B, T', D): one vector per time step of the last layer.
        """

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Compute logits from features: ``classify(features(*streams))`` equals ``forward(*streams)``.

        Args:
            features: Float (B, T', D).

        Returns:
            Logits as returned by :meth:`forward`.
        """

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """Temporal receptive field of :meth:`features`, or None if they are not a convolution over time.

        With a receptive field, the features of a long video can be computed in chunks.
        """
        return None

    has_class_maps: bool = False
    """Whether the model supports :meth:`class_maps`."""

    def class_maps(self, *streams: Tensor) -> Tensor:
        """Compute class activation maps: the contribution of each position to the logit of each class.

        The linear classifier is applied to the last feature map before average pooling. Pooling the result with
        :meth:`pool_class_maps` gives exactly the logits. Dropout is not applied.

        Returns:
            Maps (B, classes, T', h, w).

        Raises:
            InvalidInputError: If the classifier is not a linear layer on an average-pooled feature map.

        References:
            Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        """
        raise InvalidInputError(
            f"{self.spec.name} has no class activation maps: its classifier is not a linear layer over average-pooled "
            "features; use i3d, i3d_tiny or i3d_r50"
        )

    def pool_class_maps(self, maps: Tensor) -> Tensor:
        """Pool class activation maps to logits, as the model pools its features.

        Args:
            maps: Float (B, classes, T', h, w) from :meth:`class_maps`.

        Returns:
            Logits (B, classes).
        """
        return maps.mean((2, 3, 4))

    def endpoints(self, *streams: Tensor, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Compute intermediate outputs by name.

        All models have the endpoints ``Logits`` and ``Predictions`` (probabilities), both (B, classes).

        Args:
            streams: Inputs as for :meth:`forward`.
            names: Names of the outputs, or None for all. Computation stops after the last one.

        Returns:
            Outputs in the order of ``names``.

        Raises:
            UnknownNameError: If the model has no endpoint of that name.
        """
        self.check_inputs(*streams)
        outputs: dict[str, Tensor] = {}
        for name, output in self._endpoints(streams, names):
            outputs[name] = output
            if name == "Logits":
                outputs["Predictions"] = output.softmax(1)
            if names is not None and outputs.keys() >= set(names):
                break
        for name in names or ():
            if name not in outputs:
                raise UnknownNameError.among("endpoint", name, outputs)
        return outputs if names is None else {name: outputs[name] for name in names}

    def _endpoints(self, streams: Sequence[Tensor], names: Sequence[str] | None) -> Iterator[tuple[str, Tensor]]:
        """Compute the endpoints in order up to ``Logits``. The caller stops after the last one of ``names``."""
        yield "Logits", self.video_logits(self(*streams))

    @abstractmethod
    def new_head(self, num_classes: int) -> nn.Module:
        """Create a classifier with random weights."""

    def reset_head(self, num_classes: int) -> None:
        """Replace the classifier by one with random weights and clear :attr:`labels`.

        Args:
            num_classes: Number of classes of the new classifier.

        Raises:
            InvalidInputError: If ``num_classes`` is less than 1.
        """
        if num_classes < 1:
            raise InvalidInputError(f"num_classes must be at least 1; got {num_classes}")
        like = next(self.parameters(), torch.empty(0))
        self.num_classes = num_classes
        self.labels = ()
        self.head = self.new_head(num_classes).to(like.device, like.dtype)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy, averaged over clips and, where present, over time steps.

        Args:
            outputs: Output of :meth:`forward`, (B, classes) or (B, steps, classes).
            labels: int64 (B,).

        Returns:
            Scalar float32 tensor.
        """
        if outputs.ndim == 3:
            labels = labels.repeat_interleave(outputs.shape[1])
        return F.cross_entropy(outputs.float().flatten(0, -2), labels)

    def video_logits(self, outputs: Tensor) -> Tensor:
        """Select the logits of the whole clip from an output of :meth:`forward`: those of the last time step.

        Args:
            outputs: (B, classes) or (B, steps, classes).

        Returns:
            Logits (B, classes).
        """
        return outputs[:, -1] if outputs.ndim == 3 else outputs

    def first_filters(self) -> dict[str, Tensor]:
        """Return the filters of the first convolution by stream kind, as in Figure 4 of the paper.

        Returns:
            Float (filters, C, T, h, w) for each stream; nothing if the network has no 3D convolution.
        """
        first = next((p for p in self.parameters() if p.ndim == 5), None)
        return {} if first is None else {self.spec.stream: first.detach()}

    def channels_last(self) -> Self:
        """Convert the weights to channels-last memory format in place.

        Results stay the same. On a CPU, the model runs about twice as fast, provided that its inputs have the same
        format: ``x.contiguous(memory_format=torch.channels_last_3d)``.
        """
        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self.parameters():
            if parameter.ndim in layouts:
                parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])
        return self

    def check_inputs(self, *streams: Tensor) -> None:
        """Check that the inputs match :attr:`spec`; the class documentation lists the errors."""
        spec = self.spec
        if len(streams) != len(spec.streams):
            expected = " and ".join(s.kind for s in spec.streams)
            plural = "s" * (len(spec.streams) > 1)
            raise InvalidInputError(
                f"{spec.name} takes {len(spec.streams)} input{plural} ({expected}); got {len(streams)}"
            )
        for x, stream in zip(streams, spec.streams, strict=True):
            self._check_input(x, stream)
        first, first_shape = spec.streams[0], streams[0].shape
        for x, stream in zip(streams[1:], spec.streams[1:], strict=True):
            if x.shape[2] * first.num_frames != first_shape[2] * stream.num_frames or x.shape[0] != first_shape[0]:
                raise InvalidInputError(
                    f"{spec.name} takes {stream.num_frames} frames of {stream.kind} for every "
                    f"{first.num_frames} of {first.kind}; got {tuple(x.shape)} and {tuple(first_shape)}"
                )

    def _check_input(self, x: Tensor, stream: StreamSpec) -> None:
        name = f"{self.spec.name}'s {stream.kind} input"
        if not isinstance(x, Tensor) or not torch.is_floating_point(x):
            raise InvalidTypeError(
                f"{name} must be a floating point tensor in [-1, 1]; got {getattr(x, 'dtype', type(x).__name__)}: "
                "use quovadis.transforms.to_model"
            )
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise InvalidTypeError(f"{name} is {x.dtype}, but the model's weights are {dtype}: use x.to({dtype})")
        if x.ndim != 5 or x.shape[1] != stream.channels:
            hint = ""
            if x.ndim == 5 and x.shape[-1] == stream.channels:
                hint = "; it looks like (B, T, H, W, C): use x.permute(0, 4, 1, 2, 3)"
            elif x.ndim == 5 and x.shape[2] == stream.channels:
                hint = "; it looks like (B, T, C, H, W): use x.transpose(1, 2)"
            elif x.ndim == 4:
                hint = "; for a single clip use x.unsqueeze(0)"
            raise InvalidInputError(
                f"{name} must have shape (B, {stream.channels}, T, H, W); got {tuple(x.shape)}{hint}"
            )
        require_frames(x.shape[2], stream.num_frames_in(self.spec.min_frames), "the input", self.spec.name)
