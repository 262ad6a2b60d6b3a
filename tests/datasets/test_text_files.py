import codecs
import gzip
from pathlib import Path

import pytest

from quovadis.datasets.kinetics.annotations import read_annotations, read_names
from quovadis.datasets.load import load_dataset
from quovadis.datasets.official_splits import read_words
from quovadis.datasets.text_files import read_text, split_list_line
from quovadis.datasets.video_inputs import list_videos
from quovadis.errors import DatasetError

TEXT = "v.mp4 café\r\nw.mp4 smörgåsbord\r\n"


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
    ],
    ids=["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le without mark", "utf-16-be without mark", "utf-32"],
)
def test_unicode_is_recognized(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    assert read_text(path).text == TEXT
    assert read_text(path).note == ""
    (tmp_path / "list.txt.gz").write_bytes(gzip.compress(data))
    assert read_text(tmp_path / "list.txt.gz").text == TEXT
    assert [words for _, words in read_words(path)] == [["v.mp4", "café"], ["w.mp4", "smörgåsbord"]]
    assert read_names(path) == ("v.mp4 café", "w.mp4 smörgåsbord")
    assert list(list_videos([path])) == ["v.mp4", "w.mp4"]


@pytest.mark.parametrize("label", ["café", "Straße", "niño", "rock ’n’ roll", "“left” – right", "créée", "Ångström"])
def test_western_windows_text_is_read_and_noted(tmp_path: Path, label: str) -> None:
    (tmp_path / "v.mp4").touch()
    (tmp_path / "l.csv").write_bytes(f"path,label\nv.mp4,{label}\n".encode("cp1252"))
    data = load_dataset(tmp_path / "l.csv")
    assert data.labels == (label,)
    assert data.notes[0] == "l.csv is not UTF-8; read as Windows-1252 (cp1252)"


@pytest.mark.parametrize(
    ("label", "encoding"),
    [
        ("бег", "cp1251"),
        ("跑步", "gbk"),
        ("走る", "shift-jis"),
        ("달리기", "euc-kr"),
        ("τρέξιμο", "cp1253"),
        ("café", "mac-roman"),
        ("pływanie", "cp1250"),
        ("ריצה", "cp1255"),
    ],
)
def test_the_error_for_an_unknown_encoding_names_the_line(tmp_path: Path, label: str, encoding: str) -> None:
    for name in ("l.csv", "l.txt"):
        (tmp_path / name).write_bytes(f"path,label\nv.mp4,{label}\n".encode(encoding))
        with pytest.raises(
            DatasetError, match=rf"{name}:2: not UTF-8 text \(byte 0x..\).* save the file as UTF-8"
        ) as caught:
            load_dataset(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "an Excel workbook or a zip archive: save the table as CSV"),
        (b"PAR1\x15\x00\x15\x00", "a Parquet file"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00", "a gzip file"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00", "l.csv:1: NUL character"),
        (b"path,label\na.mp4,r\x00un\n", "l.csv:2: NUL character"),
        (codecs.BOM_UTF8 + b"path\n\xff", "l.csv:2: not UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"p\x00a", "l.csv:1: not UTF-16 text"),
    ],
)
def test_the_error_for_other_files_names_their_kind(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "l.csv").write_bytes(data)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "l.csv")
    with pytest.raises(DatasetError, match=message):
        read_annotations(tmp_path / "l.csv")


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    for source in (tmp_path, Path("/dev/null")):
        with pytest.raises(DatasetError, match=r"is (a folder|a device)"):
            read_text(source)
    with pytest.raises(DatasetError, match=r"no file at .*x\.txt"):
        list_videos([tmp_path / "x.txt"])
    (tmp_path / "l.txt").write_text("\n \n")
    with pytest.raises(DatasetError, match="is empty"):
        list_videos([tmp_path / "l.txt"])


@pytest.mark.parametrize("name", ["x" * 5000, f"{'x' * 5000}.csv", f"{'x' * 5000}.parquet", "x\0.csv"])
def test_the_error_for_an_impossible_file_name_is_one_line(name: str) -> None:
    with pytest.raises((DatasetError, LookupError)) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)


def test_only_line_endings_separate_lines(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a\x0bb\nc\u2028d\re\x85f", newline="")
    assert [line for _, line in read_text(tmp_path / "l.txt").lines()] == ["a\x0bb", "c\u2028d", "e\x85f"]


def test_split_list_line(tmp_path: Path) -> None:
    def split(line: str) -> tuple[str, str]:
        return split_list_line(line, "l.txt:1", tmp_path)

    assert split("run/a.mp4 3") == ("run/a.mp4", "3")
    assert split("air drumming/a b.MP4\tair drumming") == ("air drumming/a b.MP4", "air drumming")
    assert split('"a.mp4 b.mp4" 3') == ("a.mp4 b.mp4", "3")
    assert split("v_Run_g01 3") == ("v_Run_g01", "3")
    with pytest.raises(DatasetError, match=r"l.txt:1: .* the end of the path is ambiguous"):
        split("a.mp4 b.mp4 3")
    (tmp_path / "a.mp4 b.mp4").touch()
    assert split("a.mp4 b.mp4 3") == ("a.mp4 b.mp4", "3")
