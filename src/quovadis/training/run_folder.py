"""The folder of a training run.

::

    recipe.json        the recipe with all defaults resolved
    data.json          fingerprint, classes and number of videos
    environment.json   versions and hardware
    log.jsonl          metrics of each step and validation
    tensorboard/       the same as curves, if TensorBoard is installed
    last.pt            resumable checkpoint
    best.safetensors   weights with the lowest validation loss
    last.safetensors   weights of the last validation
"""

from __future__ import annotations

import io
import json
import platform
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quovadis.datasets.manifest import SPLITS, Manifest
from quovadis.errors import StorageError, TrainingError
from quovadis.runtime import distributed
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.locks import FolderLock
from quovadis.training.recipes import Recipe
from quovadis.version import __version__

_MAY_DIFFER = {"data.batch_size", "data.accumulate_steps", "data.num_workers", "data.flow_folder"}
"""Fields of a recipe that depend on the machine. The effective batch size must not change."""
_DATA_COMPARED = ("fingerprint", "labels")
"""Fields that must be equal. Names and notes change when a folder is renamed."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    root: Path

    @property
    def checkpoint(self) -> Path:
        """Path of the resumable checkpoint."""
        return self.root / "last.pt"

    @property
    def best(self) -> Path:
        """Path of the weights with the lowest validation loss."""
        return self.root / "best.safetensors"

    @property
    def last(self) -> Path:
        """Path of the weights of the last validation."""
        return self.root / "last.safetensors"

    @property
    def log(self) -> Path:
        """Path of the log, with one JSON object per line."""
        return self.root / "log.jsonl"

    def begin(self, recipe: Recipe, data: Manifest) -> bool:
        """Write recipe, data and environment, or check that an existing run has the same.

        Returns:
            Whether there is a checkpoint to resume from.

        Raises:
            TrainingError: If the folder holds a run with another recipe or other data.
            StorageError: If the folder cannot be written to.
        """
        counts = {s: sum(r.split == s for r in data.records) for s in SPLITS}
        contents = {
            "recipe.json": recipe.to_dict(),
            "data.json": {
                "name": data.name,
                "fingerprint": data.fingerprint,
                "labels": list(data.labels),
                "videos": counts,
                "notes": list(data.notes),
            },
        }
        for name, content in contents.items():
            path = self.root / name
            if self.checkpoint.exists() and path.exists():
                self._refuse_other(path, content)
            else:
                self._write_json(path, content)
        self._write_json(self.root / "environment.json", environment())
        return self.checkpoint.exists()

    def _refuse_other(self, path: Path, content: dict[str, Any]) -> None:
        there, here = _flat(read_object(path)), _flat(json.loads(json.dumps(content)))
        if path.stem == "data":
            there, here = ({key: values.get(key) for key in _DATA_COMPARED} for values in (there, here))
        differing = {key for key in there | here if there.get(key) != here.get(key)} - _MAY_DIFFER
        if differing == {"max_steps"} and here["schedule.kind"] != "one-cycle":
            return  # a longer run
        if differing:
            raise TrainingError(
                f"{self.root} holds a run whose {path.stem} differs in "
                + ", ".join(f"{key} ({there.get(key)} there, {here.get(key)} here)" for key in sorted(differing))
                + ": use the same values, or another --out"
            )

    def _write_json(self, path: Path, content: dict[str, Any]) -> None:
        write_atomically(path, json.dumps(content, indent=2) + "\n")

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the resumable checkpoint."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any]:
        """Load the resumable checkpoint.

        Raises:
            TrainingError: If the file is broken or not a checkpoint.
        """
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise self.broken_checkpoint(type(error).__name__) from error
        if not isinstance(state, dict):
            raise self.broken_checkpoint(f"it holds a {type(state).__name__}")
        return state

    def broken_checkpoint(self, reason: str) -> TrainingError:
        """Create the error for a checkpoint that cannot be loaded."""
        return TrainingError(f"{self.checkpoint} cannot be read as a checkpoint ({reason}); remove it to restart")

    def append(self, row: dict[str, Any]) -> None:
        """Add a line to the log."""
        try:
            with self.log.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise StorageError(f"cannot write {self.log}: {error.strerror}") from error

    def rewind_log(self, step: int) -> None:
        """Remove the lines after ``step``; these steps are repeated.

        Raises:
            TrainingError: If the log is damaged or has no line of ``step``.
        """
        if not self.log.exists():
            return
        rows = list(read_log(self.log))
        if not any(row["step"] == step for row in rows):
            raise TrainingError(
                f"{self.log} has no line of step {step}, where {self.checkpoint} continues: restore it, or delete it "
                "to continue without the log of the earlier steps"
            )
        kept = [row for row in rows if row["step"] <= step]
        write_atomically(self.log, "".join(json.dumps(row) + "\n" for row in kept))


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a run folder.

    Raises:
        TrainingError: If the file is empty, damaged or does not hold an object.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} is damaged ({error}): restore it, or start the run again in another folder"
        ) from error
    if not isinstance(content, dict):
        raise TrainingError(
            f"{path} must hold a JSON object; got {type(content).__name__}: restore it, or start the run again in "
            "another folder"
        )
    return content


def lock_folder(folder: Path, work: str) -> AbstractContextManager[object]:
    """Lock a folder for the processes of this run. The main process holds the lock.

    Raises:
        StorageError: If another run holds the lock.
    """
    return FolderLock(folder, work) if distributed.is_main() else nullcontext()


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested fields to dotted names."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    r"""Read the rows of a log. An incomplete last line of a killed run is skipped.

    Raises:
        TrainingError: If another line is damaged, or the log cannot be read.

    Example:
        >>> log = getfixture("tmp_path") / "log.jsonl"
        >>> _ = log.write_text('{"step": 1, "loss": 0.7}\n')
        >>> list(read_log(log))
        [{'step': 1, 'loss': 0.7}]
    """
    if not path.exists():
        return
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if not isinstance(row["step"], int):
                raise ValueError(f"step {row['step']!r}")
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                return
            raise TrainingError(
                f"{path}, line {number} is damaged: restore the file, or delete it to continue without the log of the "
                "earlier steps"
            ) from error
        yield row


def environment() -> dict[str, Any]:
    """Return versions, hardware and the command line."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "quovadis": __version__,
        "python": sys.version.split()[0],
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "num_threads": torch.get_num_threads(),
        "gpus": gpus,
        "num_processes": distributed.world_size(),
        "command": sys.argv[1:],
    }
