"""The default network, used if the user names no weights."""

import sys

from quovadis.runtime.plain_text import print
from quovadis.weights.catalog import DEFAULT_WEIGHTS, find_entry

_MORE_ACCURATE = "i3d-rgb-imagenet-kinetics400", "i3d-flow-imagenet-kinetics400"
_MORE_ACCURATE_TOP1 = 74.2  # both streams, Table 3 of the paper

_announced = False


def default_weights() -> str:
    """Return the name of the default network.

    The first call in a process prints its published accuracy and license on stderr, and a more accurate alternative.

    Example:
        >>> default_weights()
        'i3d-rgb-kinetics400'
    """
    global _announced
    if not _announced:
        _announced = True
        entry = find_entry(DEFAULT_WEIGHTS)
        print(
            f"Using {entry.name}: {entry.num_classes} Kinetics actions, {entry.stream.upper()}, "
            f"top-1 {entry.top1:.1f} %, top-5 {entry.top5:.1f} % as published; license {entry.license}.\n"
            f"More accurate, with optical flow (top-1 {_MORE_ACCURATE_TOP1:.1f} %): "
            f"--weights {' '.join(_MORE_ACCURATE)}",
            file=sys.stderr,
        )
    return DEFAULT_WEIGHTS
