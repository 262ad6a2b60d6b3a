from dataclasses import replace
from pathlib import Path

import pytest

from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord
from quovadis.errors import DatasetError, UnknownNameError


def manifest(*records: VideoRecord) -> Manifest:
    return Manifest("toy", Path("/data"), ("run", "jump"), records)


def record(name: str, label: int = 0, split: str = "train", group: str = "") -> VideoRecord:
    return VideoRecord(Path("/data") / name, label, split, group)


def test_a_group_in_two_splits_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"1 groups are in more than one split \(cam1"):
        manifest(record("a.mp4", split="train", group="cam1"), record("b.mp4", split="test", group="cam1"))


def test_a_file_in_two_splits_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"toy: a\.mp4 is listed in train and in test"):
        manifest(record("a.mp4", split="train"), record("a.mp4", split="test"))


@pytest.mark.parametrize("label", [2, -2])
def test_a_label_without_a_name_is_refused(label: int) -> None:
    with pytest.raises(DatasetError, match=f"toy has 2 classes, but a video has the label {label}"):
        manifest(record("a.mp4", label=label))


def test_unlabeled_videos_are_listed_but_cannot_be_evaluated() -> None:
    data = manifest(record("a.mp4"), record("b.mp4", label=UNLABELED, split="test"))
    assert [data.label_of(r) for r in data.records] == ["run", ""]
    assert len(data.split("train")) == 1
    with pytest.raises(DatasetError, match="1 of 1 videos in the test split of toy have no label"):
        data.split("test")
    renumbered = data.with_labels(("jump", "run"))
    assert [r.label for r in renumbered.records] == [1, UNLABELED]
    assert renumbered.fingerprint == data.fingerprint


def test_keep_classes_renumbers_labels_and_adds_a_note() -> None:
    data = manifest(record("a.mp4", 0), record("b.mp4", 1), record("c.mp4", UNLABELED))
    kept = data.keep_classes(["jump"])
    assert [(r.path.name, r.label) for r in kept.records] == [("b.mp4", 0)]
    assert (kept.name, kept.labels, kept.reading_notes) == ("toy-1classes", ("jump",), ("1 of 2 classes",))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "the list of classes is empty"),
        (["run", "run"], "the list of classes repeats run"),
        (["run", "jmp"], r"has no class 'jmp' \(did you mean 'jump'\?\); 1 of the 2 requested classes are unknown"),
    ],
)
def test_keep_classes_refuses_invalid_lists(classes: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        manifest(record("a.mp4")).keep_classes(classes)


def test_no_videos_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no videos found"):
        manifest()


def test_split_returns_its_videos_and_refuses_unknown_or_empty_splits() -> None:
    data = manifest(record("a.mp4"), record("b.mp4", split="test"))
    assert [r.path.name for r in data.split("test")] == ["b.mp4"]
    with pytest.raises(DatasetError, match="no videos in its val split"):
        data.split("val")
    with pytest.raises(UnknownNameError, match="did you mean 'test'"):
        data.split("tset")


def test_fingerprint_depends_on_the_videos_but_not_on_their_order() -> None:
    a, b = record("a.mp4"), record("b.mp4", label=1)
    same = manifest(a, b).fingerprint
    assert manifest(b, a).fingerprint == same
    assert manifest(a, record("b.mp4", label=0)).fingerprint != same
    assert manifest(a, record("b.mp4", label=1, split="test")).fingerprint != same
    assert manifest(a, record("b.mp4", label=1, group="g")).fingerprint != same


def test_fingerprint_does_not_depend_on_indexing() -> None:
    listed = record("a.mp4")
    indexed = replace(listed, num_frames=3, fps=25.0, sha256="0" * 64, size_bytes=7, status="ok")
    assert manifest(listed).fingerprint == manifest(indexed).fingerprint


def test_fingerprint_depends_on_file_sizes(tmp_path: Path) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(b"1234")
    listed = VideoRecord(file, 0, "train")
    before = Manifest("toy", tmp_path, ("run",), (listed,)).fingerprint
    file.write_bytes(b"12345")
    assert Manifest("toy", tmp_path, ("run",), (listed,)).fingerprint != before
