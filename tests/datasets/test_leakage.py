from dataclasses import replace
from pathlib import Path

import pytest

from quovadis.datasets import leakage
from quovadis.datasets.leakage import check_no_leakage
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import DatasetError


def dataset(root: Path, name: str, *records: VideoRecord) -> Manifest:
    return Manifest(name, root, ("x",), records)


def file(path: Path, content: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def test_copies_are_found_by_content_and_only_files_of_equal_size_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    digest = leakage._digest
    monkeypatch.setattr(leakage, "_digest", lambda r, known: read.append(r.path) or digest(r, known))
    seen = VideoRecord(file(tmp_path / "a" / "1.mp4", "same bytes"), 0, "train")
    other = VideoRecord(file(tmp_path / "a" / "2.mp4", "longer than those"), 0, "val")
    copy = VideoRecord(file(tmp_path / "b" / "9.mp4", "same bytes"), 0, "test")
    as_long = VideoRecord(file(tmp_path / "b" / "8.mp4", "SAME BYTES"), 0, "test")
    gone = VideoRecord(tmp_path / "b" / "gone.mp4", 0, "test")
    source = dataset(tmp_path / "a", "A", seen, other, replace(gone, split="val", path=tmp_path / "a" / "gone.mp4"))
    check_no_leakage(source, dataset(tmp_path / "b", "B", as_long, gone))
    assert tmp_path / "a" / "2.mp4" not in read
    with pytest.raises(DatasetError, match=r"1 test videos of B were seen in training on A: 9.mp4 \(same content as"):
        check_no_leakage(source, dataset(tmp_path / "b", "B", copy, as_long))
    check_no_leakage(source, dataset(tmp_path / "b", "B", replace(copy, split="train"), as_long))
    check_no_leakage(dataset(tmp_path / "a", "A", replace(seen, split="test")), dataset(tmp_path / "b", "B", copy))


def test_shared_names_groups_and_indexed_hashes_are_found(tmp_path: Path) -> None:
    def refused(seen: VideoRecord, tested: VideoRecord) -> str:
        with pytest.raises(DatasetError) as caught:
            check_no_leakage(dataset(tmp_path, "A", seen), dataset(tmp_path, "B", tested))
        return str(caught.value)

    seen = VideoRecord(tmp_path / "run" / "0wR5jVB-WPk_000417_000427.mp4", 0, "val")
    cut = VideoRecord(tmp_path / "jump" / "0wR5jVB-WPk_000020_000030.mp4", 0, "test")
    assert "same YouTube video as" in refused(seen, cut)
    assert "the same file" in refused(seen, replace(seen, split="test"))
    a, b = VideoRecord(tmp_path / "a", 0, "train"), VideoRecord(tmp_path / "b", 0, "test")
    assert "same group g07 as" in refused(replace(a, group="g07"), replace(b, group="g07"))
    indexed = {"size_bytes": 5, "sha256": "f" * 64}
    assert "same content" in refused(replace(a, **indexed), replace(b, **indexed))
    check_no_leakage(dataset(tmp_path, "A", a), dataset(tmp_path, "B", b))
