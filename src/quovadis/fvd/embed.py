"""Embed sets of videos for the Frechet Video Distance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import torch
from torch import Tensor

from quovadis import transforms
from quovadis.errors import DatasetError, InvalidInputError, TooFewFramesError, VideoError
from quovadis.flow.estimate import flow_for_clip
from quovadis.fvd.array_videos import ArrayFormat
from quovadis.fvd.card import FvdCard, VideoEmbeddings, is_embeddings_file
from quovadis.fvd.inputs import open_videos
from quovadis.fvd.protocols import find_fvd_protocol
from quovadis.fvd.sampling import FrameSampling
from quovadis.fvd.video_set import SampledFrames, VideoSet
from quovadis.metrics.moments import FeatureMoments
from quovadis.models.inputs import clip_to_streams
from quovadis.models.optimization import for_inference
from quovadis.models.precision import full_float32
from quovadis.models.video_model import VideoModel
from quovadis.runtime.prefetch import prefetch
from quovadis.version import __version__
from quovadis.video.clip import Clip
from quovadis.video.resize import resize_frames
from quovadis.weights.load import load_model
from quovadis.weights.verify import state_sha256

REFERENCE_WEIGHTS = "i3d-rgb-kinetics400"

Role = Literal["real", "generated"]
"""Which of the two sets of a distance; some protocols sample them differently."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the set, the number of videos done and the total."""


class VideoEmbedder:
    """Compute one feature vector for each video of a set, by an FVD protocol.

    The network is loaded with the first set.

    Args:
        protocol: Name of a protocol; see :data:`quovadis.fvd.protocols.FVD_PROTOCOLS`.
        weights: Published name, weights file or model. All protocols except ``own`` accept only the network
            ``i3d-rgb-kinetics400``, in any file format, and verify every tensor.
        features: ``logits``; with ``own`` also ``features`` (the input of the classifier) or the name of an endpoint,
            averaged over time and space.
        num_frames: Use only this many frames of each video and skip shorter videos. Defaults to that of the protocol:
            16 for ``stylegan-v`` and ``cd-fvd``, otherwise all.
        frame_stride: Use every n-th frame; not with ``reference``.
        fps: With ``own``: resample files to this frame rate. By default the frames of the file are used.
        resolution_px: With ``stylegan-v`` and ``cd-fvd``: first resize frames to this short side and take the center
            square, as the readers of these projects do.
        seed: Seed of the random starts of ``stylegan-v`` and ``cd-fvd``.
        device: Where the network runs. Defaults to a GPU if there is one.
        flow_method: Optical flow method, for a network that needs flow.
        layout: Order of the axes of arrays: ``NTHWC``, ``NTCHW``, ``NCTHW``, or ``NTHW`` for grayscale.
        value_range: Values of black and white in floating point arrays, such as (0, 1) or (-1, 1). They are rounded to
            256 levels, as in a video file.
        grayscale: Whether arrays have one channel.

    Raises:
        UnknownNameError: If there is no such protocol.
        InvalidInputError: If the protocol does not have an option.

    Example:
        >>> import numpy as np
        >>> from quovadis.models.zoo import build_model
        >>> embedder = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5))
        >>> videos = np.random.default_rng(0).integers(0, 256, (4, 9, 40, 40, 3), np.uint8)
        >>> embeddings = embedder.embed(videos)
        >>> embeddings.features.shape, embeddings.card.num_frames
        ((4, 5), 9)
    """

    def __init__(
        self,
        protocol: str = "reference",
        *,
        weights: str | PathLike[str] | VideoModel = REFERENCE_WEIGHTS,
        features: str = "logits",
        num_frames: int | None = None,
        frame_stride: int = 1,
        fps: float | None = None,
        resolution_px: int | None = None,
        seed: int = 0,
        device: str | torch.device | None = None,
        flow_method: str = "tvl1",
        layout: str = "NTHWC",
        value_range: tuple[float, float] | None = None,
        grayscale: bool = False,
    ):
        self.protocol = find_fvd_protocol(protocol)
        self.sampling = self.protocol.sample_frames(
            num_frames, frame_stride=frame_stride, fps=fps, resolution_px=resolution_px, seed=seed
        )
        if self.protocol.network and features != "logits":
            raise InvalidInputError(f"protocol {protocol!r} needs logits; use protocol 'own' for {features!r}")
        self.features = features
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._form = ArrayFormat(layout, value_range, grayscale)
        self._weights = weights
        self._flow_method = flow_method

    def embed(
        self,
        videos: Any,
        *,
        role: Role = "generated",
        max_videos: int | None = None,
        batch_size: int = 8,
        progress: Progress | None = None,
    ) -> VideoEmbeddings:
        """Embed a set of videos.

        Args:
            videos: See :func:`quovadis.fvd.inputs.open_videos`: folders, lists, files or an array, uint8
                (N, T, H, W, 3) unless declared otherwise.
            role: With ``stylegan-v`` and ``cd-fvd``, real videos start at a random frame, generated ones at the first.
            max_videos: Use only the first videos.
            batch_size: Number of videos in the network at a time; does not affect the result.
            progress: Called with the name of the set, the number of videos done and the total.

        Raises:
            WeightsError: If the weights cannot be loaded, or are not those of the protocol.
            DatasetError: If no video can be used.
            TooFewFramesError: If a video has fewer frames than the network needs (9 for I3D).
            InvalidTypeError: If an array is not uint8.
            InvalidInputError: If an array has another shape, or the protocol does not accept the frames.
        """
        source = open_videos(videos, self._form)
        spec = self._model.spec
        sampling = self._sampling_of(role)
        if sampling.num_frames is not None:
            self.require_frames(sampling.num_frames, f"protocol {self.protocol.name!r} with these options")
        num_videos = min(n for n in (len(source), self.protocol.max_videos, max_videos) if n is not None)
        batches = _Batches(self, batch_size)
        for index, clip, error in prefetch(self._read(source, num_videos, sampling)):
            batches.add(source.path(index), clip, error)
            if progress is not None:
                progress(source.name, index + 1, num_videos)
        batches.flush()
        if not batches.features:
            raise DatasetError(
                f"no video of {source.name} can be used: {batches.num_short} are too short, "
                f"{len(batches.unreadable)} cannot be read" + "".join(f"; {e}" for e in batches.unreadable[:1])
            )
        features = torch.cat(batches.features).numpy()
        card = FvdCard(
            protocol=self.protocol.name,
            network=spec.name,
            weights_sha256=self._weights_sha256,
            features=self.features,
            feature_dim=features.shape[1],
            num_frames=batches.num_frames,
            frame_stride=sampling.frame_stride,
            fps=sampling.fps,
            resolution_px=sampling.resolution_px,
            network_px=spec.size_px,
            resize=self.protocol.describe_resize(spec.size_px),
            ddof=self.protocol.ddof,
            starts=sampling.describe(),
            num_videos=len(features),
            num_short=batches.num_short,
            unreadable=tuple(batches.unreadable),
            frame_sizes=batches.frame_sizes,
            data=source.name,
            data_sha256=source.sha256,
            quovadis=__version__,
        )
        return VideoEmbeddings(card, batches.moments, features, tuple(batches.names))

    def require_usable(self, *sets: tuple[Any, Role], max_videos: int | None = None) -> None:
        """Check sets before any of them is embedded: arrays, the lengths of all videos, saved sets, and the weights.

        Args:
            sets: Videos as for :meth:`embed`, :class:`VideoEmbeddings` or a file of them, each with its role.
            max_videos: See :meth:`embed`.

        Raises:
            WeightsError: If the weights cannot be loaded, or are not those of the protocol.
            DatasetError: If a set does not exist or has fewer than two videos.
            TooFewFramesError: If videos are too short.
            InvalidTypeError: If an array has an unknown data type.
            InvalidInputError: If an array has another shape, the protocol does not accept the frames, or a saved set
                was embedded with other settings.
        """
        opened, cards = [], []
        for videos, role in sets:
            saved = videos if isinstance(videos, VideoEmbeddings) else None
            if is_embeddings_file(videos):
                saved = VideoEmbeddings.load(videos)
            if saved is None:
                opened.append((open_videos(videos, self._form), role))
            else:
                cards.append(saved.card)
        if opened:  # two saved sets are compared with each other
            for card in cards:
                self._require_same_settings(card)
        for source, role in opened:
            count = min(n for n in (len(source), max_videos) if n is not None)
            if count < 2:
                raise DatasetError(f"{source.name} has {count} video; a distance between sets needs at least 2")
            self._require_lengths(source, role, count)

    def _require_same_settings(self, card: FvdCard) -> None:
        """Compare a saved card with the settings, except for the number of frames, which may be that of the videos."""
        sampling, spec = self.sampling, self._loaded.spec
        planned = replace(
            card,
            protocol=self.protocol.name,
            network=spec.name,
            weights_sha256=self._weights_sha256,
            features=self.features,
            num_frames=card.num_frames if sampling.num_frames is None else sampling.num_frames,
            frame_stride=sampling.frame_stride,
            fps=sampling.fps,
            resolution_px=sampling.resolution_px,
            network_px=spec.size_px,
            resize=self.protocol.describe_resize(spec.size_px),
            ddof=self.protocol.ddof,
        )
        differences = card.differences(planned)
        if differences:
            raise InvalidInputError(
                f"the saved features of {card.data} have other settings than this command: {'; '.join(differences)}. "
                "Use the same settings, or embed the videos again"
            )

    def _require_lengths(self, source: VideoSet, role: Role, num_videos: int) -> None:
        """Read the first readable video and those that seem to have another length or too few frames, and check them.

        Damaged files may have fewer frames than they state, so a video is rejected only after it was read.
        """
        sampling = self._sampling_of(role)
        if sampling.num_frames is not None:
            self.require_frames(sampling.num_frames, f"protocol {self.protocol.name!r} with these options")
        checked = _Batches(self, 1)
        for index in range(num_videos):
            first = checked.num_frames
            try:
                if first is not None and self._fits(source.num_frames(index, sampling), first, sampling):
                    continue
                clip = source.read(index, sampling, self._resize)
            except VideoError:
                continue
            if clip is not None:
                checked.check(source.path(index), clip)

    def _fits(self, num_available: int | None, first: int, sampling: FrameSampling) -> bool:
        """Whether a video needs no closer look. Videos with fewer than the chosen frames are skipped when embedding."""
        if sampling.num_frames is not None:
            return True
        if num_available is None:
            return False
        count = sampling.count(num_available)
        return count >= self._model.spec.min_frames and (count == first or not self.protocol.network)

    def _sampling_of(self, role: Role) -> FrameSampling:
        return replace(self.sampling, random_start=self.protocol.random_start and role == "real")

    @cached_property
    def _loaded(self) -> VideoModel:
        model = self._weights if isinstance(self._weights, VideoModel) else load_model(self._weights)
        self.protocol.require_network(model)
        if self.protocol.pixel_centers is not None and [s.kind for s in model.spec.streams] != ["rgb"]:
            raise InvalidInputError(f"protocol {self.protocol.name!r} needs an RGB network; got {model.spec.name}")
        return model

    @cached_property
    def _model(self) -> VideoModel:
        return for_inference(self.protocol.adapt_network(self._loaded), self.device)

    @cached_property
    def _weights_sha256(self) -> str:
        return state_sha256(self._loaded.state_dict())

    def require_frames(self, num_frames: int, what: str) -> None:
        """Check that the network accepts this number of frames.

        Raises:
            TooFewFramesError: If it needs more.
        """
        spec = self._model.spec
        if num_frames < spec.min_frames:
            raise TooFewFramesError(f"{what} has {num_frames} frames; {spec.name} needs at least {spec.min_frames}")

    def _read(
        self, videos: VideoSet, num_videos: int, sampling: FrameSampling
    ) -> Iterator[tuple[int, SampledFrames | None, str]]:
        """Index, frames and error of each video."""
        for index in range(num_videos):
            try:
                yield index, videos.read(index, sampling, self._resize), ""
            except VideoError as error:
                yield index, None, str(error)

    def _resize(self, frame: Tensor) -> Tensor:
        """Resize a frame, uint8 (3, H, W); the result is float32 in [-1, 1] if the protocol stretches frames."""
        spec, centers = self._model.spec, self.protocol.pixel_centers
        if centers is not None:
            crop = self.protocol.center_crop
            return transforms.resize_to_model(frame[None], spec.size_px, pixel_centers=centers, center_crop=crop)[:, 0]
        return resize_frames(frame[None], spec.short_side_px)[0]

    def to_inputs(self, frames: Tensor) -> list[Tensor]:
        """Convert the resized frames of a video, (T, 3, h, w), to network inputs, float32 (C, T, H, W)."""
        if self.protocol.pixel_centers is not None:
            return [frames.transpose(0, 1)]
        spec = self._model.spec
        clip = Clip(frames, torch.arange(len(frames)) / spec.fps)
        if spec.needs_flow:
            clip = flow_for_clip(clip, method=self._flow_method)
        return [transforms.to_model(s) for s in clip_to_streams(transforms.center_crop(clip, spec.size_px), spec)]

    @torch.inference_mode()
    def run_network(self, batch: list[list[Tensor]]) -> Tensor:
        """Compute the features of videos of equal length: float32 (B, D), on the CPU."""
        inputs = [torch.stack(parts).to(self.device) for parts in zip(*batch, strict=True)]
        with full_float32():
            if self.features == "logits":
                output = self._model(*inputs)
            elif self.features == "features":
                output = self._model.features(*inputs).mean(1)
            else:
                output = self._model.endpoints(*inputs, names=[self.features])[self.features]
                output = output if output.ndim == 2 else output.mean((2, 3, 4))
        return output.float().flatten(1).cpu()


class _Batches:
    """Batch videos of equal length and collect their features."""

    def __init__(self, embedder: VideoEmbedder, batch_size: int):
        self.features: list[Tensor] = []
        self.names: list[str] = []
        """Names of the videos, in the order of the features."""
        self.moments = FeatureMoments()
        self.num_short = 0
        self.unreadable: list[str] = []
        self.frame_sizes: dict[str, int] = {}
        self.num_frames: int | None = None
        self._embedder = embedder
        self._batch_size = batch_size
        self._inputs: list[list[Tensor]] = []
        self._lengths: dict[int, str] = {}

    def add(self, name: str, clip: SampledFrames | None, error: str = "") -> None:
        """Add a video; None if it is too short or there was an error."""
        if error:
            self.unreadable.append(f"{name}: {error}")
            return
        if clip is None:
            self.num_short += 1
            return
        self.check(name, clip)
        size = f"{clip.height}x{clip.width}"
        self.frame_sizes[size] = self.frame_sizes.get(size, 0) + 1
        inputs = self._embedder.to_inputs(clip.frames)
        if self._inputs and self._inputs[0][0].shape != inputs[0].shape:
            self.flush()
        self._inputs.append(inputs)
        self.names.append(name)
        if len(self._inputs) >= self._batch_size:
            self.flush()

    def check(self, name: str, clip: SampledFrames) -> None:
        """Check the size and length of a video against the protocol and the other videos."""
        protocol, length = self._embedder.protocol, len(clip.frames)
        self._embedder.require_frames(length, name)
        if protocol.square and clip.height != clip.width:
            raise InvalidInputError(
                f"{name} has frames of {clip.height}x{clip.width}; protocol {protocol.name!r} needs square frames: set "
                "resolution_px (--resolution-px 256)"
            )
        self._lengths.setdefault(length, name)
        if len(self._lengths) > 1 and protocol.network:
            (first_length, first), (other_length, other) = list(self._lengths.items())[:2]
            raise InvalidInputError(
                f"{first} has {first_length} frames and {other} has {other_length}; protocol {protocol.name!r} needs "
                f"videos of equal length: set num_frames (--num-frames {min(first_length, other_length)})"
            )
        self.num_frames = length if len(self._lengths) == 1 else None

    def flush(self) -> None:
        """Run the network on the videos that have been added."""
        if not self._inputs:
            return
        features = self._embedder.run_network(self._inputs)
        for name, row in zip(self.names[-len(features) :], features, strict=True):
            if not row.isfinite().all():
                raise InvalidInputError(
                    f"the {self._embedder.features} of {name} contain NaN or infinity: check the weights"
                )
        self.moments.update(features)
        self.features.append(features)
        self._inputs = []
