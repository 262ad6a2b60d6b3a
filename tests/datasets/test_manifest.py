from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.datasets.manifest import SPLITS, Manifest, VideoRecord, assign_splits
from quovadis.errors import DatasetError, UnknownNameError


def manifest(*records: VideoRecord) -> Manifest:
    return Manifest("toy", Path("/data"), ("run", "jump"), records)


def record(name: str, label: int = 0, split: str = "train", group: str = "") -> VideoRecord:
    return VideoRecord(Path("/data") / name, label, split, group)


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"1 groups lie in more than one split \(cam1"):
        manifest(record("a.mp4", split="train", group="cam1"), record("b.mp4", split="test", group="cam1"))


def test_no_videos_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no videos found"):
        manifest()


def test_split_returns_its_videos_and_refuses_unknown_or_empty_ones() -> None:
    data = manifest(record("a.mp4"), record("b.mp4", split="test"))
    assert [r.path.name for r in data.split("test")] == ["b.mp4"]
    with pytest.raises(DatasetError, match="no videos in its val split"):
        data.split("val")
    with pytest.raises(UnknownNameError, match="did you mean 'test'"):
        data.split("tset")


def test_identity_depends_on_what_is_listed_and_not_on_the_order() -> None:
    a, b = record("a.mp4"), record("b.mp4", label=1)
    same = manifest(a, b).identity
    assert manifest(b, a).identity == same
    assert manifest(a, record("b.mp4", label=0)).identity != same
    assert manifest(a, record("b.mp4", label=1, split="test")).identity != same
    assert manifest(a, record("b.mp4", label=1, group="g")).identity != same


def test_identity_depends_on_the_size_of_the_files(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1234")
    listed = VideoRecord(file, 0, "train")
    before = Manifest("toy", tmp_path, ("run",), (listed,)).identity
    file.write_bytes(b"12345")
    assert Manifest("toy", tmp_path, ("run",), (listed,)).identity != before


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


def test_splits_come_near_the_fractions_in_every_class() -> None:
    labels = [i % 4 for i in range(400)]
    splits = assign_splits(labels, [""] * 400)
    for label in range(4):
        mine = [s for s, lab in zip(splits, labels, strict=True) if lab == label]
        assert [mine.count(s) for s in SPLITS] == [70, 15, 15]
