import json
from dataclasses import replace
from pathlib import Path

import pytest

from quovadis.datasets.kinetics.annotations import youtube_id
from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord
from quovadis.datasets.statistics import dataset_statistics

ROOT = Path("/data")


def video(name: str, label: int, split: str, **facts: object) -> VideoRecord:
    return replace(VideoRecord(ROOT / name, label, split), **facts)  # type: ignore[arg-type]


@pytest.fixture
def data() -> Manifest:
    good = {"width_px": 64, "height_px": 48, "size_bytes": 1000}
    return Manifest(
        "toy",
        ROOT,
        ("run", "jump", "swim"),
        (
            video("a.mp4", 0, "train", fps=25.0, duration_seconds=2.0, sha256="a", status="ok", **good),
            video("b.mp4", 0, "train", fps=30000 / 1001, duration_seconds=1.0, sha256="b", status="ok", **good),
            video("copy.mp4", 1, "test", fps=25.0, duration_seconds=2.0, sha256="a", status="listed", **good),
            video("c.mp4", 1, "test", status="missing", reason="no such file", sha256="b", duration_seconds=70.0),
            video("d.mp4", 1, "test", fps=10.0, duration_seconds=9.0, sha256="d", status="corrupt", reason="cut"),
            video("e.mp4", 1, "val"),
        ),
    )


def test_statistics_count_every_video(data: Manifest) -> None:
    s = dataset_statistics(data)
    assert s.splits == {"train": 2, "val": 1, "test": 3}
    assert s.statuses == {"listed": 2, "ok": 2, "missing": 1, "corrupt": 1}
    assert s.num_unknown == 1
    assert [(c.label, c.splits, c.missing, c.corrupt, c.num_videos) for c in s.classes] == [
        ("run", {"train": 2, "val": 0, "test": 0}, 0, 0, 2),
        ("jump", {"train": 0, "val": 1, "test": 3}, 1, 1, 4),
        ("swim", {"train": 0, "val": 0, "test": 0}, 0, 0, 0),
    ]
    assert list(s.fps.items()) == [("25", 2), ("29.97", 1)]
    assert s.sizes == {"64x48": 3}
    assert s.durations_seconds == (1.0, 2.0, 2.0)
    assert s.num_bytes == 3000
    assert s.problems == (("d.mp4", "corrupt", "cut"), ("c.mp4", "missing", "no such file"))
    assert s.data_fingerprint == data.fingerprint


def test_duplicates_across_splits_and_labels_are_found(data: Manifest) -> None:
    s = dataset_statistics(data)
    (twice,) = s.duplicates  # the missing copy of b is not a duplicate
    assert (twice.paths, twice.splits, twice.labels) == (("a.mp4", "copy.mp4"), ("train", "test"), ("jump", "run"))
    found = {(o.first, o.second): o.same_content for o in s.overlaps}
    assert found == {("train", "val"): 0, ("train", "test"): 2, ("val", "test"): 0}
    assert {(o.same_group, o.same_youtube_id) for o in s.overlaps} == {(0, 0)}  # empty groups and IDs do not count


def test_overlaps_with_another_dataset_cover_all_pairs_of_splits(data: Manifest) -> None:
    other = Manifest("old", ROOT, ("x",), (video("z.mp4", UNLABELED, "test", sha256="d", group="g"),))
    mine = replace(data, records=(*data.records, video("f.mp4", 0, "train", group="g")))
    s = dataset_statistics(mine, other)
    assert [(o.first, o.second, o.same_content, o.same_group) for o in s.overlaps[3:]] == [
        ("toy train", "old test", 0, 1),
        ("toy val", "old test", 0, 0),
        ("toy test", "old test", 1, 0),
    ]
    assert dataset_statistics(other).classes[-1].label == ""


def test_statistics_convert_to_json(data: Manifest) -> None:
    values = json.loads(json.dumps(dataset_statistics(data).to_dict()))
    assert values["num_videos"] == 6
    assert values["duration_seconds"] == {"total": 5.0, "min": 1.0, "median": 2.0, "max": 2.0}
    assert values["problems"][1] == {"path": "c.mp4", "status": "missing", "reason": "no such file"}
    assert values["duplicates"][0]["paths"] == ["a.mp4", "copy.mp4"]
    unknown = Manifest("toy", ROOT, ("run",), (video("a.mp4", 0, "train"),))
    assert dataset_statistics(unknown).to_dict()["duration_seconds"] == {
        "total": 0,
        "min": None,
        "median": None,
        "max": None,
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("abseiling/0wR5jVB-WPk_000417_000427.mp4", "0wR5jVB-WPk"),
        ("-_a_b_c_d_e_000000_000010.mp4", "-_a_b_c_d_e"),
        ("0wR5jVB-WPk.mp4", ""),
        ("0wR5jVB-WPk_417_427.mp4", ""),
    ],
)
def test_youtube_id_of_a_file_name(name: str, expected: str) -> None:
    assert youtube_id(Path(name)) == expected
