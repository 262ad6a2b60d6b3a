from pathlib import Path

import pytest

from quovadis.datasets.load import load_dataset
from quovadis.errors import DatasetError, UnknownNameError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_folder_of_classes_gets_a_random_split(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{label}/{i}.mp4" for label in ("run", "air drumming") for i in range(20)), ".cache/x.mp4")
    data = load_dataset(tmp_path)
    assert data.labels == ("air drumming", "run")
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [28, 6, 6]
    assert data.notes == ("no split given: made one, 70/15/15 %, seed 0",)
    assert load_dataset(tmp_path).fingerprint == data.fingerprint
    assert load_dataset(tmp_path, split_seed=1).fingerprint != data.fingerprint


def test_a_folder_of_ucf101_is_split_by_its_groups(tmp_path: Path) -> None:
    names = [f"{c}/v_{c}_g{g:02d}_c{i:02d}.avi" for c in ("Run", "YoYo") for g in range(1, 15) for i in range(1, 4)]
    touch(tmp_path / "a", *names)
    data = load_dataset(tmp_path / "a")
    assert data.notes[0] == "file names match UCF-101: groups are derived from them"
    assert {r.group for r in data.records} == {f"{c}_g{g:02d}" for c in ("Run", "YoYo") for g in range(1, 15)}
    touch(tmp_path / "b", "train/Run/v_Run_g01_c01.avi", "test/Run/v_Run_g01_c02.avi")
    with pytest.raises(DatasetError, match=r"1 groups are in more than one split \(Run_g01"):
        load_dataset(tmp_path / "b")


def test_a_folder_of_kinetics_may_share_videos_as_published(tmp_path: Path) -> None:
    touch(tmp_path, "train/run/aaaaaaaaaa1_000000_000010.mp4", "test/run/aaaaaaaaaa1_000020_000030.mp4")
    touch(tmp_path, *(f"train/run/bbbbbbbbb{i}-_000000_000010.mp4" for i in range(9)))
    data = load_dataset(tmp_path)
    assert data.notes[1] == "1 videos have clips in two splits: aaaaaaaaaa1"
    assert sorted(r.group for r in data.records) == ["", "", *(f"bbbbbbbbb{i}-" for i in range(9))]


def test_a_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    touch(
        tmp_path, "Train/run/a.mp4", "Train/jump/b.avi", "validate/run/c.webm", "test/jump/d.gif", "test/run/notes.txt"
    )
    touch(tmp_path, "test/run/e.mkv")
    data = load_dataset(tmp_path)
    assert [(r.path.name, r.split) for r in data.records] == [
        ("b.avi", "train"),
        ("a.mp4", "train"),
        ("d.gif", "test"),
        ("e.mkv", "test"),
        ("c.webm", "val"),
    ]


def test_without_a_validation_split_some_training_videos_are_held_out(tmp_path: Path) -> None:
    touch(tmp_path, *(f"train/run/{i}.mp4" for i in range(20)), "test/run/a.mp4")
    data = load_dataset(tmp_path)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [18, 2, 1]
    assert "held out a tenth" in data.notes[0]


def test_a_class_without_videos_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "jump/readme.txt")
    with pytest.raises(
        DatasetError, match=r"jump has no video files, but 1 file .*\(\.txt 1\): add videos to this class"
    ):
        load_dataset(tmp_path)


def test_the_error_for_a_folder_without_classes_shows_the_layout(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(DatasetError, match=r"expected .*/CLASS/VIDEO\.mp4"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("delimiter", [",", "\t"], ids=["comma", "tab"])
def test_a_table_with_splits_and_groups(tmp_path: Path, delimiter: str) -> None:
    touch(tmp_path, "v/a.mp4", "v/b.mp4", "v/c.mp4")
    rows = [
        ("File", "Class", "Subset", "Group"),
        ("v/a.mp4", "run", "train", "1"),
        ("v/b.mp4", "jump", "validate", "2"),
    ]
    rows += [("v/c.mp4", "run", "test", "3")]
    data = load_dataset(table(tmp_path / "list.csv", "\ufeff" + "\r\n".join(delimiter.join(r) for r in rows)))
    assert [(r.path, data.labels[r.label], r.split, r.group) for r in data.records] == [
        (tmp_path / "v/a.mp4", "run", "train", "1"),
        (tmp_path / "v/b.mp4", "jump", "val", "2"),
        (tmp_path / "v/c.mp4", "run", "test", "3"),
    ]


def test_a_table_with_groups_and_no_split_is_split_by_group(tmp_path: Path) -> None:
    names = [f"{group}{i}.mp4" for group in "abcdefgh" for i in range(3)]
    touch(tmp_path, *names)
    text = "path,label,source_group\n" + "".join(f"{n},{'run' if n[0] < 'e' else 'jump'},{n[0]}\n" for n in names)
    data = load_dataset(table(tmp_path / "list.csv", text))
    splits: dict[str, set[str]] = {}
    for record in data.records:
        splits.setdefault(record.group, set()).add(record.split)
    assert all(len(s) == 1 for s in splits.values())
    assert data.notes == ("no split given: made one, whole groups, 70/15/15 %, seed 0",)


def test_missing_files_stay_in_the_manifest_with_a_note(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    data = load_dataset(table(tmp_path / "l.csv", "path,label,split\na.mp4,run,train\nb.mp4,run,test\nc.mp4,hop,val\n"))
    assert [r.path.name for r in data.missing()] == ["b.mp4", "c.mp4"]
    assert data.notes == (f"2 of 3 listed files are missing, the first is {tmp_path / 'b.mp4'}",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,kind\na.mp4,run\n", "has no column label; its columns: path, kind"),
        ("path,label\na.mp4,\n", "l.csv:2: the label is empty"),
        ("path,label\n,run\n", "l.csv:2: the path is empty"),
        ("path,label,split\na.mp4,run,trian\n", "l.csv:2: split is 'trian'; expected train, val or test"),
        ("path,label\n", "a header but no rows"),
        ("", "l.csv is empty"),
        ("name,kind\na.mp4,run\n", "has no column path and no column label; its columns: name, kind"),
        ("path,label\nb.mp4,run\n", "none of the 1 listed files exists"),
        ("path,label\na.mp4,run\n../a.mp4,run\n", r"l.csv:3: the path '../a.mp4' leaves the dataset's folder"),
        ("path,label\nx/..\\\\a.mp4,run\n", "leaves the dataset's folder"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    touch(tmp_path, "a.mp4")
    with pytest.raises(DatasetError, match=message.replace("(", r"\(")):
        load_dataset(table(tmp_path / "l.csv", text))


def test_the_videos_of_a_table_may_be_in_another_folder(tmp_path: Path) -> None:
    touch(tmp_path, "videos/a.mp4", "lists/x.txt", "b.mp4")
    rows = f"path,label\na.mp4,run\n{tmp_path / 'b.mp4'},run\n"
    data = load_dataset(table(tmp_path / "lists" / "l.csv", rows), root=tmp_path / "videos")
    assert [r.path for r in data.records] == [tmp_path / "videos/a.mp4", tmp_path / "b.mp4"]
    assert (data.name, data.missing()) == ("videos", ())
    with pytest.raises(DatasetError, match="is a folder, which is its own root"):
        load_dataset(tmp_path, root=tmp_path)


def test_an_unknown_name_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'motions'"):
        load_dataset("motion")
    with pytest.raises(DatasetError, match="no table of videos at"):
        load_dataset(tmp_path / "none.csv")
    touch(tmp_path, "file.bin")
    with pytest.raises(DatasetError, match=r"neither a folder nor a \.csv, \.tsv, .* or \.parquet"):
        load_dataset(tmp_path / "file.bin")


@pytest.mark.shared
def test_the_surveillance_fights_are_split_by_source(shared: Path) -> None:
    data = load_dataset(shared / "data" / "labelled" / "surv_fight" / "groups.tsv")  # codespell:ignore labelled
    assert data.labels == ("fight", "noFight")
    assert len(data.records) == 245
    assert data.missing() == ()
    assert {s: len(data.split(s)) > 20 for s in ("train", "val", "test")} == dict.fromkeys(
        ("train", "val", "test"), True
    )
