from pathlib import Path

import pytest

from quovadis.datasets.kinetics.archives import extract_videos
from quovadis.datasets.load import load_dataset
from quovadis.datasets.video_files import find_videos, require_videos, visible_folders
from quovadis.datasets.video_inputs import list_videos
from quovadis.errors import DatasetError
from quovadis.fvd.inputs import open_videos
from tests.datasets.kinetics.archive_files import tar

SYSTEM = (
    "._a.mp4",
    ".hidden.mp4",
    ".DS_Store",
    ".Trash/b.mp4",
    ".Trash-1000/files/b.mp4",
    ".stversions/a~20260101.mp4",
    "__MACOSX/run/._a.mp4",
    "__MACOSX/a.mp4",
    "@eaDir/a.mp4/SYNOVIDEO_VIDEO.mp4",
    "#recycle/a.mp4",
    "$RECYCLE.BIN/S-1-5/a.mp4",
    "System Volume Information/a.mp4",
    "lost+found/a.mp4",
    "a.mp4@SynoResource",
    "Thumbs.db",
    "desktop.ini",
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def relative(root: Path) -> list[str]:
    return [p.relative_to(root).as_posix() for p in find_videos(root).videos]


def test_hidden_and_system_files_are_ignored_everywhere(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/b.AVI", "hop/a.mp4", "hop/a.flow.mp4", *SYSTEM, *(f"run/{n}" for n in SYSTEM))
    expected = ["hop/a.mp4", "run/a.mp4", "run/b.AVI"]
    assert relative(tmp_path) == expected
    assert find_videos(tmp_path).others == ()
    assert [f.name for f in visible_folders(tmp_path)] == ["hop", "run"]
    assert list(list_videos([tmp_path])) == expected
    videos = open_videos(tmp_path)
    assert [videos.path(i) for i in range(len(videos))] == expected
    data = load_dataset(tmp_path)
    assert sorted(data.relative(r) for r in data.records) == expected
    assert data.labels == ("hop", "run")


def test_resource_forks_of_macos_are_ignored(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    archive.write_bytes(tar({"a.mp4": b"a", "._a.mp4": b"x", "b.MPEG4": b"b", "readme.txt": b"x"}))
    assert extract_videos(archive, lambda name: tmp_path / f"{name}.out", lambda name, path: None) == ["a", "b"]


@pytest.mark.parametrize("ending", ["divx", "m2v", "F4V", "h264", "MPEG4", "3g2", "ogm", "qt", "rmvb", "y4m", "mp4v"])
def test_extensions_of_cameras_and_converters_are_videos(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"a.{ending}")
    assert relative(tmp_path) == [f"a.{ending}"]


def test_other_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "run/a.mp4", "run/b.webp", "run/c.WEBP", "run/d", "hop/e.mp4", "hop/notes.txt")
    note = "ignored 4 files without a video extension (.webp 2, .txt 1, no extension 1)"
    assert note in load_dataset(tmp_path).notes
    touch(tmp_path, "empty/x.pdf")
    with pytest.raises(DatasetError, match=r"empty has no video files, but 1 file .* \(\.pdf 1\)"):
        require_videos(find_videos(tmp_path / "empty"))


def test_linked_folders_are_followed_but_cycles_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "data/run/a.mp4", "data/hop/x.mp4", "elsewhere/deep/b.mp4", "data/run/sub/c.mp4")
    run = tmp_path / "data" / "run"
    (run / "itself").symlink_to(run)
    (run / "up").symlink_to(tmp_path / "data")
    (run / "aaa").symlink_to(run / "sub")
    (run / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(run)
    (run / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    (run / "link.mp4").symlink_to(tmp_path / "elsewhere" / "deep" / "b.mp4")
    assert relative(run) == ["a.mp4", "gone.mp4", "link.mp4", "more/deep/b.mp4", "sub/c.mp4"]
    (tmp_path / "data" / "skip").symlink_to(tmp_path / "elsewhere")
    data = load_dataset(tmp_path / "data")
    assert {data.label_of(r) for r in data.records if r.path.name == "x.mp4"} == {"hop"}
    assert any(note.startswith("listed with several labels") for note in data.notes)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", denied)
    with pytest.raises(DatasetError, match=r"cannot read the folder .*: Permission denied"):
        find_videos(tmp_path)


def test_a_folder_with_a_video_extension_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "run.mp4/a.mp4")
    assert relative(tmp_path) == ["run.mp4/a.mp4"]
