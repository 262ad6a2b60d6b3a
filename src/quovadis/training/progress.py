"""Progress callbacks of training runs."""

from __future__ import annotations

from typing import Any, Protocol


class Progress(Protocol):
    """Callbacks of a training run."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """Called after each optimizer step with its metrics."""

    def validation(self, row: dict[str, Any]) -> None:
        """Called after each validation with its metrics."""

    def note(self, message: str) -> None:
        """Called with a message for the user."""


class NullProgress:
    """Progress callbacks that do nothing."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """No-op."""

    def validation(self, row: dict[str, Any]) -> None:
        """No-op."""

    def note(self, message: str) -> None:
        """No-op."""
