"""Bars and lines of progress."""

import io
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from quovadis.runtime import progress
from quovadis.runtime.console import Console
from quovadis.runtime.progress import TrainingProgress, download_bar, progress_bar, working


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=terminal, width=100, soft_wrap=True), file


def row(step: int) -> dict[str, Any]:
    return {"step": step, "loss": 0.5}


def test_remaining_time_of_slow_items_is_known_after_two() -> None:
    """Rich forgets items that are older than 30 seconds."""
    bar = progress_bar(console(terminal=True)[0])
    now = 0.0
    bar.get_time = lambda: now
    task = bar.add_task("training", total=10)
    for done in (1, 2):
        now += 37.0
        bar.update(task, completed=done)
    assert bar.tasks[0].time_remaining == pytest.approx(8 * 37.0)


def test_bars_of_training_and_other_work() -> None:
    with TrainingProgress(console(terminal=True)[0]) as shown:
        bar = shown._bar

        def visible() -> list[tuple[str, float, float | None]]:
            return [(task.description, task.completed, task.total) for task in bar.tasks if task.visible]

        assert visible() == [("working", 0, None)], "something moves before the first step"
        shown.step(row(7), 20)
        shown.step(row(8), 20)
        assert visible() == [("training, loss 0.500", 8, 20)]
        shown.count("validation", 0, 2)
        shown.count("validation", 1, 2)
        assert visible() == [("training, loss 0.500", 8, 20), ("validation", 1, 2)]
        shown.count("validation", 2, 2)
        assert visible() == [("training, loss 0.500", 8, 20)]
        shown.step(row(20), 20)
        assert visible() == [("working", 0, None)]
        shown.step(row(1), 5)  # the next run of a command with several
        assert visible() == [("training, loss 0.500", 1, 5)]


def test_lines_replace_bars_in_a_log(clock: Clock) -> None:
    target, file = console(terminal=False)
    with TrainingProgress(target) as shown:
        for done in range(5):
            shown.count("quick", done, 4)
            clock.now += 0.1
        for done in range(101):
            shown.count("validation", done, 100)
            clock.now += 10.0
    lines = file.getvalue().splitlines()
    assert lines[0] == "validation: 1 of 100, about 16 minutes left"
    assert lines[1] == "validation: 4 of 100, about 16 minutes left"
    assert len(lines) == 33
    assert lines[-1] == "validation: 97 of 100, about 30 s left"


def test_every_bar_becomes_lines_in_a_log(clock: Clock) -> None:
    target, file = console(terminal=False)
    with progress_bar(target, transient=True) as bar:
        task = bar.add_task("videos", total=None)
        bar.update(task, total=10)
        for _ in range(9):
            clock.now += 20.0
            bar.advance(task)
    lines = [line for line in file.getvalue().splitlines() if "about" in line]
    assert lines == [
        "videos: 1 of 10, about 3 minutes left",
        "videos: 3 of 10, about 2 minutes left",
        "videos: 5 of 10, about 2 minutes left",
        "videos: 7 of 10, about 60 s left",
        "videos: 9 of 10, about 20 s left",
    ]


def test_downloads_become_lines_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with download_bar("weights") as show:
        for megabytes in range(0, 51, 10):
            show(megabytes * 10**6, 50 * 10**6)
            clock.now += 20.0
    assert capsys.readouterr().err.splitlines() == [
        "downloading weights, kB: 10,000 of 50,000, about 80 s left",
        "downloading weights, kB: 30,000 of 50,000, about 40 s left",
    ]


def test_no_other_module_makes_bars() -> None:
    source = Path(progress.__file__).parents[1]
    users = {p.name for p in source.rglob("*.py") if "rich.progress" in p.read_text()}
    assert users == {"progress.py"}


def test_silent_work_is_announced_after_a_moment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.05)
    with working("checking"):
        sleep(0.3)
    assert capsys.readouterr().err == "checking ...\n"
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 50.0)
    with working("quick"):
        pass
    assert capsys.readouterr().err == ""


def test_a_bar_of_short_work_prints_nothing_without_a_terminal() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output), transient=True) as bar:
        bar.update(bar.add_task("videos", total=2), completed=2)
    assert output.getvalue() == ""


def test_a_bar_with_a_description_stays_on_one_line_of_a_narrow_terminal() -> None:
    narrow = Console(file=io.StringIO(), width=80)
    bar = progress_bar(narrow)
    bar.add_task("a video with a lon…, seconds", total=10)
    with narrow.capture() as captured:
        narrow.print(bar.get_renderable())
    assert len(captured.get().splitlines()) == 1
    assert "0/10" in captured.get()
