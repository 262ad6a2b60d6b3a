"""Datasets in folders: splits, classes and ignored files."""

from pathlib import Path

import pytest

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.errors import DatasetError


def load(root: Path, *names: str) -> Manifest:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return load_dataset(root)


def test_a_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    names = [f"{label}/{i}.mp4" for label in ("bus", "train", "Test") for i in range(8)]
    data = load(tmp_path, *names)
    assert data.labels == ("Test", "bus", "train")
    assert len(data.records) == 24
    assert data.notes[0] == "Test, train: read as a class, like the folders next to it"
    assert {r.split for r in data.records} == {"train", "val", "test"}


def test_a_class_with_the_name_of_a_split_may_have_subfolders(tmp_path: Path) -> None:
    data = load(tmp_path, "bus/0.mp4", "train/1.mp4", "train/more/2.mp4")
    assert [data.label_of(r) for r in data.records] == ["bus", "train", "train"]


@pytest.mark.parametrize("name", ["train", "Validation"])
def test_an_ambiguous_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name} may be a split or a class: .*bus next to it\. Put the classes"):
        load(tmp_path, "bus/0.mp4", f"{name}/day/1.mp4", f"{name}/night/1.mp4")


def test_folders_next_to_splits_are_noted(tmp_path: Path) -> None:
    names = ["train/run/0.mp4", "val/run/1.mp4", "test/hop/2.mp4", "extra/3.mp4", "test/4.mp4", "5.mp4", "docs/a.txt"]
    data = load(tmp_path, *names)
    assert len(data.records) == 3
    assert data.notes[0] == "ignored 3 videos outside of class folders: 5.mp4, extra/3.mp4, test/4.mp4"


def test_videos_next_to_classes_are_noted(tmp_path: Path) -> None:
    data = load(tmp_path, "run/0.mp4", "hop/1.mp4", "2.mp4", "._2.mp4")
    assert data.notes[0] == "ignored 1 videos outside of class folders: 2.mp4"


def test_splits_without_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"has the splits test, train, but they contain no class folders .*/test/CLASS/VIDEO\.mp4"
    ):
        load(tmp_path, "train/0.mp4", "test/1.mp4")


def test_an_empty_split_is_not_a_class(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    data = load(tmp_path, "train/run/0.mp4", "train/hop/1.mp4", "val/run/2.mp4")
    assert data.labels == ("hop", "run")


def test_spellings_of_a_class_are_merged_with_a_note(tmp_path: Path) -> None:
    files = ("train/air drumming/0.mp4", "val/air_drumming/1.mp4", "val/Air-Drumming/2.mp4", "train/yoga/3.mp4")
    data = load(tmp_path, *files)
    assert data.labels == ("Air-Drumming", "yoga")  # all are equally frequent
    assert "'air drumming' and 'air_drumming' counted as the class 'Air-Drumming'" in data.notes
    assert [r.label for r in data.records].count(0) == 3


def test_classes_that_may_be_different_are_only_noted(tmp_path: Path) -> None:
    data = load(tmp_path, "train/airdrumming/0.mp4", "train/air drumming/1.mp4", "train/1-2/2.mp4", "train/12/3.mp4")
    assert len(data.labels) == 4
    assert "classes that differ only in spelling: air drumming and airdrumming" in data.notes


def test_converted_videos_keep_the_groups_of_their_names(tmp_path: Path) -> None:
    data = load(tmp_path / "a", *(f"YoYo/v_YoYo_g{g:02d}_c01.mp4" for g in range(1, 9)))
    assert "file names match UCF-101: groups are derived from them" in data.notes
    data = load(tmp_path / "b", *(f"walk/film{g}_walk_f_cm_np1_le_med_0.webm" for g in range(8)))
    assert {r.group for r in data.records} == {f"walk/film{g}" for g in range(8)}
