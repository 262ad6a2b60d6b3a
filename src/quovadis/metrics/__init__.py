"""Distances between sets of features.

Example::

    distance = frechet_distance(real_features, generated_features)
"""

from typing import TYPE_CHECKING

from quovadis.runtime.lazy import attach

if TYPE_CHECKING:
    from quovadis.metrics.frechet import FrechetInterval as FrechetInterval
    from quovadis.metrics.frechet import frechet_distance as frechet_distance
    from quovadis.metrics.frechet import frechet_interval as frechet_interval
    from quovadis.metrics.moments import FeatureMoments as FeatureMoments

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "frechet": ["FrechetInterval", "frechet_distance", "frechet_interval"],
        "moments": ["FeatureMoments"],
    },
)
