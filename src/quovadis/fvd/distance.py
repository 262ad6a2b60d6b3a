"""Frechet Video Distance between two sets of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from quovadis.errors import InvalidInputError
from quovadis.fvd.card import FvdCard, VideoEmbeddings, is_embeddings_file
from quovadis.fvd.embed import Progress, Role, VideoEmbedder
from quovadis.fvd.metric_values import MIN_VIDEOS, SetMetric, require_set_metrics, set_metrics
from quovadis.fvd.protocols import find_fvd_protocol
from quovadis.metrics.frechet import FrechetInterval, frechet_distance, frechet_interval
from quovadis.metrics.sample_size import (
    ExtrapolatedDistance,
    RepeatedDistance,
    frechet_at_infinity,
    half_split_distance,
    sample_curve,
)

_MAX_METRIC_RESAMPLES = 100


@dataclass(frozen=True)
class FvdResult:
    """Frechet Video Distance with its bootstrap interval and the cards of both sets.

    ``float(result)`` is the distance. See :func:`frechet_video_distance`.
    """

    value: float
    interval: FrechetInterval | None
    real: FvdCard
    generated: FvdCard
    notes: tuple[str, ...] = ()
    """Caveats, such as too few samples or skipped videos."""
    halves: RepeatedDistance | None = None
    """Distance of random halves of the real set, which is due to the number of videos alone; None below 4 videos."""
    at_infinity: ExtrapolatedDistance | None = None
    """Distance extrapolated to infinitely many videos; None if there are too few."""
    metrics: tuple[SetMetric, ...] = ()
    """Other metrics, if requested."""
    curve: tuple[RepeatedDistance, ...] = ()
    """Distance against the number of videos, if requested."""

    def describe_infinity(self) -> str:
        """Describe the distance extrapolated to infinitely many videos, or say why there is none."""
        if self.at_infinity is None:
            return f"cannot be estimated below {_least_to_extrapolate(self.real)} videos in each set"
        return f"{self.at_infinity.value:.2f} ± {self.at_infinity.standard_error:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        return {
            "frechet_video_distance": self.value,
            "interval": None if self.interval is None else vars(self.interval),
            "real_halves": _describe(self.halves),
            "at_infinity": None
            if self.at_infinity is None
            else {"value": self.at_infinity.value, "standard_error": self.at_infinity.standard_error},
            "metrics": {m.name: {"value": m.value, "low": m.low, "high": m.high} for m in self.metrics},
            "curve": [_describe(point) for point in self.curve],
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
    metrics: Sequence[str] = (),
    curve: bool = False,
    num_resamples: int = 200,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> FvdResult:
    """Compute the Frechet Video Distance between two sets of videos.

    To set more options, such as the network or the number of frames, embed both sets with a
    :class:`~quovadis.fvd.embed.VideoEmbedder` and pass its results.

    Args:
        real: :class:`VideoEmbeddings` or a file of them; or videos: a folder of videos, a folder with one subfolder of
            PNG or JPEG frames per video, a ``.npy`` or ``.npz`` file, or an array, uint8 (N, T, H, W, 3).
        generated: Likewise.
        protocol: How to embed sets that are given as videos; see :data:`~quovadis.fvd.FVD_PROTOCOLS`. Distances of
            different protocols are not comparable.
        metrics: Further metrics of the same features; see :data:`~quovadis.fvd.SET_METRICS`. Those that need more
            videos are left out, with a note.
        curve: Also compute the distance of random subsets of several sizes.
        num_resamples: Number of bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the bootstrap and of the random starts of ``stylegan-v`` and ``cd-fvd``.
        device: Where the network runs. Defaults to a GPU if there is one.
        progress: Called with the name of the set, the number of videos done and the total.

    Returns:
        The distance, its interval and the cards of both sets. Report the card with the distance, which depends on the
        network, the frames, the resizing and strongly on the number of videos.

    Raises:
        DatasetError: If a set does not exist or no video of it can be used.
        TooFewFramesError: If a video has fewer frames than the network needs (9 for I3D).
        InvalidTypeError: If an array is not uint8.
        InvalidInputError: If an array has another shape, a set has fewer than two usable videos, or the sets were
            embedded with different settings.

    Example:
        >>> import numpy as np
        >>> from quovadis.models.zoo import build_model
        >>> videos = np.random.default_rng(0).integers(0, 256, (4, 9, 40, 40, 3), np.uint8)
        >>> embedder = VideoEmbedder("own", weights=build_model("i3d_tiny", num_classes=5))
        >>> real, generated = embedder.embed(videos, role="real"), embedder.embed(videos[:, ::-1])
        >>> result = frechet_video_distance(real, generated)
        >>> result.value > 0, result.real.ddof, result.real.num_frames
        (True, 1, 9)

    References:
        Unterthiner et al., "Towards Accurate Generative Models of Video: A New Metric and Challenges",
        https://arxiv.org/abs/1812.01717.
    """
    require_set_metrics(metrics)
    embedder = VideoEmbedder(protocol, seed=seed, device=device)

    def embedded(videos: Any, role: Role) -> VideoEmbeddings:
        if isinstance(videos, VideoEmbeddings):
            return videos
        if is_embeddings_file(videos):
            return VideoEmbeddings.load(videos)
        return embedder.embed(videos, role=role, progress=progress)

    embedder.require_usable((real, "real"), (generated, "generated"))
    sets = embedded(real, "real"), embedded(generated, "generated")
    return _compare(*sets, [name for name in metrics if name != "fvd"], curve, num_resamples, seed)


def _compare(
    real: VideoEmbeddings,
    generated: VideoEmbeddings,
    metrics: Sequence[str],
    curve: bool,
    num_resamples: int,
    seed: int,
) -> FvdResult:
    differences = real.card.differences(generated.card)
    if differences:
        raise InvalidInputError(
            f"the two sets were embedded with different settings: {'; '.join(differences)} (first {real.card.data}, "
            f"then {generated.card.data}). Embed both with the same settings"
        )
    for embeddings in (real, generated):
        if embeddings.card.num_videos < 2:
            raise InvalidInputError(
                f"{embeddings.card.data} has one usable video; a distance between sets needs at least 2"
            )
    ddof = real.card.ddof
    interval = None
    if num_resamples:
        interval = frechet_interval(
            real.features, generated.features, ddof=ddof, num_resamples=num_resamples, seed=seed
        )
    distance = partial(frechet_distance, ddof=ddof)
    features = real.features, generated.features
    resamples, fewest = min(num_resamples, _MAX_METRIC_RESAMPLES), min(map(len, features))
    halves = half_split_distance(real.features, distance=distance, seed=seed) if len(real.features) >= 4 else None
    notes = list(_notes(real.card, generated.card, halves))
    left_out = [name for name in metrics if fewest < MIN_VIDEOS[name]]
    if left_out:
        least_videos = max(MIN_VIDEOS[name] for name in left_out)
        notes.append(f"left out, because they need up to {least_videos} videos in each set: {', '.join(left_out)}")
    return FvdResult(
        distance(real.moments, generated.moments),
        interval,
        real.card,
        generated.card,
        tuple(notes),
        halves,
        frechet_at_infinity(*features, ddof=ddof, seed=seed) if fewest >= _least_to_extrapolate(real.card) else None,
        set_metrics(*features, [n for n in metrics if n not in left_out], num_resamples=resamples, seed=seed),
        sample_curve(*features, distance=distance, seed=seed) if curve else (),
    )


def _least_to_extrapolate(card: FvdCard) -> int:
    """Number of videos in each set below which the extrapolation is not linear."""
    return 4 * card.feature_dim


def _describe(repeated: RepeatedDistance | None) -> dict[str, Any] | None:
    if repeated is None:
        return None
    return {"num_videos": repeated.count, "mean": repeated.mean, "std": repeated.std}


def _notes(real: FvdCard, generated: FvdCard, halves: RepeatedDistance | None) -> tuple[str, ...]:
    protocol = find_fvd_protocol(real.protocol)
    needed = protocol.max_videos or 2 * real.feature_dim
    reason = (
        f"the protocol uses {needed}"
        if protocol.max_videos
        else f"fewer than {needed}, twice the number of features, do not determine their covariance"
    )
    notes = []
    if halves is not None and min(real.num_videos, generated.num_videos) < needed:
        reason += f"; random halves of the real set, {halves.count} videos each, already differ by {halves.mean:.0f}"
    for role, card in (("real", real), ("generated", generated)):
        if card.num_videos < needed:
            notes.append(
                f"{card.num_videos} {role} videos are few ({reason}): the distance is too large and compares only with "
                "distances of equally many videos"
            )
        if card.num_short:
            notes.append(f"{card.num_short} {role} videos have fewer than {card.num_frames} frames and were skipped")
        if card.unreadable:
            notes.append(f"{len(card.unreadable)} {role} videos could not be read and were skipped")
    if set(real.frame_sizes) != set(generated.frame_sizes):
        notes.append("the frame sizes of the two sets differ; resizing them differently adds to the distance")
    if real.num_videos != generated.num_videos:
        notes.append(f"the sets have different numbers of videos: {real.num_videos} and {generated.num_videos}")
    return tuple(notes)
