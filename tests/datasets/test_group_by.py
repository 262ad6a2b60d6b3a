"""Groups from file names."""

from pathlib import Path

import pytest

from quovadis.datasets.load import load_dataset
from quovadis.errors import DatasetError


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two classes of ten recordings with three cuts each."""
    for label in ("run", "jump"):
        for i in range(10):
            for cut in range(3):
                path = tmp_path / "clips" / label / f"cam{i}_{cut:02d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return tmp_path / "clips"


@pytest.mark.parametrize("pattern", [r"(cam\d+)_", r"cam\d+"])
def test_recordings_are_not_divided_by_splits(clips: Path, pattern: str) -> None:
    data = load_dataset(clips, group_by=pattern)
    splits = {(r.group, r.split) for r in data.records}
    assert len(splits) == len({group for group, _ in splits}) == 10
    assert any("10 groups by" in note for note in data.notes)
    alone = load_dataset(clips)
    assert len({(r.path.name[:4], r.split) for r in alone.records}) > 10


def test_video_without_a_match_is_its_own_group(clips: Path) -> None:
    (clips / "run" / "other.mp4").touch()
    data = load_dataset(clips, group_by=r"(cam\d+)_")
    assert [r.group for r in data.records if r.path.name == "other.mp4"] == [""]
    assert any("without a match" in note and "run/other.mp4" in note for note in data.notes)


@pytest.mark.parametrize(
    ("pattern", "match"), [("(", "regular expression"), ("zebra", "matches no path"), ("", "matches no")]
)
def test_useless_pattern_is_rejected(clips: Path, pattern: str, match: str) -> None:
    with pytest.raises(DatasetError, match=match):
        load_dataset(clips, group_by=pattern)


def test_table_with_groups_is_rejected(clips: Path) -> None:
    table = clips / "list.csv"
    table.write_text("path,label,group\nrun/cam0_00.mp4,run,a\njump/cam0_00.mp4,jump,b\n")
    with pytest.raises(DatasetError, match="gives groups already"):
        load_dataset(table, group_by="cam")


def test_manifest_is_rejected(clips: Path) -> None:
    saved = load_dataset(clips).save(clips / "data.parquet")
    with pytest.raises(DatasetError, match="omit --group-by"):
        load_dataset(saved, group_by="cam")
