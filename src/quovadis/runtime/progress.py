"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from quovadis.runtime.console import Console, plain


def progress_bar(console: Console, *, transient: bool = False) -> Progress:
    """Create a progress bar with elapsed and remaining time.

    Args:
        console: The console to print to.
        transient: Remove the bar when it is complete.
    """
    return Progress(
        _Description(),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
    )


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show the progress of a download on stderr, after its first chunk.

    Yields:
        A function to call with the number of bytes received and the total; None if stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        yield None
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
    """Task description as plain text."""

    def render(self, task: Task) -> Text:
        return plain(task.description)


class TrainingProgress:
    """Progress of a training run on the terminal: a bar for steps, a line for each validation and note."""

    def __init__(self, console: Console):
        self._console = console
        self._bar = progress_bar(console)
        self._task: TaskID | None = None

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """Advance the bar."""
        if self._task is None:
            self._task = self._bar.add_task("training", total=max_steps, completed=row["step"] - 1)
        self._bar.update(
            self._task, total=max_steps, completed=row["step"], description=f"training, loss {row['loss']:.3f}"
        )

    def validation(self, row: dict[str, Any]) -> None:
        """Print the validation metrics."""
        self._console.print(
            f"step {row['step']:>6}  validation loss {row['val_loss']:.3f}  accuracy {row['val_accuracy']:.1%}"
        )

    def note(self, message: str) -> None:
        """Print a note."""
        self._console.print(f"note: {message}", style="dim")
