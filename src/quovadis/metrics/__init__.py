"""Distances between sets of features, and calibration of class probabilities.

Example::

    distance = frechet_distance(real_features, generated_features)
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.metrics.calibration import ReliabilityBin as ReliabilityBin
    from quovadis.metrics.calibration import expected_calibration_error as expected_calibration_error
    from quovadis.metrics.calibration import fit_temperature as fit_temperature
    from quovadis.metrics.calibration import reliability_bins as reliability_bins
    from quovadis.metrics.frechet import FrechetInterval as FrechetInterval
    from quovadis.metrics.frechet import frechet_distance as frechet_distance
    from quovadis.metrics.frechet import frechet_interval as frechet_interval
    from quovadis.metrics.kernel import kernel_interval as kernel_interval
    from quovadis.metrics.kernel import kernel_video_distance as kernel_video_distance
    from quovadis.metrics.moments import FeatureMoments as FeatureMoments
    from quovadis.metrics.nearest import NearestSamples as NearestSamples
    from quovadis.metrics.nearest import nearest_samples as nearest_samples
    from quovadis.metrics.nearest import uncovered_samples as uncovered_samples
    from quovadis.metrics.neighbors import DensityCoverage as DensityCoverage
    from quovadis.metrics.neighbors import PrecisionRecall as PrecisionRecall
    from quovadis.metrics.neighbors import density_coverage as density_coverage
    from quovadis.metrics.neighbors import density_coverage_intervals as density_coverage_intervals
    from quovadis.metrics.neighbors import precision_recall as precision_recall
    from quovadis.metrics.neighbors import precision_recall_intervals as precision_recall_intervals
    from quovadis.metrics.resampling import MetricInterval as MetricInterval
    from quovadis.metrics.sample_size import ExtrapolatedDistance as ExtrapolatedDistance
    from quovadis.metrics.sample_size import RepeatedDistance as RepeatedDistance
    from quovadis.metrics.sample_size import frechet_at_infinity as frechet_at_infinity
    from quovadis.metrics.sample_size import half_split_distance as half_split_distance
    from quovadis.metrics.sample_size import sample_curve as sample_curve

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "calibration": ["ReliabilityBin", "expected_calibration_error", "fit_temperature", "reliability_bins"],
        "frechet": ["FrechetInterval", "frechet_distance", "frechet_interval"],
        "kernel": ["kernel_interval", "kernel_video_distance"],
        "moments": ["FeatureMoments"],
        "nearest": ["NearestSamples", "nearest_samples", "uncovered_samples"],
        "neighbors": [
            "DensityCoverage",
            "PrecisionRecall",
            "density_coverage",
            "density_coverage_intervals",
            "precision_recall",
            "precision_recall_intervals",
        ],
        "resampling": ["MetricInterval"],
        "sample_size": [
            "ExtrapolatedDistance",
            "RepeatedDistance",
            "frechet_at_infinity",
            "half_split_distance",
            "sample_curve",
        ],
    },
)
