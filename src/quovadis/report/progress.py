"""What a long command shows on the terminal while it works; results go to stdout, this goes to stderr."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(console: Console) -> Progress:
    """A bar with the time that has gone and the time that is left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


class TrainingProgress:
    """A training run on the terminal: a bar for the steps, a line for each validation and each note."""

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
        """A line with the figures."""
        self._console.print(
            f"step {row['step']:>6}  validation loss {row['val_loss']:.3f}  accuracy {row['val_accuracy']:.1%}"
        )

    def note(self, message: str) -> None:
        """A line."""
        self._console.print(f"note: {message}", style="dim")
