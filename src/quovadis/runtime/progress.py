"""Progress bars on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import Timer
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column
from rich.text import Text

from quovadis.runtime.console import Console, plain
from quovadis.runtime.durations import describe_duration

_ESTIMATE_SECONDS = 3600.0
"""The remaining time is estimated from the items of this period. Rich's default, 30 seconds, may contain no item."""
_SILENT_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 30.0


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """Create a progress bar with elapsed and remaining time.

    If the console is not a terminal, a line every 30 seconds replaces the bar.

    Args:
        console: The console to print to.
        transient: Remove the bar when it is complete.
    """
    return _Bar(
        _Description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        speed_estimate_period=_ESTIMATE_SECONDS,
    )


@contextmanager
def working(description: str) -> Iterator[None]:
    """Show on stderr that work of unknown length is going on, if it takes more than two seconds.

    >>> with working("checking"):
    ...     pass
    """
    console = Console(stderr=True)
    bar = Progress(SpinnerColumn(), _Description(), TimeElapsedColumn(), console=console, transient=True)
    bar.add_task(description, total=None)
    show = bar.start if console.is_terminal else partial(console.print, f"{description} ...")
    timer = Timer(_SILENT_SECONDS, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


class _Bar(Progress):
    """A progress bar that also works without a terminal."""

    def __init__(self, *columns: ProgressColumn, console: Console, **options: Any):
        super().__init__(*columns, console=console, **options)
        self._lines = None if console.is_terminal else _ProgressLines(console)

    def start(self) -> None:
        if self._is_shown():
            super().start()

    def stop(self) -> None:
        if self._is_shown():
            super().stop()

    def _is_shown(self) -> bool:
        """Return whether the bar, or its end, is printed. Rich prints an empty line for others."""
        return self._lines is None or not self.live.transient

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._print_line(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._print_line(task_id)

    def _print_line(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        if self._lines is not None and task.total:
            self._lines.show(task_id, task.description, int(task.completed), int(task.total))


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show the progress of a download on stderr, after its first chunk.

    If stderr is not a terminal, a line every 30 seconds replaces the bar.

    Yields:
        A function to call with the number of bytes received and the total.
    """
    if not sys.stderr.isatty():
        lines = _ProgressLines(Console(stderr=True))

        def show_line(done: int, total: int | None) -> None:
            if total:
                lines.show(TaskID(0), f"downloading {name}, kB", done // 1000, total // 1000)

        yield show_line
        return
    columns = (_Description(), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with ExitStack() as stack:
        tasks: list[tuple[Progress, TaskID]] = []

        def show(done: int, total: int | None) -> None:
            if not tasks:
                bar = stack.enter_context(Progress(*columns, console=Console(stderr=True)))
                tasks.append((bar, bar.add_task(name, total=total)))
            bar, task = tasks[0]
            bar.update(task, completed=done, total=total)

        yield show


class _Description(ProgressColumn):
    """Task description as plain text, on one line also in narrow terminals."""

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True, overflow="ellipsis"))

    def render(self, task: Task) -> Text:
        return plain(task.description)


class TrainingProgress:
    """Progress of a training command: a bar for each kind of work, a line for each validation and note."""

    def __init__(self, console: Console):
        self._console = console
        self._bar = progress_bar(console)
        self._tasks: dict[str, TaskID] = {}
        self._between = self._bar.add_task("working", total=None)  # shown while there is no other bar

    def __enter__(self) -> TrainingProgress:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.update(self._between, visible=False)
        if self._console.is_terminal:
            self._bar.stop()

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """Advance the bar of the optimizer steps."""
        self._advance("training", f"training, loss {row['loss']:.3f}", row["step"], max_steps)

    def count(self, description: str, done: int, total: int) -> None:
        """Show the bar of other work, and remove it at the end."""
        self._advance(description, description, done, total)

    def validation(self, row: dict[str, Any]) -> None:
        """Print the validation metrics."""
        self._console.print(
            f"step {row['step']:>6}  validation loss {row['val_loss']:.3f}  accuracy {row['val_accuracy']:.1%}"
        )

    def note(self, message: str) -> None:
        """Print a note."""
        self._console.print(f"note: {message}", style="dim")

    def _advance(self, name: str, description: str, done: int, total: int) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(description, total=total, completed=max(done - 1, 0))
        self._bar.update(self._tasks[name], total=total, completed=done, description=description)
        if done >= total:
            self._bar.remove_task(self._tasks.pop(name))
        self._bar.update(self._between, visible=not self._tasks)


class _ProgressLines:
    """Progress as lines of text, at most one every 30 seconds and none for work of less than two seconds."""

    def __init__(self, console: Console):
        self._console = console
        self._starts: dict[TaskID, tuple[float, int]] = {}
        self._next_time = 0.0

    def show(self, task: TaskID, description: str, done: int, total: int) -> None:
        now = time.monotonic()
        start, first = self._starts.setdefault(task, (now, done))
        if done > first and done < total and now >= max(self._next_time, start + _SILENT_SECONDS):
            left = (now - start) / (done - first) * (total - done)
            self._console.print(f"{description}: {done:,} of {total:,}, about {describe_duration(left)} left")
            self._next_time = now + _SECONDS_BETWEEN_LINES
