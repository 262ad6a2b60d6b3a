"""Manifests of files that are listed more than once or through links, and of a single class."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.datasets.video_files import same_files
from quovadis.errors import DatasetError

LINKS = pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic link", "hard link"])


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def table(root: Path, *rows: str, header: str = "path,label,split") -> Manifest:
    (root / "l.csv").write_text("\n".join([header, *rows]))
    return load_dataset(root / "l.csv")


@LINKS
def test_one_file_in_two_splits_is_refused(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    write(tmp_path, "train/run/a.mp4", "train/hop/b.mp4", "test/run/c.mp4", "val/run/d.mp4")
    link(tmp_path / "train/run/a.mp4", tmp_path / "test/run/x.mp4")
    with pytest.raises(DatasetError, match=r"test/run/x.mp4 in test and train/run/a.mp4 in train are one file"):
        load_dataset(tmp_path)
    rows = ["train/run/a.mp4,run,train", "test/run/x.mp4,run,test", "train/hop/b.mp4,hop,train"]
    with pytest.raises(DatasetError, match=r"a\.mp4 in train and test/run/x\.mp4 in test are one file \(a link\)"):
        table(tmp_path, *rows)


def test_a_linked_folder_in_two_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train/run/a.mp4", "train/hop/b.mp4", "test/hop/c.mp4")
    (tmp_path / "test" / "run").symlink_to(tmp_path / "train" / "run")
    with pytest.raises(DatasetError, match=r"are one file \(a link\)"):
        load_dataset(tmp_path)


@LINKS
def test_one_file_with_two_labels_is_noted_and_stays_in_one_split(
    tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    write(tmp_path, *(f"run/{i}.mp4" for i in range(20)), "hop/other.mp4")
    for i in range(20):
        link(tmp_path / f"run/{i}.mp4", tmp_path / f"hop/{i}.mp4")
    data = load_dataset(tmp_path)
    assert "listed with several labels: hop/0.mp4 and run/0.mp4 (hop and run), " in data.notes[-1]
    assert data.notes[-1].endswith("... (20 in all)")
    splits = {r.path.name: {o.split for o in data.records if o.path.name == r.path.name} for r in data.records}
    assert all(len(s) == 1 for s in splits.values())
    assert {r.split for r in data.records} == {"train", "val", "test"}


def test_one_path_with_two_labels_is_noted(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4")
    data = table(tmp_path, "a.mp4,run", "b.mp4,hop", "a.mp4,hop", header="path,label")
    assert data.notes[-1] == "listed with several labels: a.mp4 (run and hop)"
    assert len(data.records) == 3


def test_repeated_rows_count_once(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    data = table(tmp_path, "a.mp4,run,train", "b.mp4,hop,test", "a.mp4,run,train", "c.mp4,run,val", "b.mp4,hop,test")
    assert [r.path.name for r in data.records] == ["a.mp4", "b.mp4", "c.mp4"]
    assert data.notes == ("listed more than once, counted once: a.mp4, b.mp4",)
    with pytest.raises(DatasetError, match=r"a.mp4 is listed in train and in test"):
        table(tmp_path, "a.mp4,run,train", "a.mp4,run,test")


@LINKS
def test_one_file_under_two_names_is_noted(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    write(tmp_path, "run/a.mp4", "hop/b.mp4")
    link(tmp_path / "run/a.mp4", tmp_path / "run/c.mp4")
    assert load_dataset(tmp_path).notes[-1] == "listed under several names (links): run/a.mp4 and run/c.mp4"


def test_one_file_with_two_groups_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DatasetError, match=r"a.mp4 is listed with the groups 'x' and 'y'"):
        table(tmp_path, "a.mp4,run,x", "a.mp4,hop,y", "b.mp4,run,x", header="path,label,group")


def test_a_single_class_is_noted(tmp_path: Path) -> None:
    write(tmp_path, "run/a.mp4", "run/b.mp4")
    assert load_dataset(tmp_path).notes[-1] == "all videos have the class 'run': a classifier needs at least two"
    write(tmp_path, "hop/a.mp4")
    assert not any("needs at least two" in note for note in load_dataset(tmp_path).notes)


def test_notes_on_files_are_updated_when_a_manifest_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    os.link(tmp_path / "a.mp4", tmp_path / "d.mp4")
    rows = ("a.mp4,run,train", "b.mp4,hop,train", "c.mp4,hop,val", "c.mp4,run,val", "d.mp4,run,train", "e.mp4,run,test")
    data = table(tmp_path, *rows)
    assert len(data.notes) == 3
    data.save(tmp_path / "m.parquet")
    assert load_dataset(tmp_path / "m.parquet").notes == data.notes
    write(tmp_path, "e.mp4")
    (tmp_path / "d.mp4").unlink()
    write(tmp_path, "d.mp4")
    assert load_dataset(tmp_path / "m.parquet").notes == ("listed with several labels: c.mp4 (hop and run)",)


def test_equal_inode_numbers_alone_do_not_make_files_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.mp4", "b.mp4")
    status = os.stat(tmp_path / "a.mp4")
    monkeypatch.setattr("os.stat", lambda path, **options: status)
    assert same_files([tmp_path / "a.mp4", tmp_path / "b.mp4"]) == []
