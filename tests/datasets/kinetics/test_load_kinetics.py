"""Manifests of Kinetics in the folder layouts that are in use."""

from pathlib import Path

import pytest

from quovadis.datasets.inspection import index_videos
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.datasets.kinetics.clip_status import ClipStatus, StatusTable
from quovadis.datasets.kinetics.load import load_kinetics
from quovadis.datasets.statistics import dataset_statistics
from quovadis.errors import DatasetError, UnknownNameError

HEADER = "label,youtube_id,time_start,time_end,split"
ROWS = [
    "massaging person's head,-aaaaaaaaa1,10,20,val",
    '"hurling (sport)",_a_a_a_a_a2,417,427,val',
    "zumba,aaaaaaaaaa3,0,10,train",
    "air drumming,aaaaaaaaaa4,5,15,train",
]


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    path = tmp_path / "all.csv"
    path.write_text("\n".join([HEADER, *ROWS]) + "\n")
    return path


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


@pytest.mark.parametrize(
    "names",
    [
        # as downloaded
        ["massaging person's head/-aaaaaaaaa1_000010_000020.mp4", "hurling (sport)/_a_a_a_a_a2_000417_000427.mp4",
         "zumba/aaaaaaaaaa3_000000_000010.mp4", "air drumming/aaaaaaaaaa4_000005_000015.mp4"],
        # with splits, underscores and without punctuation, as in mmaction and torchvision
        ["val/massaging_persons_head/-aaaaaaaaa1_000010_000020.mp4", "val/hurling_sport/_a_a_a_a_a2_000417_000427.mp4",
         "train/zumba/aaaaaaaaaa3_000000_000010.mp4", "train/air_drumming/aaaaaaaaaa4_000005_000015.mp4"],
        # flat, as CVDF's archives unpack; other endings; short names
        ["k400/val/-aaaaaaaaa1_000010_000020.mp4", "k400/val/_a_a_a_a_a2_000417_000427.mkv",
         "k400/train/aaaaaaaaaa3.mp4", "k400/train/aaaaaaaaaa4_5_15.webm"],
    ],
    ids=["ours", "others", "flat"],
)  # fmt: skip
def test_clips_are_found_in_any_folder_by_their_names(tmp_path: Path, annotations: Path, names: list[str]) -> None:
    put(tmp_path / "root", *names)
    manifest = load_kinetics("kinetics400", tmp_path / "root", [annotations])
    assert [r.path.relative_to(tmp_path / "root").as_posix() for r in manifest.records] == names
    assert [manifest.labels[r.label] for r in manifest.records] == [
        "massaging person's head", "hurling (sport)", "zumba", "air drumming"
    ]  # fmt: skip
    assert manifest.labels == class_labels("kinetics400")
    assert [r.split for r in manifest.records] == ["val", "val", "train", "train"]
    assert [r.group for r in manifest.records] == ["-aaaaaaaaa1", "_a_a_a_a_a2", "aaaaaaaaaa3", "aaaaaaaaaa4"]
    assert manifest.notes == ()


def test_a_missing_clip_has_the_path_that_the_download_would_write(tmp_path: Path, annotations: Path) -> None:
    put(tmp_path / "root", "zumba/aaaaaaaaaa3_000000_000010.mp4")
    manifest = load_kinetics("kinetics400", tmp_path / "root", [annotations])
    assert len(manifest.missing()) == 3
    assert manifest.records[3].path == tmp_path / "root" / "air drumming" / "aaaaaaaaaa4_000005_000015.mp4"
    assert manifest.notes == (f"3 of 4 listed files are missing, the first is {manifest.missing()[0].path}",)
    assert manifest.describe().startswith("kinetics400: 4 videos of 400 classes (2 train, 2 val), data ")


def test_missing_clips_keep_the_reason_of_the_download(tmp_path: Path, annotations: Path) -> None:
    put(tmp_path / "root", "zumba/aaaaaaaaaa3_000000_000010.mp4")
    with StatusTable(tmp_path / "root") as table:
        table.record(ClipStatus("zumba/aaaaaaaaaa3_000000_000010.mp4", "ok", "youtube"))
        table.record(ClipStatus("air drumming/aaaaaaaaaa4_000005_000015.mp4", "private", "youtube", "Private video"))
        table.record(ClipStatus("hurling (sport)/_a_a_a_a_a2_000417_000427.mp4", "absent", "archive"))
    manifest = load_kinetics("kinetics400", tmp_path / "root", [annotations])
    assert [(r.status, r.reason) for r in manifest.records] == [
        ("missing", "no such file"),
        ("missing", "absent"),
        ("listed", ""),
        ("missing", "private: Private video"),
    ]
    indexed = index_videos(manifest)
    assert [r.reason for r in indexed.records if r.status == "missing"] == [
        "no such file", "absent", "private: Private video"
    ]  # fmt: skip


def test_other_files_are_not_clips(tmp_path: Path, annotations: Path) -> None:
    put(
        tmp_path / "root",
        "zumba/._aaaaaaaaaa3_000000_000010.mp4",  # macOS resource fork
        ".partial/0/aaaaaaaaaa3_000000_000010.mp4",  # of a killed download
        "zumba/.aaaaaaaaaa3.77.part.mp4",
        "zumba/aaaaaaaaaa3_000000_000010.txt",
        "zumba/aaaaaaaaa_000000_000010.mp4",
    )
    assert len(load_kinetics("kinetics400", tmp_path / "root", [annotations]).missing()) == 4


def test_replacements_take_precedence_over_corrupt_clips(tmp_path: Path, annotations: Path) -> None:
    good = "replacement/replacement_for_corrupted_k400/aaaaaaaaaa3_000000_000010.mp4"
    put(tmp_path / "root", "zumba/aaaaaaaaaa3_000000_000010.mp4", good)
    manifest = load_kinetics("kinetics400", tmp_path / "root", [annotations])
    assert manifest.records[2].path == tmp_path / "root" / good
    assert manifest.notes == (f"3 of 4 listed files are missing, the first is {manifest.missing()[0].path}",)


def test_irregularities_are_noted(tmp_path: Path, annotations: Path) -> None:
    put(
        tmp_path / "root",
        "a/aaaaaaaaaa3_000000_000010.mp4",
        "b/aaaaaaaaaa3_000000_000010.mp4",
        "a/aaaaaaaaaa4_000006_000016.mp4",
    )
    with annotations.open("a") as file:
        file.write(f"{ROWS[2]}\nyoga,aaaaaaaaaa3,0,10,train\nyoga,-aaaaaaaaa1,50,60,train\n,bbbbbbbbbb1,0,10,test\n")
    manifest = load_kinetics("kinetics400", tmp_path / "root", [annotations])
    assert manifest.notes == (
        "1 listed clips have no label",
        "1 rows of the annotation files are repeated and count once",
        "1 clips are listed again with another class, end or split",
        "1 videos have clips in two splits, as published: -aaaaaaaaa1",
        "1 files have other times in their names than in the annotations; matched by ID",
        "2 clips exist more than once; one of them is used",
        "listed with several labels: a/aaaaaaaaaa3_000000_000010.mp4 (zumba and yoga)",
        f"4 of 7 listed files are missing, the first is {manifest.missing()[0].path}",
    )
    assert manifest.records[2].path == tmp_path / "root" / "a" / "aaaaaaaaaa3_000000_000010.mp4"
    assert {r.group for r in manifest.records if "-aaaaaaaaa1" in r.path.name} == {""}


def test_links_are_followed_but_not_in_circles(tmp_path: Path, annotations: Path) -> None:
    put(tmp_path / "elsewhere", "zumba/aaaaaaaaaa3_000000_000010.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert len(load_kinetics("kinetics400", tmp_path / "root", [annotations]).missing()) == 3


def test_classes_select_a_mini_kinetics(tmp_path: Path, annotations: Path) -> None:
    manifest = load_kinetics("mini", tmp_path, [annotations], classes=["zumba", "air drumming"])
    assert manifest.labels == ("air drumming", "zumba")
    assert [r.label for r in manifest.records] == [1, 0]
    by_id = load_kinetics("kinetics400", tmp_path, [annotations], youtube_ids=["aaaaaaaaaa3"])
    assert len(by_id.records) == 1
    assert len(by_id.labels) == 400
    with pytest.raises(UnknownNameError, match="unknown class 'yoga'"):
        load_kinetics("mini", tmp_path, [annotations], classes=["yoga"])


def test_other_names_use_the_classes_of_the_files(tmp_path: Path, annotations: Path) -> None:
    manifest = load_kinetics("ours", tmp_path, [annotations])
    assert manifest.labels == ("air drumming", "hurling (sport)", "massaging person's head", "zumba")
    assert [r.label for r in manifest.records] == [2, 1, 3, 0]


def test_invalid_datasets_are_refused(tmp_path: Path, annotations: Path) -> None:
    with pytest.raises(DatasetError, match="no folder of clips at"):
        load_kinetics("kinetics400", tmp_path / "none", [annotations])
    (tmp_path / "test.csv").write_text("youtube_id,time_start,time_end,split\naaaaaaaaaa1,0,10,test\n")
    with pytest.raises(DatasetError, match="none of the 1 clips has a label"):
        load_kinetics("ours", tmp_path, [tmp_path / "test.csv"])
    with pytest.raises(DatasetError, match=r"other/all\.csv:2: unknown class \"massaging person's heads\"; did you"):
        load_kinetics("kinetics400", tmp_path, [annotations, _with(tmp_path, annotations)])


def _with(tmp_path: Path, annotations: Path) -> Path:
    path = tmp_path / "other" / "all.csv"
    path.parent.mkdir()
    path.write_text(annotations.read_text().replace("person's head", "person's heads"))
    return path


@pytest.mark.slow
@pytest.mark.shared
def test_the_real_validation_sets(shared: Path, tmp_path: Path) -> None:
    root = shared / "data" / "annotations"
    k400 = load_kinetics("kinetics400", tmp_path, [root / "kinetics400" / "kinetics-400_val.csv.gz"])
    assert (len(k400.records), len(k400.labels)) == (19_906, 400)
    assert len(k400.missing()) == 19_906
    files = [root / "kinetics600" / f"kinetics-600_{split}.csv.gz" for split in ("val", "test")]
    k600 = load_kinetics("kinetics600", tmp_path, files)
    assert len(k600.split("val")) == 30_000
    assert k600.notes[0] == "72924 listed clips have no label"
    assert len({record.path for record in k600.records}) == 30_000 + 72_924
    with pytest.raises(DatasetError, match="72924 of 72924 videos in the test split of kinetics600 have no label"):
        k600.split("test")
    found = {(o.first, o.second): o.same_youtube_id for o in dataset_statistics(k400, k600).overlaps}
    assert found == {("kinetics400 val", "kinetics600 val"): 13_569, ("kinetics400 val", "kinetics600 test"): 450}
    assert [o.same_youtube_id for o in dataset_statistics(k600).overlaps] == [28]
