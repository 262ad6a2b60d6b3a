import json
import shutil
from pathlib import Path

import pytest

from quovadis.cli import main
from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.models.zoo import build_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from tests.synthetic import write_square


def run(*args: object) -> int:
    """Run a command and return its exit code."""
    try:
        main([str(a) for a in args])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOVADIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def clips(tmp_path: Path, two_classes: Path) -> Path:
    return shutil.copytree(two_classes, tmp_path / "clips")


def test_index_verify_stats_and_evaluate(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "index", clips, "--num-workers", 0) == 0
    raw = load_dataset(clips)
    assert capsys.readouterr().out.splitlines() == [raw.describe(), "clips.parquet: 22 good, 0 missing, 0 corrupt"]
    indexed = load_dataset("clips.parquet")
    assert (indexed.fingerprint, {r.status for r in indexed.records}) == (raw.fingerprint, {"listed"})

    assert run("data", "verify", "clips.parquet", "--num-workers", 0, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values == {
        "manifest": "clips.parquet",
        "name": "clips",
        "fingerprint": raw.fingerprint,
        "num_videos": 22,
        "missing": 0,
        "corrupt": 0,
        "problems": [],
    }
    verified = load_dataset("clips.parquet")
    assert {(r.status, r.num_frames) for r in verified.records} == {("ok", 24)}

    assert run("data", "stats", "clips.parquet", "--page", "p/page.html", "--against", "clips.parquet") == 0
    captured = capsys.readouterr()
    assert "22 decoded to the end" in captured.out
    assert f"clips {raw.fingerprint}" in captured.out
    assert "wrote p/page.html" in captured.err
    assert raw.fingerprint in Path("p/page.html").read_text()

    info = WeightsInfo("i3d_tiny", {"stream": "rgb", "num_classes": 2}, ("left", "right"))
    weights = save_weights(Path("w.safetensors"), build_model("i3d_tiny", num_classes=2).state_dict(), info)
    assert run("evaluate", "--data", "clips.parquet", "--weights", weights, "--json", "--num-workers", 0) == 0
    assert json.loads(capsys.readouterr().out)["data_fingerprint"] == raw.fingerprint


def test_verify_lists_problems_and_exits_with_1(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", "index", clips, "--num-workers", 0, "--out", clips / "m.parquet") == 0
    (clips / "test" / "left" / "0.mp4").unlink()
    (clips / "test" / "left" / "1.mp4").write_text("no")
    write_square(clips / "test" / "left" / "2.mp4", seed=77)
    capsys.readouterr()
    assert run("data", "verify", clips / "m.parquet", "--num-workers", 0) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "missing: test/left/0.mp4: no such file"
    assert [line.partition(": sha256")[0] for line in lines[1:3]] == [
        "corrupt: test/left/1.mp4: changed since it was indexed",
        "corrupt: test/left/2.mp4: changed since it was indexed",
    ]
    assert lines[4] == f"{clips / 'm.parquet'}: 19 good, 1 missing, 2 corrupt"
    assert run("data", "stats", clips / "m.parquet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["statuses"] == {"listed": 0, "ok": 19, "missing": 1, "corrupt": 2}
    assert run("data", "index", clips / "m.parquet", "--num-workers", 0) == 0
    out = capsys.readouterr().out
    assert "corrupt: test/left/1.mp4: 1.mp4 is not a video that FFmpeg can open" in out
    assert "20 good, 1 missing, 1 corrupt" in out


def test_stats_of_a_folder_index_the_files_and_write_nothing(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(clips / "train" / "left" / "0.mp4", clips / "test" / "right" / "copy.mp4")
    assert run("data", "stats", clips, "--num-workers", 0, "--json") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["fps"] == {"25": 23}
    assert values["duplicates"] == [
        {
            "paths": ["test/right/copy.mp4", "train/left/0.mp4"],
            "splits": ["train", "test"],
            "labels": ["left", "right"],
        }
    ]
    assert list(Path().iterdir()) == []


def test_many_missing_files_are_not_all_printed(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"none/{i}.mp4,left\n" for i in range(30))
    (clips / "l.csv").write_text("path,label\ntrain/left/0.mp4,left\n" + rows)
    assert run("data", "verify", clips / "l.csv", "--num-workers", 0) == 1
    out = capsys.readouterr().out
    assert out.count("no such file") == 20
    assert "... 30 missing in all: see the column reason of clips.parquet" in out


def test_classes_select_part_of_a_dataset(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mini.txt").write_text("\ufeffright\r\n\r\n")
    assert run("data", "index", clips, "--num-workers", 0, "--classes", "mini.txt") == 0
    data = Manifest.load("clips-1classes.parquet")
    assert (data.labels, len(data.records)) == (("right",), 11)
    Path("mini.txt").write_text("rihgt\n")
    assert run("data", "index", clips, "--classes", "mini.txt") == 1
    assert "clips has no class 'rihgt' (did you mean 'right'?)" in capsys.readouterr().err
    Path("mini.txt").write_text("\n")
    assert run("data", "index", clips, "--classes", "mini.txt") == 1
    assert run("data", "index", clips, "--classes", "none.txt") == 1
    error = capsys.readouterr().err
    assert "mini.txt is empty; expected one name per line" in error
    assert "none.txt" in error


def test_index_an_official_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Run\n2 Swim\n")
    for split, groups in (("train", range(2, 9)), ("test", (1,))):
        files = [(f"{c}/v_{c}_g{g:02d}_c01.avi", i) for i, c in enumerate(("Run", "Swim"), 1) for g in groups]
        numbers = {"train": " {}", "test": ""}[split]
        (lists / f"{split}list03.txt").write_text("".join(f + numbers.format(i) + "\n" for f, i in files))
        for file, _ in files[:-1]:
            write_square(tmp_path / "UCF-101" / file, seed=0)
    source = ("--root", tmp_path / "UCF-101", "--annotations", lists, "--split", 3, "--num-workers", 0)
    assert run("data", "index", "ucf101", *source, "--out", "u3.parquet") == 0
    assert "u3.parquet: 14 good, 2 missing, 0 corrupt" in capsys.readouterr().out
    data = load_dataset("u3.parquet")
    assert (data.name, data.labels, len(data.split("test"))) == ("ucf101-split3", ("Run", "Swim"), 2)
    assert data.notes[0].startswith("no validation split given")
    assert run("data", "verify", "ucf101", *source) == 1
    assert Manifest.load("ucf101-split3.parquet").fingerprint == data.fingerprint


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("index", "ucf101"), "ucf101 needs --root (the folder of the videos) and --annotations"),
        (("index", "kinetics400", "--root", "."), "kinetics400 needs --root"),
        (
            ("index", "hmdb51", "--root", ".", "--annotations", "a", "b"),
            "hmdb51 takes one folder of annotations",
        ),
        (("index", "hmdb51", "--root", ".", "--annotations", "a"), "a has no CLASS_test_split1.txt"),
        (("stats", "ucf101", "--root", ".", "--annotations", "a", "--split", "4"), "there is no official split 4"),
        (
            ("index", "clips", "--annotations", "a"),
            "--annotations is for named datasets only (ucf101, hmdb51, kinetics400",
        ),
        (
            ("verify", "clips", "--split", "2"),
            "--split is for the official splits of ucf101 and hmdb51 only; got 'clips'",
        ),
        (("download", "ucf101"), "unknown dataset to download 'ucf101'"),
        (("verify", "none.parquet"), "no manifest at none.parquet"),
        (("index", "motoins"), "did you mean 'motions'"),
    ],
)
def test_wrong_arguments_are_errors(args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", *args) == 1
    assert message in capsys.readouterr().err


def test_options_may_come_before_the_target(clips: Path) -> None:
    assert run("data", "index", "--num-workers", 0, "--out", "m.parquet", clips) == 0
    assert len(Manifest.load("m.parquet").records) == 22


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data") == 2
    assert run("data", "clips", "index") == 2
    assert run("data", "index") == 2
    capsys.readouterr()
    assert run("data", "idnex", "clips") == 2
    assert "unknown action 'idnex'; did you mean 'index'?" in capsys.readouterr().err
    assert run("data", "index", "clips", "--nonsense") == 2
    assert run("data", "stats", "clips", "--help") == 0
    assert "--against" in capsys.readouterr().out


def test_another_file_is_not_overwritten_and_no_work_is_done(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips.parquet").write_text("mine")
    assert run("data", "index", clips, "--num-workers", 0) == 1
    captured = capsys.readouterr()
    assert "clips.parquet exists and is not a manifest" in captured.err
    assert "indexing" not in captured.err
    assert Path("clips.parquet").read_text() == "mine"


@pytest.fixture
def kinetics(tmp_path: Path) -> Path:
    """A folder with two of four listed clips."""
    root = tmp_path / "k"
    write_square(root / "zumba" / "aaaaaaaaaa3_000000_000010.mp4", seed=0)
    write_square(root / "yoga" / "-aaaaaaaaa1_000010_000020.mp4", seed=1)
    rows = ["zumba,aaaaaaaaaa3,0,10,train", "yoga,-aaaaaaaaa1,10,20,validate", "yoga,bbbbbbbbbb2,0,10,validate"]
    (root / "some.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]) + "\n")
    (root / "test.csv").write_text("youtube_id,time_start,time_end,split\naaaaaaaaaa3,50,60,test\n")
    return root


def test_index_kinetics(kinetics: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("index", "kinetics400", "--root", kinetics, "--num-workers", 0, "--annotations")
    assert run("data", *source, kinetics / "some.csv", kinetics / "test.csv") == 0
    assert "kinetics400.parquet: 2 good, 2 missing, 0 corrupt" in capsys.readouterr().out
    data = Manifest.load("kinetics400.parquet")
    assert len(data.labels) == 400
    assert [(data.label_of(r), r.split, r.status) for r in data.records] == [
        ("zumba", "train", "listed"),
        ("yoga", "val", "listed"),
        ("yoga", "val", "missing"),
        ("", "test", "missing"),
    ]
    assert data.reading_notes == (
        "1 listed clips have no label",
        "1 videos have clips in two splits, as published: aaaaaaaaaa3",
    )
    assert run("data", "stats", "kinetics400.parquet", "--json") == 0
    overlaps = json.loads(capsys.readouterr().out)["overlaps"]
    assert [(o["first"], o["second"], o["same_youtube_id"]) for o in overlaps][1] == ("train", "test", 1)


def test_mini_kinetics_by_classes_or_youtube_ids(kinetics: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ("index", "kinetics400", "--root", kinetics, "--num-workers", 0, "--annotations", kinetics / "some.csv")
    Path("classes.txt").write_text("yoga\n")
    assert run("data", *source, "--classes", "classes.txt", "--out", "m.parquet") == 0
    mini = Manifest.load("m.parquet")
    assert (mini.labels, len(mini.records)) == (("yoga",), 2)
    Path("ids.txt").write_text("-aaaaaaaaa1\n")
    assert run("data", *source, "--classes", "classes.txt", "--youtube-ids", "ids.txt", "--out", "m.parquet") == 0
    assert [r.path.stem for r in Manifest.load("m.parquet").records] == ["-aaaaaaaaa1_000010_000020"]
    assert run("data", "index", "clips", "--youtube-ids", "ids.txt") == 1
    assert "--youtube-ids is for Kinetics only; got 'clips'" in capsys.readouterr().err
