"""Class names of the published datasets, in the order of the published logits."""

from functools import cache
from importlib.resources import files

from quovadis.errors import UnknownNameError

LABEL_SETS = {"kinetics400": 400, "kinetics600": 600, "kinetics700": 700}
"""Names for :func:`class_labels` and the number of classes of each."""


@cache
def class_labels(name: str) -> tuple[str, ...]:
    """Class names in the official order: the index is the place in the logits.

    The order is that of ``data/label_map.txt`` and ``label_map_600.txt`` of google-deepmind/kinetics-i3d, which is
    the order of bytes. Other projects number the same classes in other orders. DeepMind published no such file for
    Kinetics-700: its names are those that open-mmlab/mmaction2 lists, in the order of bytes too.

    Args:
        name: ``"kinetics400"``, ``"kinetics600"`` or ``"kinetics700"``.

    Raises:
        UnknownNameError: no such list.

    >>> class_labels("kinetics400")[227], len(class_labels("kinetics600"))
    ('playing cricket', 600)
    """
    if name not in LABEL_SETS:
        raise UnknownNameError.among("list of labels", name, LABEL_SETS)
    text = files("quovadis.datasets.kinetics").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
