"""Metrics of generated videos for training loops, as :class:`torchmetrics.Metric`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from contextlib import nullcontext
from os import PathLike
from typing import Any

import numpy as np
import torch
import torchmetrics
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from quovadis.errors import InvalidInputError, TooFewFramesError
from quovadis.fvd.embed import REFERENCE_WEIGHTS, VideoEmbedder
from quovadis.metrics.frechet import frechet_distance
from quovadis.metrics.kernel import kernel_video_distance
from quovadis.metrics.moments import FeatureMoments
from quovadis.metrics.neighbors import precision_recall
from quovadis.models.spec import Precision
from quovadis.models.video_model import VideoModel


class _VideoMetric(torchmetrics.Metric):
    """Embed real and generated videos; subclasses store the features."""

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        protocol: str,
        *,
        weights: str | PathLike[str] | VideoModel,
        features: str,
        num_frames: int | None,
        reset_real_features: bool,
        precision: Precision,
        batch_size: int,
        **options: Any,
    ):
        super().__init__(**options)
        if precision not in ("float32", "bfloat16", "float16"):
            raise InvalidInputError(f"precision must be float32, bfloat16 or float16; got {precision!r}")
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1; got {batch_size}")
        self.embedder = VideoEmbedder(protocol, weights=weights, features=features, num_frames=num_frames, device="cpu")
        self.reset_real_features = reset_real_features
        self.precision = precision
        self.batch_size = batch_size
        self._num_frames: int | None = None

    def update(self, videos: Tensor, real: bool) -> None:
        """Embed videos and add them to the real or the generated set.

        Args:
            videos: uint8 tensor or array (N, T, H, W, 3), RGB, on any device.
            real: Whether the videos are real.

        Raises:
            InvalidTypeError: If the videos are not uint8.
            InvalidInputError: If the shape is wrong, or features are not finite.
            TooFewFramesError: If the videos are too short.
            WeightsError: If the weights cannot be loaded, or are not those of the protocol.
        """
        self._add("real" if real else "generated", self._embed(videos))

    def reset(self) -> None:
        """Remove all features, or only the generated ones with ``reset_real_features=False``."""
        real = {} if self.reset_real_features else {name: copy.copy(getattr(self, name)) for name in self._real_states}
        super().reset()
        for name, value in real.items():
            setattr(self, name, value)
        if self.reset_real_features:
            self._num_frames = None

    @property
    def _real_states(self) -> list[str]:
        return [name for name in self._defaults if name.startswith("real")]

    @abstractmethod
    def _add(self, role: str, features: Tensor) -> None:
        """Add features, float32 (N, D), on the CPU."""

    def _embed(self, videos: Any) -> Tensor:
        """Features, float32 (N, D), on the CPU."""
        if self.embedder.device != self.device:
            self.embedder.device = self.device
            self.embedder.__dict__.pop("_model", None)
        needed, most = self.embedder.sampling.num_frames, self.embedder.protocol.max_videos
        if needed is not None and videos.ndim == 5 and videos.shape[1] < needed:
            raise TooFewFramesError(f"the metric needs videos of at least {needed} frames; got {videos.shape[1]}")
        if most is not None and len(videos) > most:
            raise InvalidInputError(f"update accepts at most {most} videos at a time; got {len(videos)}")
        dtype = getattr(torch, self.precision)
        with nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype):
            found = self.embedder.embed(videos, batch_size=self.batch_size)
        card = found.card
        if card.num_short:
            raise TooFewFramesError(
                f"{card.num_short} videos have fewer than {self.embedder.sampling.num_frames} frames"
            )
        if self.embedder.protocol.network:
            self._num_frames = card.num_frames if self._num_frames is None else self._num_frames
            if card.num_frames != self._num_frames:
                raise InvalidInputError(
                    f"protocol {card.protocol!r} needs videos of equal length; got {self._num_frames} and "
                    f"{card.num_frames} frames: set num_frames"
                )
        return torch.from_numpy(found.features)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the optimized network out of copies and pickles; it is built again when it is needed."""
        state: dict[str, Any] = super().__getstate__()
        state["embedder"] = copy.copy(self.embedder)
        for name in ("_model", "_loaded"):
            state["embedder"].__dict__.pop(name, None)
        return state


class FrechetVideoDistance(_VideoMetric):
    """Frechet Video Distance (FVD) of generated videos, for training loops.

    The state is the number, the mean and a factor of the scatter of the features of each set, in float64. Memory is
    constant. See :func:`quovadis.metrics.frechet_distance`. Processes are synchronized by :meth:`compute`.

    Args:
        protocol: How to embed videos; see :data:`~quovadis.fvd.FVD_PROTOCOLS`. Every video starts at its first frame,
            and the maximum number of videos of ``stylegan-v`` is not applied.
        weights: See :class:`~quovadis.fvd.VideoEmbedder`.
        features: Likewise.
        num_frames: Likewise.
        reset_real_features: Whether :meth:`reset` also removes the real features. Set to False to embed the real videos
            only once.
        precision: Data type of the network: ``float32``, ``bfloat16`` or ``float16``. Protocols are defined in float32.
        batch_size: Number of videos in the network at a time. With 1, features do not depend on the batches of
            :meth:`update` even in the last digits of float32.
        options: Options of :class:`torchmetrics.Metric`, such as ``sync_on_compute``.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> videos = torch.randint(0, 256, (6, 9, 40, 40, 3), dtype=torch.uint8)
        >>> metric = FrechetVideoDistance("own", weights=build_model("i3d_tiny", num_classes=5))
        >>> for batch in videos.split(4):
        ...     metric.update(batch, real=True)
        ...     metric.update(batch.flip(1), real=False)
        >>> metric.compute() > 0
        tensor(True)
    """

    higher_is_better = False
    real: Tensor
    generated: Tensor

    def __init__(
        self,
        protocol: str = "reference",
        *,
        weights: str | PathLike[str] | VideoModel = REFERENCE_WEIGHTS,
        features: str = "logits",
        num_frames: int | None = None,
        reset_real_features: bool = True,
        precision: Precision = "float32",
        batch_size: int = 8,
        **options: Any,
    ):
        options.setdefault("dist_sync_fn", _gather_moments)
        super().__init__(
            protocol,
            weights=weights,
            features=features,
            num_frames=num_frames,
            reset_real_features=reset_real_features,
            precision=precision,
            batch_size=batch_size,
            **options,
        )
        for role in ("real", "generated"):
            self.add_state(role, torch.zeros(0, 0, dtype=torch.float64), dist_reduce_fx=_merge_moments)

    def compute(self) -> Tensor:
        """Compute the distance: a float64 scalar, at least 0.

        Raises:
            InvalidInputError: If a set has fewer than two videos.
        """
        sets = [_unpack(self.real), _unpack(self.generated)]
        _require(2, *(m.count for m in sets))
        distance = frechet_distance(*sets, ddof=self.embedder.protocol.ddof)
        return torch.tensor(distance, dtype=torch.float64, device=self.device)

    def _add(self, role: str, features: Tensor) -> None:
        moments = _unpack(getattr(self, role))
        moments.update(features)
        setattr(self, role, _pack(moments).to(self.device))


class _FeatureMetric(_VideoMetric):
    """Store all features."""

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(self, protocol: str, *, max_videos: int | None, **options: Any):
        options.setdefault("dist_sync_fn", _gather_features)
        super().__init__(protocol, **options)
        if max_videos is not None and max_videos < 2:
            raise InvalidInputError(f"max_videos must be at least 2; got {max_videos}")
        self.max_videos = max_videos
        for role in ("real", "generated"):
            self.add_state(role, [], dist_reduce_fx="cat")

    def _add(self, role: str, features: Tensor) -> None:
        stored = getattr(self, role)
        if self.max_videos is not None:
            features = features[: self.max_videos - sum(map(len, stored))]
        if len(features):
            stored.append(features.to(self.device))

    def _features(self, min_count: int) -> tuple[Tensor, Tensor]:
        real, generated = (dim_zero_cat(v) if len(v) else torch.zeros(0, 0) for v in (self.real, self.generated))
        _require(min_count, len(real), len(generated))
        return real, generated


class KernelVideoDistance(_FeatureMetric):
    """Kernel video distance (KVD) of generated videos, for training loops.

    All features are stored. See :func:`quovadis.metrics.kernel_video_distance`. Processes are synchronized by
    :meth:`compute`.

    Args:
        protocol: How to embed videos; see :data:`~quovadis.fvd.FVD_PROTOCOLS`. Every video starts at its first frame,
            and the maximum number of videos of ``stylegan-v`` is not applied.
        weights: See :class:`~quovadis.fvd.VideoEmbedder`.
        features: Likewise.
        num_frames: Likewise.
        reset_real_features: Whether :meth:`reset` also removes the real features. Set to False to embed the real videos
            only once.
        precision: Data type of the network: ``float32``, ``bfloat16`` or ``float16``. Protocols are defined in float32.
        batch_size: Number of videos in the network at a time. With 1, features do not depend on the batches of
            :meth:`update` even in the last digits of float32.
        max_videos: Maximum number of videos of each set in each process; later ones are ignored.
            Defaults to no maximum.
        options: Options of :class:`torchmetrics.Metric`, such as ``sync_on_compute``.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> videos = torch.randint(0, 256, (6, 9, 40, 40, 3), dtype=torch.uint8)
        >>> metric = KernelVideoDistance("own", weights=build_model("i3d_tiny", num_classes=5))
        >>> for batch in videos.split(4):
        ...     metric.update(batch, real=True)
        ...     metric.update(batch.flip(1), real=False)
        >>> metric.compute().shape
        torch.Size([])
    """

    higher_is_better = False

    def __init__(
        self,
        protocol: str = "reference",
        *,
        weights: str | PathLike[str] | VideoModel = REFERENCE_WEIGHTS,
        features: str = "logits",
        num_frames: int | None = None,
        reset_real_features: bool = True,
        precision: Precision = "float32",
        batch_size: int = 8,
        max_videos: int | None = None,
        **options: Any,
    ):
        super().__init__(
            protocol,
            weights=weights,
            features=features,
            num_frames=num_frames,
            reset_real_features=reset_real_features,
            precision=precision,
            batch_size=batch_size,
            max_videos=max_videos,
            **options,
        )

    def compute(self) -> Tensor:
        """Compute the unbiased distance: a float64 scalar, which can be negative.

        Raises:
            InvalidInputError: If a set has fewer than two videos.
        """
        return torch.tensor(kernel_video_distance(*self._features(2)), dtype=torch.float64, device=self.device)


class VideoPrecisionRecall(_FeatureMetric):
    """Improved precision and recall of generated videos, for training loops.

    All features are stored. See :func:`quovadis.metrics.precision_recall`. Processes are synchronized by
    :meth:`compute`.

    Args:
        protocol: How to embed videos; see :data:`~quovadis.fvd.FVD_PROTOCOLS`. Every video starts at its first frame,
            and the maximum number of videos of ``stylegan-v`` is not applied.
        weights: See :class:`~quovadis.fvd.VideoEmbedder`.
        features: Likewise.
        num_frames: Likewise.
        reset_real_features: Whether :meth:`reset` also removes the real features. Set to False to embed the real videos
            only once.
        precision: Data type of the network: ``float32``, ``bfloat16`` or ``float16``. Protocols are defined in float32.
        batch_size: Number of videos in the network at a time. With 1, features do not depend on the batches of
            :meth:`update` even in the last digits of float32.
        num_neighbors: k: balls reach to the k-th nearest other video.
        max_videos: Maximum number of videos of each set in each process; later ones are ignored.
            Defaults to no maximum.
        options: Options of :class:`torchmetrics.Metric`, such as ``sync_on_compute``.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> videos = torch.randint(0, 256, (6, 9, 40, 40, 3), dtype=torch.uint8)
        >>> metric = VideoPrecisionRecall("own", weights=build_model("i3d_tiny", num_classes=5))
        >>> for batch in videos.split(4):
        ...     metric.update(batch, real=True)
        ...     metric.update(batch.flip(1), real=False)
        >>> sorted(metric.compute())
        ['precision', 'recall']
    """

    higher_is_better = True

    def __init__(
        self,
        protocol: str = "reference",
        *,
        weights: str | PathLike[str] | VideoModel = REFERENCE_WEIGHTS,
        features: str = "logits",
        num_frames: int | None = None,
        reset_real_features: bool = True,
        precision: Precision = "float32",
        batch_size: int = 8,
        num_neighbors: int = 3,
        max_videos: int | None = None,
        **options: Any,
    ):
        super().__init__(
            protocol,
            weights=weights,
            features=features,
            num_frames=num_frames,
            reset_real_features=reset_real_features,
            precision=precision,
            batch_size=batch_size,
            max_videos=max_videos,
            **options,
        )
        if num_neighbors < 1:
            raise InvalidInputError(f"num_neighbors must be at least 1; got {num_neighbors}")
        self.num_neighbors = num_neighbors

    def compute(self) -> dict[str, Tensor]:
        """Compute ``precision`` and ``recall``: float64 scalars in [0, 1].

        Raises:
            InvalidInputError: If a set has no more than ``num_neighbors`` videos.
        """
        values = precision_recall(*self._features(self.num_neighbors + 1), num_neighbors=self.num_neighbors)
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in values._asdict().items()
        }


def _require(min_count: int, num_real: int, num_generated: int) -> None:
    if min(num_real, num_generated) < min_count:
        raise InvalidInputError(
            f"the metric needs at least {min_count} real and {min_count} generated videos; got {num_real} and "
            f"{num_generated}. Call update(videos, real=True) and update(videos, real=False) first"
        )


def _pack(moments: FeatureMoments) -> Tensor:
    """Moments as one tensor (D + 2, D), so that processes exchange them together: factor, mean and count."""
    packed = np.zeros((moments.dim + 2, moments.dim))
    packed[: len(moments.factor)] = moments.factor
    packed[-2], packed[-1] = moments.mean, moments.count
    return torch.from_numpy(packed)


def _unpack(packed: Tensor) -> FeatureMoments:
    array = packed.cpu().numpy()
    if not len(array) or not array[-1, 0]:
        return FeatureMoments()
    return FeatureMoments.restore(int(array[-1, 0]), array[-2], array[:-2])


def _merge_moments(packed: Tensor) -> Tensor:
    """Merge the moments (W, D + 2, D) of several processes."""
    moments = FeatureMoments()
    for part in packed:
        moments.merge(_unpack(part))
    return _pack(moments).to(packed.device)


def _gather_moments(packed: Tensor, group: Any = None) -> list[Tensor]:
    """Gather moments of all processes; those without videos become zeros."""
    parts = gather_all_tensors(packed, group)
    rows, columns = (max(p.shape[axis] for p in parts) for axis in (0, 1))
    return [pad(p, (0, columns - p.shape[1], 0, rows - p.shape[0])) for p in parts]


def _gather_features(features: Tensor, group: Any = None) -> list[Tensor]:
    """Gather features of all processes; a process without videos has a tensor (0,)."""
    parts = gather_all_tensors(features if features.ndim == 2 else features.new_zeros(0, 0), group)
    columns = max(p.shape[1] for p in parts)
    return [pad(p, (0, columns - p.shape[1])) for p in parts]
