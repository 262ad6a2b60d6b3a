"""``quovadis data download`` on the command line."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from quovadis.cli.data_download import main
from quovadis.datasets.kinetics import yt_dlp as youtube
from quovadis.datasets.kinetics.cvdf_releases import CVDF_URL
from quovadis.datasets.kinetics.yt_dlp import FetchFailure
from quovadis.errors import DatasetError, InvalidInputError, MissingExtraError, UnknownNameError
from tests.datasets.kinetics.archive_files import content, name, tar
from tests.http_server import Server
from tests.synthetic import write_square

ROWS = """label,youtube_id,time_start,time_end,split,is_cc
zumba,-_________a,0,1,val,0
"air drumming",-_________b,0,1,val,0
zumba,-_________c,1,2,val,1
zumba,-_________d,1,2,train,1
"""


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    (tmp_path / "k400.csv").write_text(ROWS)
    return tmp_path / "k400.csv"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requested IDs; yt-dlp is replaced by a fake for which video c is private."""
    video = write_square(tmp_path / "source.mp4", seed=0, num_frames=60)
    ids: list[str] = []

    def fetch(_: object, youtube_id: str, folder: Path) -> Path:
        ids.append(youtube_id)
        if youtube_id.endswith("c"):
            raise FetchFailure("private", "Private video")
        return Path(shutil.copy(video, folder / "video.mp4"))

    monkeypatch.setattr(youtube.YtDlpFetcher, "fetch", fetch)
    monkeypatch.setitem(sys.modules, "yt_dlp", ModuleType("yt_dlp"))
    return ids


def test_clips_from_youtube(
    tmp_path: Path, annotations: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--split", "val", "--annotations", str(annotations), "--out", str(out)]
    main(["kinetics400", *arguments])
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"kinetics400 val: 2 of 3 clips are in {out}",
        "       2  ok              the clip exists",
        "       1  private         the video is private",
        "1 classes have missing clips, most of them: zumba 1",
        f"status of every clip: {out / 'download.jsonl'}",
    ]
    assert (out / "zumba" / "-_________a_000000_000001.mp4").is_file()
    assert (out / "air drumming" / "-_________b_000000_000001.mp4").is_file()
    main(["kinetics400", *arguments, "--json", "--retry", "--num-workers", "2"])
    report = json.loads(capsys.readouterr().out)
    assert (report["num_available"], report["num_clips"]) == (2, 3)
    assert report["counts"] == {"ok": 2, "private": 1}
    assert report["missing_by_class"] == {"zumba": 1}
    assert sorted(asked) == ["-_________a", "-_________b", "-_________c", "-_________c"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--classes", "air drumming"], ["b"]),
        (["--classes", "zumba", "air drumming", "--limit", "2"], ["a", "b"]),
        (["--classes", "CLASSES"], ["a", "c"]),
        (["--youtube-ids", "IDS"], ["c"]),
        (["--limit", "1"], ["a"]),
    ],
)
def test_options_select_clips(
    tmp_path: Path, annotations: Path, asked: list[str], options: list[str], expected: list[str]
) -> None:
    (tmp_path / "CLASSES").write_text("zumba\n\n")
    (tmp_path / "IDS").write_text("-_________c\n")
    options = [str(tmp_path / option) if option.isupper() else option for option in options]
    main(
        ["kinetics400", "--split", "val", "--annotations", str(annotations), "--out", str(tmp_path / "out"), *options],
    )
    assert sorted(youtube_id[-1] for youtube_id in asked) == expected


def test_clips_and_annotations_from_cvdf(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files = {
        "/400/annotations/val.csv": ROWS.replace("0,1,", "5,15,").encode(),
        "/400/val/k400_val_path.txt": f"{CVDF_URL}/400/val/part_0.tar.gz".encode(),
        "/400/val/part_0.tar.gz": tar({name("a"): content("a"), name("b"): content("b")}),
        "/400/replacement_for_corrupted_k400.tgz": tar({}),
    }
    arguments = ["--split", "val", "--out", str(tmp_path), "--source", "cvdf", "--mirror", server.root]
    main(["kinetics400", *arguments, "--keep-archives"])
    assert "2 of 3 clips are in" in capsys.readouterr().out
    assert (tmp_path / ".cvdf" / "val" / "part_0.tar.gz").is_file()
    shutil.rmtree(tmp_path / ".cvdf")
    (tmp_path / "zumba" / "-_________a_000005_000015.mp4").unlink()
    server.files["/400/val/part_0.tar.gz"] = server.files["/400/val/part_0.tar.gz"][:-4]
    with pytest.raises(SystemExit, match="1"):
        main(["kinetics400", *arguments])
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        ("ucf101", [], UnknownNameError, "unknown dataset to download 'ucf101'"),
        ("kinetics400", ["--limit", "0"], InvalidInputError, "--limit must be at least 1; got 0"),
        ("kinetics400", ["--num-workers", "-1"], InvalidInputError, "--num-workers must be at least 1; got -1"),
        ("kinetics400", ["--classes", "zumbo"], UnknownNameError, "did you mean 'zumba'"),
        ("kinetics600", [], DatasetError, "val are incomplete: pass the file of the original release"),
    ],
)
def test_wrong_download_arguments_are_errors(
    tmp_path: Path, annotations: Path, dataset: str, options: list[str], error: type[Exception], message: str
) -> None:
    file = [] if dataset == "kinetics600" else ["--annotations", str(annotations)]
    with pytest.raises(error, match=message):
        main([dataset, "--split", "val", *file, "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_without_yt_dlp_the_extra_is_named(tmp_path: Path, annotations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[kinetics\]"):
        main(["kinetics400", "--split", "val", "--annotations", str(annotations), "--out", str(tmp_path / "out")])
