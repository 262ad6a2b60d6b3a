"""Frechet Video Distance: how far generated videos are from real ones, with a card that says what was compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.errors import DatasetError, InvalidInputError, VideoError
from quovadis.fvd.card import FvdCard, FvdSet, is_fvd_set
from quovadis.fvd.inputs import ChosenFrames, FrameChoice, VideoSet, open_videos
from quovadis.fvd.protocols import Embedder, FvdProtocol, find_fvd_protocol
from quovadis.metrics.frechet import FrechetInterval, frechet_distance, frechet_interval
from quovadis.metrics.moments import FeatureMoments
from quovadis.models.video_model import VideoModel
from quovadis.runtime.prefetch import prefetch
from quovadis.version import __version__
from quovadis.weights.load import load_model

REFERENCE_WEIGHTS = "i3d-rgb-kinetics400"


@dataclass(frozen=True)
class FvdResult:
    """A Frechet Video Distance with what it stands on."""

    value: float
    interval: FrechetInterval | None
    real: FvdCard
    generated: FvdCard
    notes: tuple[str, ...] = ()
    """What a reader should know: too few samples, videos that were left out ..."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the distance and both cards."""
        return {
            "frechet_video_distance": self.value,
            "interval": None if self.interval is None else vars(self.interval),
            "notes": list(self.notes),
            "real": self.real.to_dict(),
            "generated": self.generated.to_dict(),
        }

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        spread = "" if self.interval is None else f" ({self.interval.low:.2f} to {self.interval.high:.2f})"
        return (
            f"FvdResult({self.value:.2f}{spread}: {self.real.describe()}; {self.real.num_videos} real and "
            f"{self.generated.num_videos} generated videos)"
        )


def frechet_video_distance(
    real: Any,
    generated: Any,
    *,
    protocol: str = "reference",
    weights: str | PathLike[str] | VideoModel = REFERENCE_WEIGHTS,
    features: str = "logits",
    num_frames: int | None = None,
    frame_stride: int = 1,
    fps: float | None = None,
    resolution_px: int | None = None,
    max_videos: int | None = None,
    num_resamples: int = 200,
    seed: int = 0,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    out: str | PathLike[str] | None = None,
    on_video: Callable[[str, int, int], None] | None = None,
) -> FvdResult:
    """The Frechet Video Distance of two sets of videos.

    Args:
        real: a folder of videos, a ``.npy`` or ``.npz`` file or an array uint8 (N, T, H, W, 3); or a set that was
            embedded before: a :class:`FvdSet` or its file.
        generated: likewise.
        protocol: ``reference`` (the TensorFlow code of the paper), ``stylegan-v`` or ``own``; see
            :data:`quovadis.fvd.protocols.FVD_PROTOCOLS`. Numbers of different protocols do not compare.
        weights: the network: a name of the catalog, a file, or a model. The named protocols allow only
            ``i3d-rgb-kinetics400``, in any file format, proven tensor by tensor.
        features: with ``own``: ``logits``, ``features``, or an endpoint averaged over time and space.
        num_frames: the first so many frames of each video; shorter videos are left out and counted. None takes what the
            protocol says: all, or 16 for ``stylegan-v``.
        frame_stride: every so many frames; not with ``reference``.
        fps: with ``own``: frames a second to read files at; else the frames of the file as they are.
        resolution_px: with ``stylegan-v``: make frames square of this size first (short side by Lanczos, center crop).
        max_videos: look at the first so many videos only.
        num_resamples: of the bootstrap interval; 0 leaves it out.
        seed: of the random starts of ``stylegan-v``, and of the bootstrap.
        batch_size: videos in the network at a time.
        device: where it runs; by default a GPU if there is one.
        out: a folder for ``real.npz`` and ``generated.npz``: the sets as they were embedded, each with its card.
        on_video: called with the set's name, the number of videos done and of all.

    Returns:
        The distance, its interval and the cards of both sets.

    Raises:
        WeightsError: other weights than the protocol's. TooFewFramesError: fewer than 9 frames (of I3D).
        DatasetError: no videos. InvalidTypeError, InvalidInputError: arrays of another layout; sets whose cards differ
            (says in what); options that the protocol does not have.

    Source: Unterthiner et al., arXiv 1812.01717. A number without its card means little: it depends on the network, the
    frames, the resizing and strongly on the number of videos.

    >>> import numpy as np
    >>> from quovadis.models.zoo import build_model
    >>> videos = np.random.default_rng(0).integers(0, 256, (4, 9, 40, 40, 3), np.uint8)
    >>> model = build_model("i3d_tiny", num_classes=5)
    >>> result = frechet_video_distance(videos, videos[:, ::-1], protocol="own", weights=model)
    >>> result.value > 0, result.real.ddof, result.real.num_frames
    (True, 1, 9)
    """
    chosen = find_fvd_protocol(protocol)
    choice = _choose_frames(chosen, num_frames, frame_stride, fps, resolution_px, seed)
    embedder: Embedder | None = None
    sets = []
    for role, source in (("real", real), ("generated", generated)):
        embedded = source if isinstance(source, FvdSet) else FvdSet.load(source) if is_fvd_set(source) else None
        if embedded is None:
            if embedder is None:
                model = weights if isinstance(weights, VideoModel) else load_model(weights)
                chosen.require_network(model)
                embedder = Embedder(model, chosen, features=features, device=device)
            videos = open_videos(source)
            embedded = embed_videos(
                videos, embedder, choice, role=role, max_videos=max_videos, batch_size=batch_size, on_video=on_video
            )
            if out is not None:
                embedded.save(Path(out) / f"{role}.npz")
        sets.append(embedded)
    return compare_sets(*sets, num_resamples=num_resamples, seed=seed)


def embed_videos(
    videos: VideoSet,
    embedder: Embedder,
    choice: FrameChoice,
    *,
    role: str = "generated",
    max_videos: int | None = None,
    batch_size: int = 8,
    on_video: Callable[[str, int, int], None] | None = None,
) -> FvdSet:
    """The features of a set of videos, with their moments and their card.

    Args:
        videos: see :func:`quovadis.fvd.inputs.open_videos`.
        embedder: network and protocol.
        choice: which frames; a random start is only for the role ``real``.
        role: ``real`` or ``generated``.
        max_videos: look at the first so many only.
        batch_size: videos in the network at a time.
        on_video: called with the set's name, the number of videos done and of all.

    Raises:
        DatasetError: no video could be used. TooFewFramesError, InvalidInputError: frames that the protocol refuses.
    """
    protocol = embedder.protocol
    choice = FrameChoice(**{**vars(choice), "random_start": protocol.random_start and role == "real"})
    if choice.num_frames is not None:
        embedder.require_frames(choice.num_frames, f"protocol {protocol.name!r} with these options")
    limits = [n for n in (len(videos), protocol.max_videos, max_videos) if n is not None]
    gathered = _Gathered(embedder, batch_size)
    short, unreadable = [], []
    for number, clip, error in prefetch(_read_all(videos, min(limits), choice, embedder)):
        if error:
            unreadable.append(f"{videos.path(number)}: {error}")
        elif clip is None:
            short.append(videos.path(number))
        else:
            gathered.add(videos.path(number), clip)
        if on_video is not None:
            on_video(videos.name, number + 1, min(limits))
    gathered.flush()
    if not gathered.features:
        raise DatasetError(
            f"no video of {videos.name} could be used: {len(short)} are too short, {len(unreadable)} cannot be read"
            + "".join(f"; {e}" for e in unreadable[:1])
        )
    vectors = torch.cat(gathered.features).numpy()
    model = embedder.model
    card = FvdCard(
        protocol=protocol.name,
        network=model.spec.name,
        weights_sha256=embedder.weights_sha256,
        features=embedder.features,
        feature_dim=vectors.shape[1],
        num_frames=gathered.num_frames,
        frame_stride=choice.frame_stride,
        fps=choice.fps,
        resolution_px=choice.resolution_px,
        network_px=model.spec.size_px,
        resize=protocol.describe_resize(model.spec.size_px),
        ddof=protocol.ddof,
        starts=choice.describe(),
        num_videos=len(vectors),
        num_short=len(short),
        unreadable=tuple(unreadable),
        frame_sizes=gathered.sizes,
        data=videos.name,
        data_sha256=videos.sha256,
        quovadis=__version__,
    )
    return FvdSet(card, gathered.moments, vectors)


def compare_sets(real: FvdSet, generated: FvdSet, *, num_resamples: int = 200, seed: int = 0) -> FvdResult:
    """The distance of two sets that were embedded alike.

    Raises:
        InvalidInputError: their cards differ in something that the number depends on; says in what.
    """
    differences = real.card.differences(generated.card)
    if differences:
        raise InvalidInputError(
            f"these two sets do not compare: {'; '.join(differences)} (first {real.card.data}, then "
            f"{generated.card.data}). Embed both in the same way"
        )
    ddof = real.card.ddof
    for embedded in (real, generated):
        if embedded.card.num_videos < 2:
            raise InvalidInputError(f"{embedded.card.data} has one usable video; a distance of sets needs at least 2")
    interval = None
    if num_resamples:
        interval = frechet_interval(
            real.features, generated.features, ddof=ddof, num_resamples=num_resamples, seed=seed
        )
    value = frechet_distance(real.moments, generated.moments, ddof=ddof)
    return FvdResult(value, interval, real.card, generated.card, _notes(real.card, generated.card))


def _choose_frames(
    protocol: FvdProtocol,
    num_frames: int | None,
    frame_stride: int,
    fps: float | None,
    resolution_px: int | None,
    seed: int,
) -> FrameChoice:
    own = not protocol.network
    refused = {
        "frame_stride": frame_stride != 1 and protocol.name == "reference",
        "fps": fps is not None and not own,
        "resolution_px": resolution_px is not None and not protocol.square,
    }
    for name, wrong in refused.items():
        if wrong:
            raise InvalidInputError(f"protocol {protocol.name!r} has no {name}: it would be another protocol")
    num_frames = protocol.num_frames if num_frames is None else num_frames
    if frame_stride < 1 or (resolution_px is not None and resolution_px < 1) or (fps is not None and not fps > 0):
        raise InvalidInputError(
            f"frame_stride, fps and resolution_px must be above 0; got {frame_stride}, {fps} and {resolution_px}"
        )
    return FrameChoice(num_frames, frame_stride, fps, seed=seed, resolution_px=resolution_px)


def _read_all(
    videos: VideoSet, count: int, choice: FrameChoice, embedder: Embedder
) -> Iterator[tuple[int, ChosenFrames | None, str]]:
    for number in range(count):
        try:
            yield number, videos.read(number, choice, embedder.resize), ""
        except VideoError as error:
            yield number, None, str(error)


class _Gathered:
    """Features of the videos so far; videos of equal length go through the network together."""

    def __init__(self, embedder: Embedder, batch_size: int):
        self.embedder = embedder
        self.batch_size = batch_size
        self.features: list[Tensor] = []
        self.moments = FeatureMoments()
        self.sizes: dict[str, int] = {}
        self.num_frames: int | None = None
        self._waiting: list[list[Tensor]] = []
        self._names: list[str] = []
        self._lengths: dict[int, str] = {}

    def add(self, name: str, clip: ChosenFrames) -> None:
        protocol = self.embedder.protocol
        length = len(clip.frames)
        self.embedder.require_frames(length, name)
        if protocol.square and clip.height != clip.width:
            raise InvalidInputError(
                f"{name} has frames of {clip.height}x{clip.width}; protocol {protocol.name!r} takes square ones: say "
                "which with resolution_px (--resolution 256), or prepare them"
            )
        self._lengths.setdefault(length, name)
        if len(self._lengths) > 1 and protocol.network:
            first, other = list(self._lengths.items())[:2]
            raise InvalidInputError(
                f"{first[1]} has {first[0]} frames and {other[1]} has {other[0]}; protocol {protocol.name!r} takes "
                f"videos of one length: use num_frames (--frames {min(first[0], other[0])})"
            )
        self.num_frames = length if len(self._lengths) == 1 else None
        size = f"{clip.height}x{clip.width}"
        self.sizes[size] = self.sizes.get(size, 0) + 1
        inputs = self.embedder.inputs(clip.frames)
        if self._waiting and self._waiting[0][0].shape != inputs[0].shape:
            self.flush()
        self._waiting.append(inputs)
        self._names.append(name)
        if len(self._waiting) >= self.batch_size:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            vectors = self.embedder.embed(self._waiting)
            for name, vector in zip(self._names, vectors, strict=True):
                if not vector.isfinite().all():
                    raise InvalidInputError(
                        f"the {self.embedder.features} of {name} have NaN or infinity in them: check the weights"
                    )
            self.moments.update(vectors)
            self.features.append(vectors)
            self._waiting, self._names = [], []


def _notes(real: FvdCard, generated: FvdCard) -> tuple[str, ...]:
    protocol = find_fvd_protocol(real.protocol)
    needed = protocol.max_videos or real.feature_dim + 1
    why = (
        f"the protocol has {needed}"
        if protocol.max_videos
        else f"with fewer than {needed} the covariance of {real.feature_dim} features is singular"
    )
    notes = []
    for role, card in (("real", real), ("generated", generated)):
        if card.num_videos < needed:
            notes.append(
                f"{card.num_videos} {role} videos are few ({why}): the distance comes out too large, and compares only "
                "with one of as many videos"
            )
        if card.num_short:
            notes.append(f"{card.num_short} {role} videos are shorter than {card.num_frames} frames and left out")
        if card.unreadable:
            notes.append(f"{len(card.unreadable)} {role} videos could not be read and are left out")
    if set(real.frame_sizes) != set(generated.frame_sizes):
        notes.append("the two sets have frames of different sizes before the resizing; that alone makes a distance")
    if real.num_videos != generated.num_videos:
        notes.append(f"the sets have different numbers of videos: {real.num_videos} and {generated.num_videos}")
    return tuple(notes)
