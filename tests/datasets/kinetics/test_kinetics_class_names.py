"""Class names of Kinetics."""

from pathlib import Path

import pytest

from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.errors import UnknownNameError


@pytest.mark.parametrize("name", LABEL_SETS)
def test_label_lists_are_complete_unique_and_sorted_by_bytes(name: str) -> None:
    labels = class_labels(name)
    assert len(labels) == len(set(labels)) == LABEL_SETS[name]
    assert list(labels) == sorted(labels, key=str.encode)
    with pytest.raises(UnknownNameError, match="did you mean"):
        class_labels(name[:-1])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kinetics400", "i3d_label_map.txt"),
        ("kinetics600", "i3d_label_map_600.txt"),
        ("kinetics700", "mmaction2_label_maps/k700.txt"),
    ],
)
def test_label_lists_are_the_published_ones(shared: Path, name: str, file: str) -> None:
    official = (shared / "data" / "reference" / file).read_text().splitlines()
    assert list(class_labels(name)) == official
