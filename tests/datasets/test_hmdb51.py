from pathlib import Path

import pytest

from quovadis.datasets.hmdb51 import group_of, load_hmdb51
from quovadis.errors import DatasetError


def name(film: str, label: str, number: int) -> str:
    return f"{film}_{label}_f_cm_np1_le_med_{number}.avi"


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Two classes, one name a prefix of the other; lines end in a space as in the official files."""
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    for label, test_film in (("climb", "A(1)!_x"), ("climb_stairs", "B")):
        rows = [(name(f"T{i}", label, i), 1) for i in range(10)]
        rows += [(name("A(1)!_x", label, 0), 1 + (test_film[0] == "A")), (name("unused", label, 0), 0)]
        rows += [(name(test_film, label, 1), 2)]
        (folder / f"{label}_test_split3.txt").write_text("".join(f"{file} {flag} \n" for file, flag in rows))
        for file, _ in rows:
            video = tmp_path / "hmdb51_org" / label / file
            video.parent.mkdir(parents=True, exist_ok=True)
            video.write_bytes(b"x")
    return folder


def test_flags_define_the_splits_and_unused_videos_are_excluded(annotations: Path) -> None:
    data = load_hmdb51(annotations.parent / "hmdb51_org", annotations, split=3)
    assert data.labels == ("climb", "climb_stairs")
    assert len(data.split("train")) + len(data.split("val")) == 21
    assert {r.path.name for r in data.split("test")} == {
        name("A(1)!_x", "climb", 0),
        name("A(1)!_x", "climb", 1),
        name("B", "climb_stairs", 1),
    }
    assert data.missing() == ()
    assert data.notes[:2] == (
        "2 videos are not used by this split",
        "2 of 3 test videos are from films that other training classes use (official split)",
    )
    assert load_hmdb51(annotations.parent, annotations.parent, split=3).fingerprint == data.fingerprint


def test_a_group_is_a_class_and_a_film(annotations: Path) -> None:
    data = load_hmdb51(annotations.parent, annotations, split=3)
    groups = {r.path.name: r.group for r in data.records}
    assert groups[name("A(1)!_x", "climb", 1)] == groups[name("A(1)!_x", "climb", 0)] == "climb/A(1)!_x"
    assert groups[name("A(1)!_x", "climb_stairs", 0)] == "climb_stairs/A(1)!_x"


@pytest.mark.parametrize(
    ("file", "label", "film"),
    [
        ("metacafe_coolsoccer_run_f_cm_np10_le_bad_2.avi", "run", "metacafe_coolsoccer"),
        ("run_run_run_f_cm_np1_le_bad_2.avi", "run", "run_run"),
        ("20060723sfjffbartsinger_wave_f_cm_np1_ba_med_0.avi", "wave", "20060723sfjffbartsinger"),
        ("something else.avi", "wave", ""),
    ],
)
def test_the_film_is_the_part_before_class_and_tags(file: str, label: str, film: str) -> None:
    assert group_of(Path(label) / file) == (f"{label}/{film}" if film else "")


@pytest.mark.parametrize("line", ["a.avi", "a.avi 3", "../a.avi 1", "x\\a.avi 1", "a.txt 1", "a b.avi 1"])
def test_an_invalid_line_is_refused(annotations: Path, line: str) -> None:
    with (annotations / "climb_test_split3.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DatasetError, match=r"climb_test_split3.txt:14: got .*expected 'FILE.avi FLAG' with flag 0, 1"):
        load_hmdb51(annotations.parent, annotations, split=3)


def test_missing_annotation_files_are_named(annotations: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no climb_test_split1.txt, climb_stairs_test_split1.txt: pass the fol"):
        load_hmdb51(tmp_path, annotations, split=1)
    with pytest.raises(DatasetError, match=r"none has no CLASS_test_split1.txt"):
        load_hmdb51(tmp_path, tmp_path / "none")
    with pytest.raises(DatasetError, match="there is no official split 0"):
        load_hmdb51(tmp_path, annotations, split=0)
    (annotations / "run_test_split1.txt").write_text("")
    with pytest.raises(DatasetError, match=r"has no run_test_split3.txt"):
        load_hmdb51(tmp_path, annotations, split=3)


@pytest.mark.shared
@pytest.mark.parametrize(("split", "num_shared"), [(1, 457), (2, 527), (3, 529)])
def test_the_published_lists(shared: Path, tmp_path: Path, split: int, num_shared: int) -> None:
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave" / "50_FIRST_DATES_wave_f_cm_np1_fr_med_0.avi").write_bytes(b"x")
    data = load_hmdb51(tmp_path, shared / "data" / "annotations" / "hmdb51", split=split)
    assert len(data.labels) == 51
    assert len(data.split("train")) + len(data.split("val")) == 3570
    assert len(data.split("test")) == 1530
    for label in range(51):
        assert sum(r.label == label for r in data.split("test")) == 30
    assert data.notes[:2] == (
        "1666 videos are not used by this split",
        f"{num_shared} of 1530 test videos are from films that other training classes use (official split)",
    )


def test_videos_with_another_extension_are_found(annotations: Path) -> None:
    root = annotations.parent / "hmdb51_org"
    for path in [*root.rglob("*.avi")]:
        path.rename(path.with_suffix(".mp4"))
    data = load_hmdb51(root, annotations, split=3)
    assert data.missing() == ()
    assert data.notes[0] == "26 files have another extension than in the official lists (.mp4 26)"
