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
    from quovadis.metrics.moments import FeatureMoments as FeatureMoments

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "calibration": ["ReliabilityBin", "expected_calibration_error", "fit_temperature", "reliability_bins"],
        "frechet": ["FrechetInterval", "frechet_distance", "frechet_interval"],
        "moments": ["FeatureMoments"],
    },
)
