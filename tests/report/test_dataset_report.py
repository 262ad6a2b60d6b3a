from dataclasses import replace

import pytest

from quovadis.datasets.statistics import ClassCount, DatasetStatistics, Duplicate, Overlap
from quovadis.report.charts import bars_svg
from quovadis.report.dataset import dataset_page, describe_statistics, statistics_table
from quovadis.report.terminal import to_text

PLAIN = DatasetStatistics(
    dataset="toy",
    data_fingerprint="0123456789ab",
    splits={"train": 40, "test": 20},
    statuses={"listed": 1, "ok": 57, "missing": 1, "corrupt": 1},
    num_unknown=1,
    classes=tuple(ClassCount(f"[red]class {i:02d}", {"train": 1, "test": 1}, int(i == 25), 0) for i in range(30)),
    fps={"25": 50, "29.97": 7, "24": 1, "23": 1, "22": 1, "21": 1},
    sizes={"64x48": 58},
    durations_seconds=tuple(float(i) for i in range(1, 100)),
    num_bytes=2_500_000_000,
    duplicates=(Duplicate(("a", "b"), ("train",), ("x",)), Duplicate(("c", "d", "e"), ("train", "test"), ("x", "y"))),
    overlaps=(Overlap("train", "test", 1, 2, 3),),
    problems=tuple((f"{i}.mp4", "corrupt", "[bold]why") for i in range(60)),
)


def test_statistics_are_described_in_words() -> None:
    assert describe_statistics(PLAIN) == {
        "videos": "60 of 30 classes (40 train, 20 test)",
        "data": "toy 0123456789ab",
        "status": "57 decoded to the end, 1 not verified, 1 missing, 1 corrupt; 1 not checked: "
        "run quovadis data ... index",
        "length": "1.0 to 99.0 s, median 50.0 s, 1.4 h in total",
        "frame rates": "25 fps (50), 29.97 fps (7), 24 fps (1), 23 fps (1), 22 fps (1), 1 more",
        "sizes": "64x48 (58)",
        "bytes": "2.50 GB",
        "duplicates": "5 files with only 2 different contents; 1 in more than one split, 1 with more than one label",
    }
    unknown = replace(PLAIN, durations_seconds=(), num_bytes=0)
    assert list(describe_statistics(unknown)) == ["videos", "data", "status"]
    assert describe_statistics(replace(PLAIN, duplicates=()))["duplicates"] == "none"


def test_terminal_table_lists_classes_with_problems_first_and_escapes_markup() -> None:
    text = to_text(statistics_table(PLAIN), width=140)
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("class"))
    assert lines[first + 1].split() == ["[red]class", "25", "1", "1", "1", "0"]
    assert "20 of 30 classes, those with most problems first" in text
    assert any(line.split() == ["train", "and", "test", "1", "2", "3"] for line in lines)
    assert "corrupt: 9.mp4: [bold]why" in text
    assert "10.mp4" not in text
    assert "60 missing or corrupt in total" in text


def test_page_lists_the_worst_duplicates_first_and_notes_truncation() -> None:
    html = dataset_page("toy", PLAIN, {"[red]class 00": "data:x"})
    assert html.index("<code>c</code>") < html.index("<code>a</code>")
    assert "The first 20 of 60." in html
    assert html.count("<svg") == 4
    assert html.count("no readable video") == 29


@pytest.mark.parametrize("count", [1, 12, 13])
def test_bar_charts_name_at_most_twelve_values_and_escape_math(count: int) -> None:
    svg = bars_svg({f"$_{i}$ <": i + 1 for i in range(count)}, "class")
    assert svg.count("&lt;") == min(count, 12)
    assert "$_0$" in svg
    assert ("all others" in svg) == (count > 12)
