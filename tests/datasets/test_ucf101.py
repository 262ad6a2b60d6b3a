from collections import defaultdict
from pathlib import Path

import pytest

from quovadis.datasets.manifest import Manifest
from quovadis.datasets.ucf101 import load_ucf101
from quovadis.errors import DatasetError

CLASSES = ("ApplyLipstick", "Hammering", "HammerThrow", "HandstandPushups", "JumpingJack", "JumpRope")
FILE_CLASS = {"HandstandPushups": "HandStandPushups"}


def listed(label: str, group: int, clip: int) -> str:
    return f"{label}/v_{FILE_CLASS.get(label, label)}_g{group:02d}_c{clip:02d}.avi"


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Lists as published: CR line endings, numbers from 1, no numbers in the test list."""
    folder = tmp_path / "ucfTrainTestlist"
    folder.mkdir()
    lines = [f"{i} {label}" for i, label in enumerate(CLASSES, start=1)]
    (folder / "classInd.txt").write_bytes("\r\n".join(lines).encode() + b"\r\n")
    train = [f"{listed(c, g, k)} {i}" for i, c in enumerate(CLASSES, 1) for g in range(3, 13) for k in (1, 2)]
    test = [listed(label, group, 1) for label in CLASSES for group in (1, 2)]
    (folder / "trainlist02.txt").write_bytes("\r\n".join(train).encode() + b"\r\n\r\n")
    (folder / "testlist02.txt").write_bytes("\r".join(test).encode())
    return folder


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    root = tmp_path / "UCF-101"
    for label in CLASSES:
        for group in range(1, 13):
            path = root / listed(label, group, 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    return root


def test_labels_are_in_the_official_order_and_start_at_0(annotations: Path, videos: Path) -> None:
    data = load_ucf101(videos, annotations, split=2)
    assert data.labels == CLASSES != tuple(sorted(CLASSES))
    assert data.name == "ucf101-split2"
    for record in data.records:
        assert record.path.parent.name == data.labels[record.label]
    assert len(data.split("test")) == 12
    assert len(data.split("train")) + len(data.split("val")) == 120


def test_missing_videos_stay_in_the_manifest_with_a_note(annotations: Path, videos: Path) -> None:
    data = load_ucf101(videos, annotations, split=2)
    assert len(data.missing()) == 60  # every second training clip does not exist
    assert data.notes[0].startswith("no validation split given: held out a tenth of the training videos, whole groups")
    assert data.notes[1].startswith("60 of 132 listed files are missing, the first is ")


def test_groups_have_one_class_and_one_split(annotations: Path, videos: Path) -> None:
    data = load_ucf101(videos, annotations, split=2)
    splits, labels = defaultdict(set), defaultdict(set)
    for record in data.records:
        splits[record.group].add(record.split)
        labels[record.group].add(record.label)
    assert len(splits) == 72
    assert all(len(s) == 1 for s in (*splits.values(), *labels.values()))
    assert "HandstandPushups_g01" in splits


@pytest.mark.parametrize("root", [".", "UCF-101"])
def test_the_parent_folder_is_accepted_too(annotations: Path, videos: Path, root: str) -> None:
    data = load_ucf101(videos.parent / root, annotations.parent, split=2)
    assert data.root == videos
    assert data.fingerprint == load_ucf101(videos, annotations, split=2).fingerprint


def test_the_case_of_file_names_is_ignored(annotations: Path, videos: Path) -> None:
    (videos / "HandstandPushups").rename(videos / "HandStandPushups")
    for file in (videos / "HandStandPushups").iterdir():
        file.rename(file.with_name(file.name.replace("HandStand", "Handstand")))
    data = load_ucf101(videos, annotations, split=2)
    assert len(data.missing()) == 60
    (found,) = (r for r in data.records if r.group == "HandstandPushups_g01")
    assert found.path == videos / "HandStandPushups" / "v_HandstandPushups_g01_c01.avi"
    assert data.labels[found.label] == "HandstandPushups"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("classInd.txt", "8 Swing", "classInd.txt:7: got '8 Swing'; expected '7 NAME' with a new name"),
        ("classInd.txt", "7 Hammering", "classInd.txt:7: got '7 Hammering'"),
        (
            "trainlist02.txt",
            "Hammering/v_Hammering_g20_c01.avi 3",
            "class number of Hammering is [13]; expected 2 as in classInd.txt",
        ),
        ("trainlist02.txt", "Hammering/v_Hammering_g20_c01.avi", "class number of Hammering is missing"),
        ("trainlist02.txt", "Swing/v_Swing_g01_c01.avi 7", "unknown class 'Swing'"),
        ("trainlist02.txt", "../v_Hammering_g01_c01.avi 2", "expected CLASS/v_CLASS_gXX_cYY.avi"),
        ("trainlist02.txt", "Hammering/v_JumpRope_g01_c01.avi 2", "expected CLASS/v_CLASS_gXX_cYY.avi"),
        ("trainlist02.txt", "Hammering/v_Hammering_g01_c01.avi 2", "is listed in train and in test"),
        ("trainlist02.txt", "Hammering/v_Hammering_g01_c09.avi 2", "1 groups are in more than one split"),
        (
            "testlist02.txt",
            "Hammering/v_Hammering_g20_c01.avi 1",
            "class number of Hammering is [13]; expected 2 as in classInd.txt",
        ),
    ],
)
def test_an_inconsistent_list_is_refused(annotations: Path, videos: Path, file: str, line: str, message: str) -> None:
    path = annotations / file
    path.write_bytes(path.read_bytes().rstrip() + b"\r\n" + line.encode())
    with pytest.raises(DatasetError, match=message.replace("(", r"\(")):
        load_ucf101(videos, annotations, split=2)


def test_missing_annotation_files_are_named(annotations: Path, videos: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no trainlist01.txt, testlist01.txt: pass the folder that UCF101Train"):
        load_ucf101(videos, annotations, split=1)
    with pytest.raises(DatasetError, match=r"nothing has no classInd.txt, trainlist01.txt, testlist01.txt"):
        load_ucf101(videos, tmp_path / "nothing")
    with pytest.raises(DatasetError, match="there is no official split 4; expected 1, 2 or 3"):
        load_ucf101(videos, annotations, split=4)
    (annotations / "classInd.txt").write_bytes(b"1 \xcf\xee\xed")
    with pytest.raises(DatasetError, match=r"classInd\.txt:1: not UTF-8 text"):
        load_ucf101(videos, annotations, split=2)


def test_another_folder_is_refused(annotations: Path, videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(
        DatasetError, match="is not a folder: expected the folder UCF-101, which contains ApplyLipstick/"
    ):
        load_ucf101(other, annotations, split=2)
    (other / "run").mkdir(parents=True)
    with pytest.raises(DatasetError, match="other has none of the class folders"):
        load_ucf101(other, annotations, split=2)
    (other / "JumpRope").mkdir()
    with pytest.raises(DatasetError, match="none of the 132 listed files exists"):
        load_ucf101(other, annotations, split=2)


@pytest.mark.shared
@pytest.mark.parametrize(("split", "num_train", "num_test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_the_published_lists(shared: Path, tmp_path: Path, split: int, num_train: int, num_test: int) -> None:
    (tmp_path / "YoYo").mkdir()
    (tmp_path / "YoYo" / "v_YoYo_g01_c01.avi").write_bytes(b"x")
    data: Manifest = load_ucf101(tmp_path, shared / "data" / "annotations" / "ucf101", split=split)
    assert len(data.split("train")) + len(data.split("val")) == num_train
    assert len(data.split("test")) == num_test
    assert len(data.records) == 13320
    assert len(data.missing()) == 13319
    assert [data.labels.index(c) for c in ("ApplyEyeMakeup", "Hammering", "HammerThrow", "JumpingJack", "YoYo")] == [
        *(0, 34, 35, 46, 100),
    ]
    assert list(data.labels) == sorted(data.labels, key=str.lower) != sorted(data.labels)
    assert len({r.group for r in data.records}) == 101 * 25


def test_videos_with_another_extension_are_found(annotations: Path, videos: Path) -> None:
    for path in [*videos.rglob("*.avi")]:
        path.rename(path.with_suffix(".mp4"))
    data = load_ucf101(videos, annotations, split=2)
    assert len(data.missing()) == 60  # as above
    assert sum(r.path.suffix == ".mp4" for r in data.records) == 72
    assert data.notes[0] == "72 files have another extension than in the official lists (.mp4 72)"
    first = data.records[0].path
    first.with_suffix(".avi").write_bytes(b"the original")
    (first.parent / f"._{first.name}").write_bytes(b"x")
    assert load_ucf101(videos, annotations, split=2).records[0].path == first.with_suffix(".avi")


def test_lists_may_name_converted_videos(annotations: Path, videos: Path) -> None:
    for path in annotations.glob("*list02.txt"):
        path.write_text(path.read_text().replace(".avi", ".mkv"))
    assert len(load_ucf101(videos, annotations, split=2).missing()) == 60


def test_the_error_lists_the_content_of_the_folder(annotations: Path, videos: Path) -> None:
    for path in [*videos.rglob("*.avi")]:
        path.rename(path.with_suffix(".zip"))
    with pytest.raises(DatasetError, match=r"none of the \d+ listed files exists.*; the folder .* contains v_.*\.zip"):
        load_ucf101(videos, annotations, split=2)
