"""Metrics and notes of a training run: log file, TensorBoard, unreadable videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from quovadis.runtime import distributed
from quovadis.runtime.extras import missing_extra
from quovadis.training.progress import Progress
from quovadis.training.run_folder import RunFolder

_NOTES = {
    "train": "another video of its class replaces it in training",
    "val": "it counts as wrong in validation",
}
_SUMMARIES = {
    "train": "training videos could not be read and were replaced",
    "val": "validation videos could not be read and counted as wrong",
}


class RunLog:
    """Record the metrics of a run. Only the main process writes."""

    def __init__(self, folder: RunFolder, progress: Progress, done_steps: int):
        self._folder, self._progress = folder, progress
        self._unreadable: dict[str, dict[str, str]] = {split: {} for split in _NOTES}
        self._writer = self._tensorboard(done_steps) if distributed.is_main() else None

    def append(self, row: dict[str, Any]) -> None:
        """Add a row of metrics to ``log.jsonl`` and TensorBoard."""
        if not distributed.is_main():
            return
        self._folder.append(row)
        if self._writer is not None:
            for name, value in row.items():
                if name != "step":
                    self._writer.add_scalar(name, value, row["step"])

    def total(self, values: Sequence[float], split: str, unreadable: dict[str, str]) -> list[float]:
        """Sum values over all processes, and report videos that a process could not read for the first time."""
        rows = distributed.gather((list(values), unreadable))
        known = self._unreadable[split]
        for path, reason in {path: why for _, found in rows for path, why in found.items()}.items():
            if path not in known:
                known[path] = reason
                self._progress.note(f"{reason}; {_NOTES[split]}")
        return torch.tensor([row for row, _ in rows], dtype=torch.float64).sum(0).tolist()

    def close(self) -> None:
        """Close TensorBoard, and list the unreadable videos."""
        if self._writer is not None:
            self._writer.close()
        for split, summary in _SUMMARIES.items():
            found = sorted(self._unreadable[split])
            if found:
                more = " ..." if len(found) > 3 else ""
                self._progress.note(f"{len(found)} {summary}: {', '.join(found[:3])}{more}")

    def _tensorboard(self, done_steps: int) -> Any:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._progress.note(f"no TensorBoard curves: {missing_extra('they', 'tensorboard')}")
            return None
        purge = done_steps + 1 if done_steps else None
        return SummaryWriter(str(self._folder.root / "tensorboard"), purge_step=purge)
