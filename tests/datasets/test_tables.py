import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quovadis.datasets.load import load_dataset
from quovadis.datasets.manifest import Manifest
from quovadis.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("v/0.mp4", "v/1.mp4", "w/2.mp4", "a b/3.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def read(folder: Path, text: str, name: str = "l.csv", **options: object) -> Manifest:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return load_dataset(folder / name, **options)  # type: ignore[arg-type]


def labels_of(data: Manifest) -> dict[str, str]:
    return {data.relative(r): data.label_of(r) for r in data.records}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nv/0.mp4,spins, left\n", r"l.csv:2: 3 cells, but the header has 2: 'v/0.mp4,spins, ?left'"),
        ("path,label,split\nv/0.mp4,a,train\nv/1.mp4,spins, left,test\n", "l.csv:3: 4 cells, but the header has 3"),
        ('path,label\nv/0.mp4,"spins\nleft"\n', r"l.csv:2: the label 'spins\\nleft' contains a line break"),
        ('path,label\n"v/0.mp4"x,a\n', "l.csv:2: invalid table row: ',' expected after"),
        ('path,label\nv/0.mp4,a\nv/1.mp4,"b\n', "l.csv:3: invalid table row: unexpected end of data"),
        (f"path,label\nv/0.mp4,{'x' * 140_000}\n", "l.csv:2: invalid table row: field larger than field limit"),
        (f"path,label\n{'x' * 300}.mp4,a\n", "l.csv:2: the path 'xxx"),
        (f"path,label\n{'x/' * 3000}.mp4,a\n", "l.csv:2: the path 'x/x"),
        ("path,label,label\nv/0.mp4,a,b\n", "l.csv:1: several columns for the label: label, label"),
        ("file,video,label\nv/0.mp4,x,a\n", "l.csv:1: several columns for the path: file, video"),
        ("path,label\nv/0.mp4,\x1b[31mred\n", "l.csv:2: the label .* control character"),
        ("v/0.mp4,a,train\n", "l.csv:1: 3 cells; expected two, path and label, in a table without a header"),
        (
            "v/0.mp4,a\nv/1.mp4,spins, left\n",
            "l.csv:2: 3 cells; expected two, path and label, in a table without a header",
        ),
        ("v/0.mp4\n", "l.csv:1: the label is empty"),
        ("v/0.mp4 12 3\n", "l.csv:1: several numbers after the path: '12 3'"),
    ],
)
def test_an_invalid_row_is_refused_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(folder, text)


@pytest.mark.parametrize(
    "text",
    [
        'path,label\nv/0.mp4,"spins, left"\n',
        'path,label\nv/0.mp4, "spins, left"\n',
        'path, label \r\n"v/0.mp4" ,"spins, left"\r\n'.replace('" ,', '",'),
        "path;label\nv/0.mp4;spins, left\n",
        "path\tlabel\nv/0.mp4\tspins, left\n",
        "path,label\rv/0.mp4,'x'\r".replace("'x'", '"spins, left"'),
        "path,label,\nv/0.mp4,spins\\, left,\n".replace("spins\\, left", '"spins, left"'),
        "v/0.mp4\tspins, left\n",
        "v/0.mp4;spins, left\n",
        "sep=;\r\npath;label\r\nv/0.mp4;spins, left\r\n",
        "path;label\nv\\0.mp4;spins, left\n",
        "v/0.mp4 spins, left\n",
    ],
)
def test_labels_with_commas(folder: Path, text: str) -> None:
    assert labels_of(read(folder, text)) == {"v/0.mp4": "spins, left"}


@pytest.mark.parametrize("name", ["l.csv", "l.txt", "l.lst", "l.list", "l.tsv"])
@pytest.mark.parametrize(
    "text",
    [
        "v/0.mp4 air drumming\nw/2.mp4 yoga\na b/3.mp4 yoga\n",
        "v/0.mp4,air drumming\nw/2.mp4,yoga\na b/3.mp4,yoga\n",
        "path label\nv/0.mp4 air drumming\n\nw/2.mp4   yoga\na b/3.mp4 yoga\n",
    ],
    ids=["blanks", "commas", "header"],
)
def test_a_list_of_paths_and_labels(folder: Path, name: str, text: str) -> None:
    if name in ("l.csv", "l.tsv") and text.startswith("path label"):
        pytest.skip("a .csv with a header has commas, tabs or semicolons")
    assert labels_of(read(folder, text, name)) == {"v/0.mp4": "air drumming", "w/2.mp4": "yoga", "a b/3.mp4": "yoga"}


def test_numeric_labels_are_sorted_by_value_and_named_by_a_class_index(folder: Path) -> None:
    text = "v/0.mp4 10\nv/1.mp4 9\nw/2.mp4 2\n"
    data = read(folder, text, "l.txt")
    assert data.labels == ("2", "9", "10")
    assert "the labels are numbers from 2 to 10" in data.notes[0]
    (folder / "classInd.txt").write_text("".join(f"{i} Class{i}\n" for i in range(1, 12)))
    data = read(folder, text, "l.txt")
    assert data.labels[:3] == ("Class1", "Class2", "Class3")
    assert labels_of(data) == {"v/0.mp4": "Class10", "v/1.mp4": "Class9", "w/2.mp4": "Class2"}
    with pytest.raises(DatasetError, match=r"l.txt:1: class 12 is not in classInd.txt, which has 1 to 11"):
        read(folder, "v/0.mp4 12\n", "l.txt")


def test_a_list_may_refer_to_another_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    data = read(tmp_path / "lists", "v/0.mp4 a\nw/2.mp4 b\n", "l.txt", root=folder)
    assert labels_of(data) == {"v/0.mp4": "a", "w/2.mp4": "b"}
    with pytest.raises(
        DatasetError, match=r"none of the 1 listed files exists.*; the folder .*/w contains 2\.mp4\. If"
    ):
        read(tmp_path / "lists", "w/2.avi a\n", "l.txt", root=folder)


CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20)


@given(st.lists(CELLS.filter(lambda c: c.strip()), min_size=1, max_size=6), st.sampled_from(",;\t"), st.booleans())
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_the_csv_module_writes_is_read(folder: Path, labels: list[str], delimiter: str, all_quoted: bool) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL)
    writer.writerow(["path", "label"])
    writer.writerows([f"v/{i}.mp4", label] for i, label in enumerate(labels))
    data = read(folder, out.getvalue())
    assert [data.label_of(r) for r in data.records] == [label.strip() for label in labels]
