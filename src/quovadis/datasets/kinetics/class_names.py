"""Class names of Kinetics-400, -600 and -700, in the order of the published logits."""

from functools import cache
from importlib.resources import files

from quovadis.errors import UnknownNameError

LABEL_SETS = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700}
"""Names for :func:`class_labels`, each with its number of classes."""


@cache
def class_labels(name: str) -> tuple[str, ...]:
    """Return the class names in the official order, which is the order of the logits.

    Names are sorted by bytes, as in the official files. Other projects number the same classes differently.

    Args:
        name: ``"kinetics400"``, ``"kinetics600"`` or ``"kinetics700"``.

    Raises:
        UnknownNameError: If there is no such list.

    Example:
        >>> class_labels("kinetics400")[227], len(class_labels("kinetics600"))
        ('playing cricket', 600)

    References:
        Kinetics-400 and -600: ``data/label_map.txt`` and ``data/label_map_600.txt`` of
        https://github.com/google-deepmind/kinetics-i3d. Kinetics-700 has no official file; its names are those of
        https://github.com/open-mmlab/mmaction2.
    """
    if name not in LABEL_SETS:
        raise UnknownNameError.among("list of labels", name, LABEL_SETS)
    text = files("quovadis.datasets.kinetics").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
