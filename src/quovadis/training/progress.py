"""Progress callbacks of training runs."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """Callbacks of a training run. ``note`` may be called from another thread."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """Called after each optimizer step with its metrics."""

    def validation(self, row: dict[str, Any]) -> None:
        """Called after each validation with its metrics."""

    def count(self, description: str, done: int, total: int) -> None:
        """Called during other work, such as validation, with the numbers of finished and of all videos or steps."""

    def note(self, message: str) -> None:
        """Called with a message for the user."""


class NullProgress:
    """Progress callbacks that do nothing."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """No-op."""

    def validation(self, row: dict[str, Any]) -> None:
        """No-op."""

    def count(self, description: str, done: int, total: int) -> None:
        """No-op."""

    def note(self, message: str) -> None:
        """No-op."""
