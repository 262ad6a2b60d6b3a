"""Metrics between the features of real and generated videos, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quovadis.errors import UnknownNameError
from quovadis.metrics.frechet import frechet_distance, frechet_interval
from quovadis.metrics.kernel import kernel_interval, kernel_video_distance
from quovadis.metrics.neighbors import (
    density_coverage,
    density_coverage_intervals,
    precision_recall,
    precision_recall_intervals,
)

SET_METRICS = ("fvd", "kvd", "precision", "recall", "density", "coverage")
"""Names of the metrics; distances (``fvd``, ``kvd``) are better if lower, the others if higher."""


MIN_VIDEOS = {"fvd": 2, "kvd": 4, "precision": 8, "recall": 8, "density": 12, "coverage": 12}
"""Number of videos in each set that a metric and its interval need."""


@dataclass(frozen=True)
class SetMetric:
    """Value of a metric with its interval.

    >>> str(SetMetric("recall", 0.5, 0.42, 0.61))
    'recall 0.5 (0.42 to 0.61)'
    """

    name: str
    value: float
    low: float | None = None
    """Lower end of the 95 % interval from resampled sets; None without intervals."""
    high: float | None = None
    """Upper end of the interval."""

    def __str__(self) -> str:
        interval = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.name} {self.value:.4g}{interval}"


def set_metrics(
    real: Any,
    generated: Any,
    names: Sequence[str] = SET_METRICS,
    *,
    ddof: int = 1,
    num_resamples: int = 100,
    seed: int = 0,
) -> tuple[SetMetric, ...]:
    """Compute metrics between the features of two sets of videos.

    Args:
        real: Features (N, D).
        generated: Features (M, D).
        names: Any of :data:`SET_METRICS`.
        ddof: See :func:`quovadis.metrics.frechet_distance`.
        num_resamples: Number of resampled sets for the intervals; 0 for no intervals.
        seed: Seed of the resampling.

    Returns:
        The metrics in the order of ``names``.

    Raises:
        UnknownNameError: If there is no such metric.
        InvalidInputError: If features are invalid, or there are too few videos for a metric.

    Example:
        >>> import numpy as np
        >>> features = np.random.default_rng(0).normal(size=(40, 8))
        >>> [metric.value for metric in set_metrics(features, features, ("precision", "coverage"))]
        [1.0, 1.0]
    """
    require_set_metrics(names)
    options: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    found: dict[str, SetMetric] = {}
    if "fvd" in names:
        value = frechet_distance(real, generated, ddof=ddof)
        found["fvd"] = _metric("fvd", value, num_resamples and frechet_interval(real, generated, ddof=ddof, **options))
    if "kvd" in names:
        value = kernel_video_distance(real, generated)
        found["kvd"] = _metric("kvd", value, num_resamples and kernel_interval(real, generated, **options))
    pairs: tuple[tuple[tuple[str, str], Any, Any], ...] = (
        (("precision", "recall"), precision_recall, precision_recall_intervals),
        (("density", "coverage"), density_coverage, density_coverage_intervals),
    )
    for pair, compute, compute_intervals in pairs:
        if not set(pair) & set(names):
            continue
        values = compute(real, generated)
        intervals = compute_intervals(real, generated, **options) if num_resamples else (None, None)
        for name, interval in zip(pair, intervals, strict=True):
            found[name] = _metric(name, getattr(values, name), interval)
    return tuple(found[name] for name in names)


def require_set_metrics(names: Sequence[str]) -> None:
    """Raise UnknownNameError if a name is not one of :data:`SET_METRICS`.

    >>> require_set_metrics(["fvd"])
    """
    for name in names:
        if name not in SET_METRICS:
            raise UnknownNameError.among("metric", name, SET_METRICS)


def _metric(name: str, value: float, interval: Any) -> SetMetric:
    return SetMetric(name, value, interval.low, interval.high) if interval else SetMetric(name, value)
