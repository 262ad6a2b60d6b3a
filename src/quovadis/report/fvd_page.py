"""Write the HTML page about a set of generated videos: metrics, sample curve, and videos to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from quovadis.errors import QuovadisError
from quovadis.fvd.card import FvdCard, VideoEmbeddings
from quovadis.fvd.distance import FvdResult
from quovadis.fvd.inputs import open_videos
from quovadis.fvd.metric_values import MIN_VIDEOS, set_metrics
from quovadis.fvd.video_set import VideoSet
from quovadis.metrics.frechet import frechet_distance
from quovadis.metrics.nearest import nearest_samples, uncovered_samples
from quovadis.metrics.sample_size import RepeatedDistance, half_split_distance, sample_curve
from quovadis.report.charts import filmstrip_uri, sample_curve_svg
from quovadis.report.html import render
from quovadis.runtime.atomic import write_atomically
from quovadis.video.resize import resize_frames

NUM_NEIGHBORS = 5
"""Neighbors that define whether a real video is covered; as in :func:`quovadis.metrics.density_coverage`."""
_STRIP_HEIGHT_PX = 96
_TITLES = {"kvd": "KVD"}
_EXPLANATIONS = {
    "kvd": ("0", "kernel distance of the features; its mean does not depend on the number"),
    "precision": ("1", "generated videos near a real one"),
    "recall": ("1", "real videos near a generated one"),
    "density": ("1", "how many real videos generated ones are near to"),
    "coverage": ("1", "real videos with a generated one among the nearest"),
}
"""Value of a perfect generator, and meaning, of each metric."""


@dataclass(frozen=True)
class MetricRow:
    """A row in the table of metrics."""

    name: str
    value: float
    low: float | None = None
    """Lower end of the confidence interval; None without one."""
    high: float | None = None
    best: str = ""
    """Value of a perfect generator, such as "0" or "1"."""
    explanation: str = ""


@dataclass(frozen=True)
class VideoStrip:
    """A video with its nearest video of the other set."""

    name: str
    distance: float
    """Distance of the features."""
    nearest: str
    """Name of the nearest video of the other set."""
    strip: str = ""
    """``data:`` URL of a filmstrip; empty if the video is not available."""
    nearest_strip: str = ""


@dataclass(frozen=True)
class FvdPage:
    """Content of the HTML page about a set of generated videos."""

    title: str
    summary: str
    metrics: Sequence[MetricRow]
    confidence: float | None = None
    """Confidence of the intervals; None without intervals."""
    curve: Sequence[RepeatedDistance] = ()
    """FVD of random subsets."""
    baseline: RepeatedDistance | None = None
    """FVD of random halves of the real set."""
    infinity: str = ""
    """The FVD extrapolated to infinitely many videos, or why there is none."""
    farthest: Sequence[VideoStrip] = ()
    """Generated videos that are farthest from their nearest real video."""
    uncovered: Sequence[VideoStrip] = ()
    """Real videos that are not covered by generated ones."""
    num_uncovered: int = 0
    num_real: int = 0
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    def to_html(self) -> str:
        """Render the page as one string with all styles and images embedded."""
        return render(
            "quovadis.report",
            "fvd.html",
            title=self.title,
            summary=self.summary,
            page=self,
            num_neighbors=NUM_NEIGHBORS,
            chart=sample_curve_svg(self.curve, self.baseline) if self.curve else "",
        )


def write_fvd_page(
    path: str | PathLike[str],
    result: FvdResult,
    real: VideoEmbeddings,
    generated: VideoEmbeddings,
    *,
    real_videos: Any = None,
    generated_videos: Any = None,
    metrics: Sequence[MetricRow] | None = None,
    num_videos: int = 6,
    seed: int = 0,
) -> Path:
    """Write a self-contained HTML page about a set of generated videos.

    Args:
        path: The file to write.
        result: Distance of the two sets.
        real: Features of the real videos.
        generated: Features of the generated videos.
        real_videos: The real videos as given to :meth:`quovadis.fvd.VideoEmbedder.embed`, for the filmstrips. Without
            them, only the names are listed.
        generated_videos: Likewise.
        metrics: Rows of the table below the FVD. Defaults to all metrics that the number of videos is sufficient for.
        num_videos: Maximum number of generated and of real videos to show.
        seed: Seed of the random subsets.

    Returns:
        The path of the file.

    Raises:
        DatasetError: If the videos do not exist.
        StorageError: If the file cannot be written.

    Example:
        >>> real, generated = embedder.embed("real/"), embedder.embed("generated/")  # doctest: +SKIP
        >>> result = frechet_video_distance(real, generated)  # doctest: +SKIP
        >>> page = write_fvd_page(
        ...     "fvd.html", result, real, generated, real_videos="real/", generated_videos="generated/"
        ... )  # doctest: +SKIP
    """
    page = fvd_page(
        result,
        real,
        generated,
        real_strips=_Filmstrips(real_videos, real),
        generated_strips=_Filmstrips(generated_videos, generated),
        metrics=metric_rows(real.features, generated.features, seed=seed) if metrics is None else metrics,
        num_videos=num_videos,
        seed=seed,
    )
    return write_atomically(path, page.to_html())


def fvd_page(
    result: FvdResult,
    real: VideoEmbeddings,
    generated: VideoEmbeddings,
    *,
    real_strips: _Filmstrips,
    generated_strips: _Filmstrips,
    metrics: Sequence[MetricRow],
    num_videos: int,
    seed: int,
) -> FvdPage:
    """Select the videos to show and compute the sample curve."""
    ddof, interval = result.real.ddof, result.interval

    def distance(x: Any, y: Any) -> float:
        return frechet_distance(x, y, ddof=ddof)

    most = min(len(real.features), len(generated.features))
    curve = sample_curve(real.features, generated.features, distance=distance, seed=seed)
    baseline = None
    if len(real.features) >= 4:
        half = min(len(real.features) // 2, most)
        baseline = half_split_distance(real.features, distance=distance, count=half, seed=seed)
    fvd = MetricRow(
        "FVD",
        result.value,
        None if interval is None else interval.low,
        None if interval is None else interval.high,
        "0",
        "distance of the features; compares only with that of equally many videos",
    )
    nearest_real = nearest_samples(generated.features, real.features)
    nearest_generated = nearest_samples(real.features, generated.features)
    farthest = (-nearest_real.distances).argsort(kind="stable")[:num_videos]
    covered = most > NUM_NEIGHBORS
    uncovered = np.empty(0, np.int64)
    if covered:
        uncovered = uncovered_samples(real.features, generated.features, num_neighbors=NUM_NEIGHBORS)
    return FvdPage(
        title=f"FVD {result.value:.4g}",
        summary=f"{generated.card.num_videos} generated videos ({generated.card.data}) and {real.card.num_videos} real "
        f"ones ({real.card.data}); {real.card.describe()}.",
        metrics=[fvd, *metrics],
        confidence=None if interval is None else interval.confidence,
        curve=curve,
        baseline=baseline,
        infinity=result.describe_infinity(),
        farthest=[
            generated_strips.compare(i, nearest_real.indices[i], nearest_real.distances[i], real_strips)
            for i in farthest
        ],
        uncovered=[
            real_strips.compare(i, nearest_generated.indices[i], nearest_generated.distances[i], generated_strips)
            for i in uncovered[:num_videos]
        ],
        num_uncovered=len(uncovered),
        num_real=len(real.features) if covered else 0,
        notes=result.notes,
        facts=_facts(real.card, generated.card),
    )


def metric_rows(real: Any, generated: Any, *, seed: int = 0, num_resamples: int = 100) -> list[MetricRow]:
    """Compute the metrics of :mod:`quovadis.metrics` with intervals, without those that need more videos.

    Args:
        real: Features (N, D).
        generated: Features (M, D).
        seed: Seed of the intervals.
        num_resamples: Number of resampled values for each interval.
    """
    fewest = min(len(real), len(generated))
    names = [name for name in _EXPLANATIONS if fewest >= MIN_VIDEOS[name]]
    found = set_metrics(real, generated, names, num_resamples=num_resamples, seed=seed)
    return [MetricRow(_TITLES.get(m.name, m.name), m.value, m.low, m.high, *_EXPLANATIONS[m.name]) for m in found]


class _Filmstrips:
    """Filmstrips of an embedded set."""

    def __init__(self, videos: Any, embeddings: VideoEmbeddings):
        self._source: VideoSet | None = None if videos is None else open_videos(videos)
        self._names = embeddings.names
        self._sampling = embeddings.card.sampling
        self._indices: dict[str, int] = {}
        if self._source is not None:
            self._indices = {self._source.path(index): index for index in range(len(self._source))}

    def compare(self, row: int, other_row: int, distance: float, other: _Filmstrips) -> VideoStrip:
        """Show a video next to a video of the other set."""
        return VideoStrip(
            self.name(row), float(distance), other.name(other_row), self._strip(row), other._strip(other_row)
        )

    def name(self, row: int) -> str:
        """Name of a video by its row of features."""
        return self._names[row] if self._names else f"video {row + 1}"

    def _strip(self, row: int) -> str:
        index = self._indices.get(self.name(row))
        if self._source is None or index is None:
            return ""
        try:
            sampled = self._source.read(index, self._sampling, _thumbnail)
        except QuovadisError:
            return ""
        return "" if sampled is None else filmstrip_uri(sampled.frames, height_px=_STRIP_HEIGHT_PX)


def _thumbnail(frame: Tensor) -> Tensor:
    return resize_frames(frame[None], _STRIP_HEIGHT_PX)[0]


def _facts(real: FvdCard, generated: FvdCard) -> dict[str, str]:
    facts = {"protocol": real.describe().removeprefix("protocol ")}
    facts["network"] = f"{real.network}, {real.features}, weights {real.weights_sha256[:12]}"
    for role, card in (("real", real), ("generated", generated)):
        sizes = ", ".join(f"{count} of {size}" for size, count in card.frame_sizes.items())
        facts[f"{role} videos"] = f"{card.num_videos} of {card.data} ({card.data_sha256[:12]}), {card.starts}; {sizes}"
        if card.num_short or card.unreadable:
            facts[f"{role} videos"] += f"; {card.num_short} too short, {len(card.unreadable)} not readable"
    return facts | {"quovadis": real.quovadis}
