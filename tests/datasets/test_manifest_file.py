import errno
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import SPLITS, STATUSES, UNLABELED, Manifest, VideoRecord
from quovadis.errors import DatasetError, StorageError

KEY = b"quovadis.manifest"


def small(root: Path) -> Manifest:
    """Two videos without files."""
    first = VideoRecord(
        root / "run" / "a.mp4", 0, "train", "g1", 30, 25.0, 1.2, 64, 48, 1000, "ab" * 32, "corrupt", "it ends early"
    )
    return Manifest("toy", root, ("run", "jump"), (first, VideoRecord(root / "b.mp4", 1, "test")), ("made by hand",))


def rewrite(path: Path, changes: dict[str, object]) -> None:
    """Change values of the first row or of the metadata."""
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[KEY])
    rows = table.to_pylist()
    for name, value in changes.items():
        if name in about:
            about[name] = value
        else:
            rows[0][name] = value
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema.with_metadata({KEY: json.dumps(about)})), path)


names = st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
whole = st.none() | st.integers(0, 2**31 - 1)
real = st.none() | st.floats(0, 1e9)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    labels = tuple(draw(st.lists(names, min_size=1, max_size=4, unique=True)))
    paths = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    records = tuple(
        VideoRecord(
            Path("/data") / path,
            draw(st.integers(UNLABELED, len(labels) - 1)),
            draw(st.sampled_from(SPLITS)),
            draw(st.just("") | st.just(f"group of {path}")),
            *(draw(kind) for kind in (whole, real, real, whole, whole, whole)),
            draw(st.sampled_from(["", "0f" * 32])),
            draw(st.sampled_from(STATUSES)),
            draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=9)),
        )
        for path in paths
    )
    return Manifest(draw(names), Path("/data"), labels, records, tuple(draw(st.lists(names, max_size=2))))


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_load_returns_what_save_wrote(tmp_path_factory: pytest.TempPathFactory, data: Manifest) -> None:
    path = data.save(tmp_path_factory.mktemp("m") / "x.parquet")
    assert Manifest.load(path) == data


def test_the_file_is_an_ordinary_parquet_table(tmp_path: Path) -> None:
    table = pq.read_table(small(tmp_path).save(tmp_path / "x.parquet"))
    assert table.schema.names == [f.name for f in fields(VideoRecord)]
    assert [str(t) for t in table.schema.types] == [
        *["string"] * 4,
        *("int64", "double", "double", "int32", "int32", "int64"),
        *["string"] * 3,
    ]
    assert table.to_pylist()[0] | {"reason": ""} == {
        "path": "run/a.mp4",
        "label": "run",
        "split": "train",
        "group": "g1",
        "num_frames": 30,
        "fps": 25.0,
        "duration_seconds": 1.2,
        "width_px": 64,
        "height_px": 48,
        "size_bytes": 1000,
        "sha256": "ab" * 32,
        "status": "corrupt",
        "reason": "",
    }
    assert table.to_pylist()[1]["num_frames"] is None
    assert json.loads(table.schema.metadata[KEY]) == {
        "version": 1,
        "name": "toy",
        "labels": ["run", "jump"],
        "notes": ["made by hand"],
        "root": ".",
    }


@pytest.mark.parametrize("place", [".", "lists/deep", ".."])
def test_a_folder_with_its_manifest_can_be_moved(tmp_path: Path, place: str) -> None:
    root = tmp_path / "home" / "data"
    (root / "run").mkdir(parents=True)
    (root / "run" / "a.mp4").write_bytes(b"1234")
    data = small(root)
    data.save(root / place / "x.parquet")
    shutil.move(tmp_path / "home", tmp_path / "moved")
    moved = Manifest.load(tmp_path / "moved" / "data" / place / "x.parquet")
    assert moved.records[0].path.read_bytes() == b"1234"
    (tmp_path / "home" / "data" / "run").mkdir(parents=True)
    shutil.copy(moved.records[0].path, root / "run" / "a.mp4")
    assert moved.fingerprint == data.fingerprint


def test_a_manifest_outside_of_its_root_stores_an_absolute_root(tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.mp4"
    data = small(tmp_path / "data")
    data = replace(data, records=(*data.records, VideoRecord(outside, 0, "val")))
    path = data.save(tmp_path / "lists" / "x.parquet")
    assert json.loads(pq.read_schema(path).metadata[KEY])["root"] == str(tmp_path / "data")
    shutil.move(path, tmp_path / "y.parquet")
    assert Manifest.load(tmp_path / "y.parquet") == data
    there = Manifest.load(tmp_path / "y.parquet", root=tmp_path / "other")
    assert [r.path for r in there.records] == [tmp_path / "other/run/a.mp4", tmp_path / "other/b.mp4", outside]


def test_loading_a_manifest_updates_which_files_are_missing(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"x")
    records = tuple(replace(r, status="missing", reason="private") for r in small(tmp_path).records)
    path = replace(small(tmp_path), records=records).save(tmp_path / "x.PARQUET")
    first = tmp_path / "run/a.mp4"
    assert Manifest.load(path).reading_notes == ("made by hand",)
    assert Manifest.load(path).notes == ("made by hand", f"2 of 2 listed files are missing, the first is {first}")
    data = load_dataset(path)
    assert [(r.status, r.reason) for r in data.records] == [("missing", "private"), ("listed", "")]
    assert data.notes == ("made by hand", f"1 of 2 listed files are missing, the first is {first}")
    assert data.labels == ("run", "jump")
    with pytest.raises(DatasetError, match=r"none of the 2 listed files exists.*pass their folder as the root"):
        load_dataset(path, root=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "is a manifest of format 2, and this version of quovadis reads up to 1"),
        ({"version": "new"}, "is a manifest with invalid metadata"),
        ({"labels": ["jump"]}, "row 1: class 'run' is not among the 1 labels"),
        ({"labels": "run"}, "is a manifest with invalid metadata"),
        ({"name": 3}, "is a manifest with invalid metadata"),
        ({"split": "trian"}, "row 1: split is 'trian'; expected train, val, test"),
        ({"split": None}, "row 1: split is None"),
        ({"status": "fine"}, "row 1: status is 'fine'; expected listed, ok, missing, corrupt"),
        ({"path": "../../etc/x.mp4"}, r"row 1: the path '../../etc/x.mp4' leaves the dataset's folder"),
        ({"path": None}, "row 1: the path is empty"),
    ],
)
def test_an_inconsistent_manifest_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = small(tmp_path).save(tmp_path / "x.parquet")
    rewrite(path, changes)
    with pytest.raises(DatasetError, match=message):
        Manifest.load(path)


def test_unexpected_columns_are_listed(tmp_path: Path) -> None:
    path = small(tmp_path).save(tmp_path / "x.parquet")
    table = pq.read_table(path)
    wrong = table.drop_columns(["sha256"]).set_column(1, "label", pa.array([0, 1]))
    pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(DatasetError, match="label is int64, not string, sha256 is absent, not string"):
        Manifest.load(path)


def test_a_file_that_is_not_a_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(DatasetError, match="no manifest at"):
        load_dataset(path)
    for content in (b"", b"path,label\n", b"PAR1" + bytes(100) + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="is damaged or not a Parquet file: "):
            Manifest.load(path)
    pq.write_table(pa.table({"video": ["a.mp4"], "caption": ["run"]}), path)
    with pytest.raises(DatasetError, match="is a Parquet file but not a manifest; its columns: video, caption"):
        Manifest.load(path)
    with pytest.raises(StorageError, match="exists and is not a manifest: move it away"):
        small(tmp_path).save(path)
    assert pq.read_table(path).num_rows == 1


def test_a_damaged_file_is_refused_or_read_correctly(tmp_path: Path) -> None:
    data = small(tmp_path)
    path = data.save(tmp_path / "x.parquet")
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for cut in range(0, len(whole), 97):
        path.write_bytes(whole[:cut])
        with pytest.raises(DatasetError):
            Manifest.load(path)
    num_seen = 0
    for position in range(4, footer, 5):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            assert Manifest.load(path) == data
        except DatasetError:
            num_seen += 1
    assert num_seen > footer // 5 * 0.5  # the rest are unused page headers


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = small(tmp_path)
    path = data.save(tmp_path / "x.parquet")

    def full(table: object, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StorageError, match=r"cannot write .*x\.parquet: No space left on device"):
        data.save(path)
    assert Manifest.load(path) == data
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    odd = Manifest("toy", tmp_path, ("run",), (VideoRecord(tmp_path / "caf\udce9.mp4", 0, "train"),))
    assert len(odd.fingerprint) == 12
    with pytest.raises(DatasetError, match="is not valid UTF-8"):
        odd.save(tmp_path / "x.parquet")
