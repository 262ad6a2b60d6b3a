from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.datasets.manifest import SPLITS
from quovadis.datasets.splits import assign_splits


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80), st.integers(0, 5))
def test_splits_keep_groups_whole(rows: list[tuple[int, int]], seed: int) -> None:
    labels, groups = [label for label, _ in rows], [f"g{group}" for _, group in rows]
    splits = assign_splits(labels, groups, seed=seed)
    assert set(splits) <= set(SPLITS)
    assert splits == assign_splits(labels, groups, seed=seed)
    of_group: dict[str, set[str]] = {}
    for group, split in zip(groups, splits, strict=True):
        of_group.setdefault(group, set()).add(split)
    assert all(len(s) == 1 for s in of_group.values())


def test_splits_have_the_requested_fractions_in_every_class() -> None:
    labels = [i % 4 for i in range(400)]
    splits = assign_splits(labels, [""] * 400)
    for label in range(4):
        mine = [s for s, lab in zip(splits, labels, strict=True) if lab == label]
        assert [mine.count(s) for s in SPLITS] == [70, 15, 15]
