"""Annotation files of Kinetics: columns, errors, selection and lookup of clips."""

import csv
import gzip
import io
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quovadis.datasets.kinetics.annotations import (
    ClipLookup,
    KineticsClip,
    read_annotations,
    read_names,
    select_clips,
    start_of,
)
from quovadis.datasets.kinetics.class_names import class_labels
from quovadis.errors import DatasetError, UnknownNameError

K400 = class_labels("kinetics400")
HEADER = "label,youtube_id,time_start,time_end,split"


def written(tmp_path: Path, *lines: str, name: str = "val.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


# Published files


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "name", "rows", "labels", "dashes", "doubled"),
    [
        ("kinetics400/kinetics-400_val.csv.gz", "kinetics400", 19_906, 400, 644, 0),
        ("kinetics400/kinetics-400_test.csv.gz", "kinetics400", 38_685, 0, 548, 0),
        ("kinetics600/kinetics-600_val.csv.gz", "kinetics600", 30_000, 600, 744, 6),
        ("kinetics600/kinetics-600_test.csv.gz", "kinetics600", 72_924, 0, 1_252, 0),
        ("kinetics400/tiny_train.csv", "kinetics400", 400, 400, 6, 0),
        ("kinetics400/tiny_val.csv", "kinetics400", 400, 400, 5, 0),
    ],
)
def test_the_published_files_are_read_completely(
    shared: Path, file: str, name: str, rows: int, labels: int, dashes: int, doubled: int
) -> None:
    path = shared / "data" / "annotations" / file
    clips = read_annotations(path, labels=class_labels(name))
    assert len(clips) == rows
    assert {clip.split for clip in clips} == {re.split("[_.]", path.name)[1]}
    found = {clip.label for clip in clips} - {None}
    assert len(found) == labels
    assert found <= set(class_labels(name))
    # Counted independently, with a regular expression.
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    ids = re.findall(r"(?m)^(?:\"[^\"]*\",|[^,]*,)?([\w-]{11}),\d+,\d+,", text)
    assert Counter(ids) == Counter(clip.youtube_id for clip in clips)
    assert sum(id_.startswith("-") for id_ in set(ids)) == dashes
    assert sum(count > 1 for count in Counter(ids).values()) == doubled
    assert len({(clip.youtube_id, clip.start_seconds) for clip in clips}) == len({clip.path for clip in clips}) == rows
    assert {clip.end_seconds - clip.start_seconds for clip in clips} == {10}


@pytest.mark.shared
def test_the_versions_overlap_as_known(shared: Path) -> None:
    root = shared / "data" / "annotations"
    ids = {}
    for name in ("k400_val", "k400_test", "k600_val", "k600_test"):
        clips = read_annotations(root / f"kinetics{name[1:4]}" / f"kinetics-{name[1:]}.csv.gz")
        ids[name] = {clip.youtube_id for clip in clips}
    assert len(ids["k400_val"] & ids["k600_val"]) == 13_569
    assert len(ids["k400_val"] & ids["k600_test"]) == 450
    assert len(ids["k400_test"] & ids["k600_test"]) == 27_589


@pytest.mark.shared
def test_mini_kinetics_200_selects_by_youtube_id(shared: Path) -> None:
    root = shared / "data" / "annotations"
    clips = read_annotations(root / "kinetics400" / "kinetics-400_val.csv.gz", labels=K400)
    ids = read_names(root / "minikinetics200" / "val_ytid_list.txt.gz")
    classes = read_names(root / "minikinetics200" / "classes_derived.txt")
    mini = select_clips(clips, youtube_ids=ids)
    assert len(mini) == 5_000
    assert Counter(clip.label for clip in mini) == dict.fromkeys(classes, 25)
    by_class = select_clips(clips, classes=classes)
    assert set(mini) < set(by_class)
    assert len({clip.label for clip in by_class}) == 200
    assert len(read_names(root / "minikinetics200" / "train_ytid_list.txt.gz")) == 80_000


# Columns


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((f"{HEADER},is_cc", '"air drumming",_dbcJuKJQNs,40,50,val,0'), ("air drumming", "val")),
        ((HEADER, "abseiling,_dbcJuKJQNs,40,50,validate"), ("abseiling", "val")),
        ((HEADER, "abseiling,_dbcJuKJQNs,40,50,train"), ("abseiling", "train")),
        (("youtube_id,time_start,time_end,split", "_dbcJuKJQNs,40,50,test"), (None, "test")),
        ((HEADER, ",_dbcJuKJQNs,40,50,test"), (None, "test")),
        ((HEADER, "archery,_dbcJuKJQNs,40,50,test"), ("archery", "test")),
        (("label,youtube_id,time_start,time_end", "archery,_dbcJuKJQNs,40,50"), ("archery", "val")),
        (("split,time_end,time_start,youtube_id,label", "test,50,40,_dbcJuKJQNs,archery"), ("archery", "test")),
        (("\ufeffLabel, YouTube_ID ,time_start,time_end,split", "archery, _dbcJuKJQNs ,40,50,VAL"), ("archery", "val")),
        ((HEADER, "", "massaging_persons_head,_dbcJuKJQNs,40,50,val"), ("massaging person's head", "val")),
        ((HEADER, ' "hurling (sport)",_dbcJuKJQNs,40,50,val\r'), ("hurling (sport)", "val")),
        ((HEADER, "Air_Drumming,_dbcJuKJQNs,40.0,50.00,val"), ("air drumming", "val")),
    ],
)
def test_all_variants_of_the_columns(tmp_path: Path, lines: tuple[str, ...], expected: tuple[str | None, str]) -> None:
    (clip,) = read_annotations(written(tmp_path, *lines), labels=K400, split="val")
    assert clip == KineticsClip("_dbcJuKJQNs", 40, 50, expected[1], expected[0])


def test_times_keep_decimals_but_file_names_have_whole_seconds(tmp_path: Path) -> None:
    (clip,) = read_annotations(written(tmp_path, HEADER, "archery,-dbcJuKJQNs,23770.25,23780.75,val"))
    assert (clip.start_seconds, clip.end_seconds) == (23770.25, 23780.75)
    assert clip.path.as_posix() == "archery/-dbcJuKJQNs_023770_023780.mp4"


def test_a_clip_without_label_is_in_the_folder_of_its_split() -> None:
    assert KineticsClip("--6bJUbfpnQ", 17, 27, "test").path.as_posix() == "test/--6bJUbfpnQ_000017_000027.mp4"


# Errors


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("archry,_dbcJuKJQNs,40,50,val", r"val\.csv:2: unknown class 'archry'; did you mean 'archery'"),
        ("archery,_dbcJuKJQNs,50,40,val", r"val\.csv:2: _dbcJuKJQNs: got 50 s to 40 s; expected an end after"),
        ("archery,_dbcJuKJQNs,40,40,val", "expected an end after the start"),
        ("archery,_dbcJuKJQNs,-4,40,val", "time_start is '-4'; expected seconds"),
        ("archery,_dbcJuKJQNs,nan,40,val", "time_start is 'nan'"),
        ("archery,_dbcJuKJQNs,1e3,1e9,val", "time_start is '1e3'"),
        ("archery,_dbcJuKJQNs,40,inf,val", "time_end is 'inf'"),
        ("archery,_dbcJuKJQNs,,40,val", "time_start is ''"),
        ("archery,_dbcJuKJQN,40,50,val", "'_dbcJuKJQN' is not a valid YouTube ID; expected 11"),
        ("archery,_dbcJuKJQNsX,40,50,val", "is not a valid YouTube ID"),
        ("archery,../../../x,40,50,val", "is not a valid YouTube ID"),
        ("archery,a/b\\c;$(r)m,40,50,val", "is not a valid YouTube ID"),
        ("archery,`rm -rf ~`_,40,50,val", "is not a valid YouTube ID"),
        ("archery,_dbcJuKJQN\u0660,40,50,val", "is not a valid YouTube ID"),
        ("archery,_dbcJuKJQNs,40,50,dev", "split is 'dev'; expected train, val"),
        (",_dbcJuKJQNs,40,50,val", "the label is empty"),
        ("archery,_dbcJuKJQNs,40,50", r"val\.csv:2: 4 cells; the header has 5"),
        ("archery,_dbcJuKJQNs,40,50,val,0", r"val\.csv:2: 6 cells"),
        ('archery,"_dbcJuKJQNs,40,50,val', r"val\.csv:\d: .*(end of data|unexpected)"),
    ],
)
def test_an_invalid_row_is_refused_with_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_annotations(written(tmp_path, HEADER, row), labels=K400)


@pytest.mark.parametrize(
    "label", ["..", "../etc", "/etc", "a/b", "a\\b", ".hidden", "a\x00b", "a\nb", "C:x", "a|b", " a"]
)
def test_a_label_that_would_leave_the_root_is_refused(tmp_path: Path, label: str) -> None:
    with pytest.raises(DatasetError, match="cannot be used as a folder name"):
        KineticsClip("_dbcJuKJQNs", 40, 50, "val", label)
    if label == label.strip():
        path = tmp_path / "x.csv"
        path.write_text(f'{HEADER}\n"{label}",_dbcJuKJQNs,40,50,val\n')
        with pytest.raises(DatasetError, match=r"x\.csv:\d: (the label .* cannot be used as a folder name|NUL char)"):
            read_annotations(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column youtube_id and no column time_start and no column time_end and no column split"),
        ("label,video_id,start,end,split\n", "its first line is 'label,video_id,start,end,split'; expected label,"),
        ("abseiling,_dbcJuKJQNs,40,50,val\n", "no column youtube_id"),
        ("label,youtube_id,time_start,time_end\nabseiling,_dbcJuKJQNs,40,50\n", "no column split"),
        ("label,label,youtube_id,time_start,time_end,split\n", "2 columns label"),
        (f"{HEADER}\n\n", "a header but no rows"),
    ],
)  # fmt: skip
def test_a_wrong_header_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_annotations(tmp_path / "x.csv")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no file at"):
        read_annotations(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="is a folder, not a file"):
        read_annotations(tmp_path)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"x\.csv:1: not UTF-16 text"):
        read_annotations(tmp_path / "x.csv")
    whole = gzip.compress(f"{HEADER}\nabseiling,_dbcJuKJQNs,40,50,val\n".encode())
    for damaged in (whole[:-3], b"no gzip", whole[:20] + b"x" + whole[21:]):
        (tmp_path / "x.csv.gz").write_bytes(damaged)
        with pytest.raises(DatasetError, match="cannot read"):
            read_annotations(tmp_path / "x.csv.gz")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(DatasetError, match="is empty"):
        read_names(tmp_path / "empty.txt")


IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
CLIPS = st.builds(
    lambda youtube_id, start, length, split, label: KineticsClip(youtube_id, start, start + length, split, label),
    IDS,
    st.integers(0, 30_000),
    st.integers(1, 20),
    st.sampled_from(("train", "val", "test")),
    st.sampled_from(K400),
)


@given(
    st.lists(CLIPS, min_size=1, max_size=20),
    st.permutations(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"]),
    st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC)),
    st.sampled_from(("\n", "\r\n")),
    st.booleans(),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reading_returns_what_was_written(
    tmp_path: Path, clips: list[KineticsClip], columns: list[str], quoting: int, newline: str, packed: bool
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator=newline)  # type: ignore[arg-type]
    writer.writerow(columns)
    for clip in clips:
        row = {
            "label": clip.label,
            "youtube_id": clip.youtube_id,
            "time_start": int(clip.start_seconds),
            "time_end": int(clip.end_seconds),
            "split": "validate" if clip.split == "val" else clip.split,
            "is_cc": 1,
        }
        writer.writerow([row[column] for column in columns])
    data = out.getvalue().encode()
    path = tmp_path / ("x.csv.gz" if packed else "x.csv")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read_annotations(path, labels=K400) == tuple(clips)


@given(st.text(max_size=200))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_read_or_refused_and_paths_stay_inside_the_root(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(f"{HEADER}\n{text}", encoding="utf-8", errors="surrogatepass")
    try:
        clips = read_annotations(tmp_path / "x.csv")
    except DatasetError:
        return
    for clip in clips:
        assert len(clip.path.parts) == 2
        assert (tmp_path / clip.path).resolve().is_relative_to(tmp_path.resolve())


@given(st.text(alphabet='ab/\\.:;$`|&" \n\0~*-_', min_size=1, max_size=12), IDS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_path_of_a_clip_stays_inside_the_root(tmp_path: Path, label: str, youtube_id: str) -> None:
    try:
        clip = KineticsClip(youtube_id, 1, 2, "val", label)
    except DatasetError:
        return
    assert (tmp_path / clip.path).resolve().parent.parent == tmp_path.resolve()


# Selection


def test_select_by_split_class_id_and_number() -> None:
    clips = [
        KineticsClip(f"{'a' * 10}{i}", i, i + 10, ("train", "val")[i % 2], ("archery", "zumba")[i % 3 == 0])
        for i in range(8)
    ]
    assert [c.start_seconds for c in select_clips(clips, split="val")] == [1, 3, 5, 7]
    assert [c.start_seconds for c in select_clips(clips, classes=["zumba"], limit=2)] == [0, 3]
    assert [c.start_seconds for c in select_clips(clips, youtube_ids=["aaaaaaaaaa5", "aaaaaaaaaa2"])] == [2, 5]
    assert select_clips([*clips, *clips]) == tuple(clips)
    with pytest.raises(UnknownNameError, match="unknown class 'zumbo'; did you mean 'zumba'"):
        select_clips(clips, classes=["zumbo"])
    with pytest.raises(DatasetError, match="none of the 8 clips is selected: split test"):
        select_clips(clips, split="test")


def test_two_clips_with_the_same_file_name_are_refused() -> None:
    clips = [KineticsClip("_dbcJuKJQNs", start, start + 10, "val", "zumba") for start in (1.2, 1.7)]
    with pytest.raises(DatasetError, match=r"would be written to one file, zumba/_dbcJuKJQNs_000001_000011\.mp4"):
        select_clips(clips)


# File names


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("SN5awGHfw9M_000036_000046", ["kicking"]),
        ("SN5awGHfw9M_27_37", ["passing"]),
        ("SN5awGHfw9M", []),  # ambiguous: two clips
        ("SN5awGHfw9M_000099_000109", []),
        ("_dbcJu_JQ-s_000040_000050", ["drumming", "music"]),  # two classes of one clip; underscores in the id
        ("_dbcJu_JQ-s", ["drumming", "music"]),
        ("_dbcJu_JQ-s_000041_000051", ["drumming", "music"]),  # the only clip of that video
        ("SN5awGHfw9", []),
        ("", []),
    ],
)
def test_a_file_is_matched_by_id_and_by_start_if_needed(stem: str, expected: list[str]) -> None:
    lookup = ClipLookup(
        [
            KineticsClip("SN5awGHfw9M", 36, 46, "val", "kicking"),
            KineticsClip("SN5awGHfw9M", 27, 37, "val", "passing"),
            KineticsClip("_dbcJu_JQ-s", 40, 50, "val", "drumming"),
            KineticsClip("_dbcJu_JQ-s", 40, 50, "val", "music"),
        ]
    )
    assert [clip.label for clip in lookup.clips_of(stem)] == expected


@given(CLIPS)
def test_every_clip_is_found_by_its_own_name(clip: KineticsClip) -> None:
    assert ClipLookup([clip]).clips_of(clip.stem) == (clip,)
    assert start_of(clip.stem) == clip.start_seconds
