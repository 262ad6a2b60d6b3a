"""Downloads from CVDF, with a local server that has the same files at the same paths."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from quovadis.datasets.kinetics import cvdf as kinetics_cvdf
from quovadis.datasets.kinetics.annotations import KineticsClip, read_annotations
from quovadis.datasets.kinetics.clip_folder import open_clip_folder
from quovadis.datasets.kinetics.clip_status import TABLE_NAME, ClipStatus, StatusTable, read_status
from quovadis.datasets.kinetics.cvdf import download_from_cvdf
from quovadis.datasets.kinetics.cvdf_releases import CVDF_URL, RELEASES, CvdfArchive, download_annotations
from quovadis.errors import DatasetError, DownloadError, StorageError, UnknownNameError
from quovadis.runtime.download import RetryPolicy
from quovadis.runtime.locks import FolderLock
from quovadis.runtime.thread_jobs import WorkStopped
from tests.datasets.kinetics.archive_files import clip, content, name, tar
from tests.http_server import Server, serving

QUICK = RetryPolicy(attempts=2, first_wait_seconds=0.001, timeout_seconds=2)
REPLACEMENT = "/400/replacement_for_corrupted_k400.tgz"


CLIPS = [clip(letter, label) for letter, label in zip("abcdef", ("zumba", "yoga", "air drumming") * 2, strict=True)]


def serve_k400(server: Server, paths: tuple[str, ...] = ("part_0", "part_1")) -> None:
    """Serve two archives with a corrupt clip each, and the replacements (one of them for a clip in no archive)."""
    server.files = {
        "/400/val/k400_val_path.txt": "".join(f"{CVDF_URL}/400/val/{path}.tar.gz\n" for path in paths).encode(),
        "/400/val/part_0.tar.gz": tar({name("a"): content("a"), name("b"): b"corrupt", name("x"): b"not listed"}),
        "/400/val/part_1.tar.gz": tar({name("c"): content("c"), name("d"): b"corrupt"}, "w"),  # not compressed
        REPLACEMENT: tar({f"replacement_for_corrupted_k400/{name(x)[2:]}": content(x) for x in "bde"}),
    }


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def assert_whole(folder: Path, letters: str) -> None:
    there = {p.stem[10]: p for p in folder.rglob("*.mp4")}
    assert sorted(there) == sorted(letters)
    for one in CLIPS:
        letter = one.youtube_id[10]
        if letter in letters:
            assert there[letter] == folder / one.path
            assert there[letter].read_bytes() == content(letter)


def test_clips_are_extracted_into_class_folders_and_corrupt_ones_replaced(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    steps: list[tuple[int, int]] = []
    report = download_from_cvdf(
        "kinetics400", CLIPS, tmp_path, mirror=server.root, retry_policy=QUICK, progress=lambda *s: steps.append(s)
    )
    assert_whole(tmp_path, "abcde")
    assert report.counts == {"ok": 5, "absent": 1}
    assert report.problems == ()
    assert report.missing_by_class == {"air drumming": 1}
    sources = {Path(path).name[10]: row.source for path, row in read_status(tmp_path).items() if row.done}
    replaced = "replacement_for_corrupted_k400.tgz"
    assert sources == {"a": "part_0.tar.gz", "b": replaced, "c": "part_1.tar.gz", "d": replaced, "e": replaced}
    assert steps == [(1, 2), (2, 2)]
    assert not list(tmp_path.rglob("*.tar.gz")), "archives are removed"
    assert not (tmp_path / ".partial").exists()


def test_a_second_run_downloads_nothing(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root, retry_policy=QUICK)
    server.paths.clear()
    rows = (tmp_path / TABLE_NAME).read_text()
    assert download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root).counts == {"ok": 5, "absent": 1}
    assert server.paths == []
    assert (tmp_path / TABLE_NAME).read_text() == rows


def test_clips_requested_later_are_downloaded_later(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    assert download_from_cvdf("kinetics400", CLIPS[:1], tmp_path, mirror=server.root).counts == {"ok": 1}
    assert_whole(tmp_path, "a")
    server.paths.clear()
    assert download_from_cvdf("kinetics400", CLIPS[:3], tmp_path, mirror=server.root).counts == {"ok": 3}
    assert sorted(server.paths) == [REPLACEMENT, "/400/val/part_1.tar.gz"]  # part_0's b comes from the replacement
    assert_whole(tmp_path, "abc")


def test_an_existing_corrupt_clip_is_replaced_once(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    there = tmp_path / CLIPS[1].path
    there.parent.mkdir()
    there.write_bytes(b"corrupt, from an earlier download")
    with StatusTable(tmp_path) as table:
        table.record(ClipStatus(str(CLIPS[1].path), "ok", "part_0.tar.gz"))
    download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root)
    assert there.read_bytes() == content("b")
    there.write_bytes(b"mended by its owner")
    download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root)
    assert there.read_bytes() == b"mended by its owner"


def test_archives_of_other_classes_are_skipped_and_names_may_have_spaces(server: Server, tmp_path: Path) -> None:
    names = ("air drumming", "mountain climber (exercise)", "zumba")
    server.files = {
        "/600/val/k600_val_path.txt": "\n".join(f"{CVDF_URL}/600/val/{n}.tar.gz" for n in names).encode(),
        "/600/val/air drumming.tar.gz": tar({name("a"): content("a")}),
        "/600/val/mountain climber (exercise).tar.gz": tar(
            {
                "mountain climber (exercise)/._" + name("b")[2:]: b"of a Mac",
                "mountain climber (exercise)/" + name("b")[2:]: content("b"),
            }
        ),
        "/600/val/zumba.tar.gz": b"never asked for",
    }
    wanted = [clip("a", "air drumming"), clip("b", "mountain climber (exercise)")]
    assert download_from_cvdf("kinetics600", wanted, tmp_path, mirror=server.root).counts == {"ok": 2}
    assert (tmp_path / wanted[1].path).read_bytes() == content("b")
    assert "/600/val/mountain%20climber%20%28exercise%29.tar.gz" in server.paths
    assert not [path for path in server.paths if "zumba" in path]


def test_a_clip_of_two_classes_and_one_without_label(server: Server, tmp_path: Path) -> None:
    server.files = {
        "/700_2020/val/k700_2020_val_path.txt": f"{CVDF_URL}/700_2020/val/k700_val_001.tar.gz\n".encode(),
        "/700_2020/val/k700_val_001.tar.gz": tar({name("a"): content("a")}),
        "/700_2020/test/k700_2020_test_path.txt": f"{CVDF_URL}/700_2020/test/k700_test_001.tar.gz\n".encode(),
        "/700_2020/test/k700_test_001.tar.gz": tar({name("b"): content("b"), name("c"): b""}),
    }
    wanted = [clip("a", "zumba"), clip("a", "yoga"), *(KineticsClip(f"-_________{x}", 5, 15, "test") for x in "bc")]
    assert download_from_cvdf("kinetics700", wanted, tmp_path, mirror=server.root).num_available == 3
    for one, letter in zip(wanted, "aab", strict=False):
        assert (tmp_path / one.path).read_bytes() == content(letter)
    assert (tmp_path / "test").is_dir()
    empty = read_status(tmp_path)[str(wanted[3].path)]
    assert (empty.status, empty.source, empty.reason) == ("absent", "k700_test_001.tar.gz", "empty in the archive")
    assert not (tmp_path / wanted[3].path).exists(), "an empty file is no clip"


def test_a_malicious_archive_is_reported_and_the_others_are_extracted(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    bad = io.BytesIO()
    with tarfile.open(fileobj=bad, mode="w:gz") as archive:
        link = tarfile.TarInfo("evil.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    server.files["/400/val/part_0.tar.gz"] = bad.getvalue()
    report = download_from_cvdf("kinetics400", CLIPS, tmp_path / "out", mirror=server.root)
    assert len(report.problems) == 1
    assert "'evil.mp4', a link" in report.problems[0]
    assert report.counts == {"ok": 4, "not tried": 2}, "a is not said to be absent"
    assert (tmp_path / "out" / ".cvdf" / "val" / "part_0.tar.gz.rejected").exists()
    serve_k400(server)
    report = download_from_cvdf("kinetics400", CLIPS, tmp_path / "out", mirror=server.root)
    assert report.counts == {"ok": 5, "absent": 1}


@pytest.mark.parametrize("damage", ["cut", "404", "proxy"])
def test_an_unavailable_archive_is_reported_and_the_others_are_extracted(
    server: Server, tmp_path: Path, damage: str
) -> None:
    serve_k400(server)
    if damage == "cut":
        data = server.files["/400/val/part_0.tar.gz"]
        server.files["/400/val/part_0.tar.gz"] = data[:-6]
    elif damage == "404":
        del server.files["/400/val/part_0.tar.gz"]
    else:
        server.files["/400/val/part_0.tar.gz"] = b"<html>log in</html>"
    report = download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root, retry_policy=QUICK)
    assert len(report.problems) == 1
    assert {"cut": "is damaged", "404": "404 Not Found", "proxy": "not a tar archive"}[damage] in report.problems[0]
    assert report.num_available == (5 if damage == "cut" else 4)  # clips extracted before the damage are kept
    serve_k400(server)
    assert download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root).counts == {"ok": 5, "absent": 1}


def test_a_lost_connection_is_an_error(server: Server, tmp_path: Path) -> None:
    serve_k400(server, tuple(f"part_{n}" for n in range(9)))
    for path in list(server.files):
        if "part" in path:
            del server.files[path]
    with pytest.raises(DownloadError, match="404 Not Found"):
        download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root, num_workers=1, retry_policy=QUICK)
    assert len([p for p in server.paths if "part" in p]) == 3


@pytest.mark.parametrize(
    "line",
    [
        "https://elsewhere.example/400/val/part_0.tar.gz",
        f"{CVDF_URL}/400/val/../../x.tar.gz",
        f"{CVDF_URL}/400/val/%2e%2e%2fx.tar.gz",
        f"{CVDF_URL}/400/val/.hidden.tar.gz",
        f"{CVDF_URL}/400/val/part_0.exe",
        f"{CVDF_URL}.evil.example/400/val/part_0.tar.gz",
    ],
)
def test_a_list_with_other_urls_is_refused(server: Server, tmp_path: Path, line: str) -> None:
    serve_k400(server)
    server.files["/400/val/k400_val_path.txt"] = f"{CVDF_URL}/400/val/part_1.tar.gz\n{line}\n".encode()
    with pytest.raises(DatasetError, match="expected archives under"):
        download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root)


def test_a_list_from_a_proxy_is_not_kept(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    server.files["/400/val/k400_val_path.txt"] = b"<html>log in</html>"
    with pytest.raises(DownloadError, match="a list of archives starts with"):
        download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root, retry_policy=QUICK)
    serve_k400(server)
    assert download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root).num_available == 5


def test_a_full_disk_is_an_error_and_finished_clips_are_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_k400(server)
    replace = os.replace
    left = 4

    def full_after_a_while(source: object, target: object) -> None:
        nonlocal left
        left -= str(target).endswith(".mp4")
        if left < 0:
            raise OSError(28, "No space left on device")
        replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(kinetics_cvdf.os, "replace", full_after_a_while)
    with pytest.raises(StorageError, match=r"No space left on device; what is done is kept"):
        download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root, num_workers=1)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("*.mp4"))) == 4
    assert len(read_status(tmp_path)) == 4
    assert download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root).counts == {"ok": 5, "absent": 1}
    assert_whole(tmp_path, "abcde")


def test_an_error_interrupts_the_other_downloads(server: Server, tmp_path: Path) -> None:
    serve_k400(server)
    server.files["/400/val/part_1.tar.gz"] = tar({name("c"): os.urandom(5_000_000)})
    with open_clip_folder(tmp_path, "test") as output:
        job = kinetics_cvdf._Job(CLIPS, output, server.root, QUICK)
        job.stop.set()
        with pytest.raises(WorkStopped):
            job.process(CvdfArchive("400/val/part_1.tar.gz", "val"))
    assert 0 < (tmp_path / ".cvdf" / "val" / "part_1.tar.gz.part").stat().st_size < 5_000_000
    assert job.failures.problems == []


def test_one_process_at_a_time(server: Server, tmp_path: Path) -> None:
    with FolderLock(tmp_path, "prepare"), pytest.raises(StorageError, match="in use by process"):
        download_from_cvdf("kinetics400", CLIPS, tmp_path, mirror=server.root)
    assert server.paths == []


KILLED = """
import os, signal, sys
from pathlib import Path
from quovadis.datasets.kinetics import clip_status
from quovadis.datasets.kinetics import cvdf as kinetics_cvdf
from tests.datasets.kinetics.test_cvdf import CLIPS

folder, mirror, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
record = clip_status.StatusTable.record

def dying(self, row):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    record(self, row)

clip_status.StatusTable.record = dying
kinetics_cvdf.download_from_cvdf("kinetics400", CLIPS, folder, mirror=mirror, num_workers=1)
"""


@pytest.mark.slow
def test_repeatedly_killed_downloads_get_each_clip_once(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with serving() as server:
        serve_k400(server)
        for left in (1, 2):  # during the replacements; during part_0
            command = [sys.executable, "-c", KILLED, str(folder), server.root, str(left)]
            died = subprocess.run(command, check=False, cwd=Path(__file__).parents[3])
            assert died.returncode == -signal.SIGKILL
        assert 0 < len(list(folder.rglob("*.mp4"))) < 5
        assert download_from_cvdf("kinetics400", CLIPS, folder, mirror=server.root).counts == {"ok": 5, "absent": 1}
        assert_whole(folder, "abcde")
        assert server.paths.count("/400/val/part_0.tar.gz") == 1, "an archive that was there is not fetched again"
        assert server.paths.count(REPLACEMENT) == 1


# URLs


def test_annotations_are_downloaded_once_and_checked(server: Server, tmp_path: Path) -> None:
    server.files = {"/400/annotations/val.csv": b"label,youtube_id,time_start,time_end,split,is_cc\nzumba,-_________a,5,15,val,0\n"}  # fmt: skip # noqa: E501
    for _ in range(2):
        path = download_annotations("kinetics400", "val", tmp_path, mirror=server.root, retry_policy=QUICK)
    assert read_annotations(path) == (CLIPS[0],)
    assert server.paths == ["/400/annotations/val.csv"]
    server.files = {"/400/annotations/train.csv": b"<html>"}
    with pytest.raises(DownloadError, match="no column youtube_id"):
        download_annotations("kinetics400", "train", tmp_path, mirror=server.root, retry_policy=QUICK)
    with pytest.raises(DatasetError, match="annotations of kinetics600 val are incomplete: pass the file of the"):
        download_annotations("kinetics600", "val", tmp_path)
    with pytest.raises(UnknownNameError, match="unknown dataset of CVDF 'kinetics500'; did you mean"):
        download_annotations("kinetics500", "val", tmp_path)


def test_the_urls_are_those_of_the_readme() -> None:
    lists = {f"{CVDF_URL}/{release.archive_list('train')}" for release in RELEASES.values()}
    assert lists == {
        "https://s3.amazonaws.com/kinetics/400/train/k400_train_path.txt",
        "https://s3.amazonaws.com/kinetics/600/train/k600_train_path.txt",
        "https://s3.amazonaws.com/kinetics/700_2020/train/k700_2020_train_path.txt",
    }
    assert f"{CVDF_URL}/{RELEASES['kinetics700'].annotations['test']}" == (
        "https://s3.amazonaws.com/kinetics/700_2020/annotations/test.csv"
    )
    assert json.dumps(sorted(RELEASES)) == '["kinetics400", "kinetics600", "kinetics700"]'
