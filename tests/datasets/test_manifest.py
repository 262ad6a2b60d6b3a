from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.datasets.manifest import SPLITS, UNLABELED, Manifest, VideoRecord, assign_splits
from quovadis.errors import DatasetError, UnknownNameError


def manifest(*records: VideoRecord) -> Manifest:
    return Manifest("toy", Path("/data"), ("run", "jump"), records)


def record(name: str, label: int = 0, split: str = "train", group: str = "") -> VideoRecord:
    return VideoRecord(Path("/data") / name, label, split, group)


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"1 groups lie in more than one split \(cam1"):
        manifest(record("a.mp4", split="train", group="cam1"), record("b.mp4", split="test", group="cam1"))


def test_a_file_in_two_splits_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"toy: a\.mp4 is listed in train and in test"):
        manifest(record("a.mp4", split="train"), record("a.mp4", split="test"))


@pytest.mark.parametrize("label", [2, -2])
def test_a_class_number_without_a_name_is_refused(label: int) -> None:
    with pytest.raises(DatasetError, match=f"toy has 2 classes, and videos of class number {label}"):
        manifest(record("a.mp4", label=label))


def test_videos_without_a_label_are_listed_and_never_measured() -> None:
    data = manifest(record("a.mp4"), record("b.mp4", label=UNLABELED, split="test"))
    assert [data.label_of(r) for r in data.records] == ["run", ""]
    assert len(data.split("train")) == 1
    with pytest.raises(DatasetError, match="1 of 1 videos in the test split of toy have no label"):
        data.split("test")
    renumbered = data.with_labels(("jump", "run"))
    assert [r.label for r in renumbered.records] == [1, UNLABELED]
    assert renumbered.fingerprint == data.fingerprint


def test_keeping_classes_renumbers_and_tells() -> None:
    data = manifest(record("a.mp4", 0), record("b.mp4", 1), record("c.mp4", UNLABELED))
    kept = data.keep_classes(["jump"])
    assert [(r.path.name, r.label) for r in kept.records] == [("b.mp4", 0)]
    assert (kept.name, kept.labels, kept.notes) == ("toy-1classes", ("jump",), ("1 of 2 classes",))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "no classes are named"),
        (["run", "run"], "names run twice"),
        (["run", "jmp"], r"has no class 'jmp' \(did you mean 'jump'\?\), and lacks 1 of the 2"),
    ],
)
def test_a_list_of_classes_that_does_not_fit_is_refused(classes: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        manifest(record("a.mp4")).keep_classes(classes)


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
    same = manifest(a, b).fingerprint
    assert manifest(b, a).fingerprint == same
    assert manifest(a, record("b.mp4", label=0)).fingerprint != same
    assert manifest(a, record("b.mp4", label=1, split="test")).fingerprint != same
    assert manifest(a, record("b.mp4", label=1, group="g")).fingerprint != same


def test_identity_does_not_depend_on_what_indexing_finds() -> None:
    listed = record("a.mp4")
    indexed = replace(listed, num_frames=3, fps=25.0, sha256="0" * 64, size_bytes=7, status="ok")
    assert manifest(listed).fingerprint == manifest(indexed).fingerprint


def test_identity_depends_on_the_size_of_the_files(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1234")
    listed = VideoRecord(file, 0, "train")
    before = Manifest("toy", tmp_path, ("run",), (listed,)).fingerprint
    file.write_bytes(b"12345")
    assert Manifest("toy", tmp_path, ("run",), (listed,)).fingerprint != before


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
