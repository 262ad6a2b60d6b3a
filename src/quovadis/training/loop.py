"""The training loop: short enough to read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from quovadis.datasets.flow_files import FlowSource
from quovadis.datasets.loader import ClipDataset, EpochBatches, collate
from quovadis.datasets.manifest import Manifest
from quovadis.errors import LossNotFiniteError, MissingExtraError, TrainingError
from quovadis.models.contract import VideoModel
from quovadis.models.layers import ShiftBatchNorm
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import RunFolder
from quovadis.transforms import to_model
from quovadis.types import WeightsInfo
from quovadis.weights.files import save_weights
from quovadis.weights.formats import read_picture_network
from quovadis.weights.load import create_model, load_model, locate


class Progress(Protocol):
    """What a run tells while it works."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """A step was made."""

    def validation(self, row: dict[str, Any]) -> None:
        """A validation was made."""

    def note(self, message: str) -> None:
        """Something that the user should know."""


class Silent:
    """Tells nothing."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """Nothing."""

    def validation(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def note(self, message: str) -> None:
        """Nothing."""


def train(recipe: Recipe, data: Manifest, out: str | PathLike[str], *, progress: Progress | None = None) -> RunFolder:
    """Train a model on the ``train`` split, choosing weights and learning rate by the ``val`` split.

    A run that was stopped goes on where its last checkpoint was when it is started again with the same arguments, and
    makes exactly the steps that it would have made. Start with ``torchrun`` or ``accelerate launch`` for several GPUs.

    Args:
        recipe: see :mod:`quovadis.training.recipes`.
        data: labelled videos.
        out: the run folder; :mod:`quovadis.training.run_folder` says what comes into it.
        progress: is told about steps, validations and notes.

    Raises:
        DatasetError: no training or validation videos, or a class without training videos.
        TrainingError: the folder holds another run. LossNotFiniteError: the loss became NaN; the last good checkpoint
            and the best weights are kept. StorageError: the disk is full; likewise.
    """
    return _Run(recipe, data, RunFolder(Path(out)), progress or Silent()).run()


class _Run:
    """One run: the objects that the loop needs, and the loop."""

    def __init__(self, recipe: Recipe, data: Manifest, folder: RunFolder, progress: Progress):
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        # Accelerate remembers the precision of the first run in a process; each run here has its own.
        AcceleratorState._reset_state()
        self.recipe, self.data, self.folder, self.progress = recipe, data, folder, progress
        self.accelerator = Accelerator(mixed_precision=recipe.precision)
        self.train_records = [r for r in data.split("train") if r.path.is_file()]
        self.val_records = [r for r in data.split("val") if r.path.is_file()]
        self._check_classes()
        torch.manual_seed(recipe.seed)
        self.model = self._build_model().channels_last()
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.optimizer.learning_rate,
            momentum=recipe.optimizer.momentum,
            weight_decay=recipe.optimizer.weight_decay,
        )
        self.scheduler = _scheduler(recipe, optimizer)
        self.prepared, self.optimizer = self.accelerator.prepare(self.model, optimizer)
        self.done_steps = 0
        self.best_loss = math.inf
        self.unreadable: set[str] = set()

    def run(self) -> RunFolder:
        """Train to the end."""
        if self.folder.begin(self.recipe, self.data):
            self._resume()
        for note in self.data.notes:
            self.progress.note(note)
        writer = self._tensorboard()
        batches = iter(self._loader())
        while self.done_steps < self.recipe.max_steps and not self._rate_has_ended():
            row = self._step(batches)
            self._record(row, writer)
            self.progress.step(row, self.recipe.max_steps)
            if self.done_steps % self.recipe.validate_every == 0 or self.done_steps == self.recipe.max_steps:
                row = self._validate()
                self._record(row, writer)
                self._save(row)
                self.progress.validation(row)
        if writer is not None:
            writer.close()
        if self._rate_has_ended():
            self.progress.note("the learning rate has reached its end: the run is complete")
        if self.unreadable:
            listed = ", ".join(sorted(self.unreadable)[:3])
            self.progress.note(f"{len(self.unreadable)} training videos could not be read and were replaced: {listed}")
        return self.folder

    def _step(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """One optimizer step, over ``accumulate_steps`` batches."""
        started = time.perf_counter()
        step = self.done_steps + 1
        # Dropout's random state is a function of the step, so a resumed run repeats it.
        torch.manual_seed(hash((self.recipe.seed, step, self.accelerator.process_index)) & 0x7FFFFFFF)
        self.prepared.train()
        parts = self.recipe.data.accumulate_steps
        losses, right, seen = [], 0, 0
        for part in range(parts):
            batch = next(batches)
            self.unreadable.update(batch["unreadable"])
            labels = batch["labels"].to(self.accelerator.device)
            with self._synchronise_only_last(part == parts - 1), self.accelerator.autocast():
                logits = self.prepared(*self._inputs(batch))
                loss = F.cross_entropy(logits.float(), labels)
                self._check_finite(loss, step)
                self.accelerator.backward(loss / parts)
            losses.append(loss.item())
            right += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if isinstance(self.scheduler, OneCycleLR):
            self.scheduler.step()
        self.done_steps = step
        seconds = time.perf_counter() - started
        return {
            "step": step,
            "loss": sum(losses) / parts,
            "accuracy": right / seen,
            "learning_rate": rate,
            "clips_per_second": round(seen * self.accelerator.num_processes / seconds, 2),
            "seconds": round(seconds, 4),
        }

    def _rate_has_ended(self) -> bool:
        rate = self.optimizer.param_groups[0]["lr"]
        return self.recipe.schedule.kind == "plateau" and rate < self.recipe.schedule.min_learning_rate

    def _synchronise_only_last(self, last: bool) -> Any:
        """Gradients are exchanged between processes once a step, not once a batch."""
        from contextlib import nullcontext

        return nullcontext() if last else self.accelerator.no_sync(self.prepared)

    def _check_finite(self, loss: Tensor, step: int) -> None:
        if torch.isfinite(loss):
            return
        folder = self.folder
        kept = f"{folder.best} and {folder.checkpoint} are kept" if folder.best.exists() else "nothing was saved yet"
        rate = self.optimizer.param_groups[0]["lr"]
        raise LossNotFiniteError(
            f"the loss is {loss.item()} at step {step}, learning rate {rate:g}; {kept}. Start a new run with a smaller "
            "--optimizer.learning-rate"
        )

    @torch.no_grad()
    def _validate(self) -> dict[str, Any]:
        """Loss and accuracy on the middle clip of each validation video; tells the plateau schedule."""
        self.prepared.eval()
        choice = self.recipe.data
        dataset = ClipDataset(
            self.val_records,
            self.model.spec,
            seed=self.recipe.seed,
            augment=False,
            flow=self._flow(),
        )
        keys = [(0, i) for i in range(len(dataset))]
        size = max(choice.batch_size, 1)
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=[keys[i : i + size] for i in range(0, len(keys), size)],
            collate_fn=collate,
            num_workers=choice.num_workers,
        )
        total, right = 0.0, 0
        for batch in loader:
            self.unreadable.update(batch["unreadable"])
            labels = batch["labels"].to(self.accelerator.device)
            with self.accelerator.autocast():
                logits = self.model(*self._inputs(batch)).float()
            total += float(F.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
        loss = total / len(dataset)
        self._check_finite(torch.tensor(loss), self.done_steps)
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(loss)
        return {"step": self.done_steps, "val_loss": loss, "val_accuracy": right / len(dataset)}

    def _save(self, row: dict[str, Any]) -> None:
        """Write the weights and the state to go on from; first the small promise, last the pointer to go on from."""
        if not self.accelerator.is_main_process:
            return
        model = self.accelerator.unwrap_model(self.prepared)
        info = WeightsInfo(
            model=self.recipe.model.name,
            options={"stream": self.recipe.model.stream, "num_classes": len(self.data.labels)},
            labels=self.data.labels,
            source={
                "recipe": self.recipe.name,
                "data": self.data.name,
                "data_identity": self.data.identity,
                "flow_method": self.recipe.data.flow_method if self.model.spec.wants_flow else None,
                **row,
            },
        )
        if row["val_loss"] < self.best_loss:
            self.best_loss = row["val_loss"]
            save_weights(self.folder.best, model.state_dict(), info)
        save_weights(self.folder.last, model.state_dict(), info)
        self.folder.save_checkpoint(
            {
                "step": self.done_steps,
                "best_loss": self.best_loss,
                "model": model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
            }
        )

    def _resume(self) -> None:
        state = self.folder.load_checkpoint()
        self.accelerator.unwrap_model(self.prepared).load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"] is not None and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.done_steps, self.best_loss = state["step"], state["best_loss"]
        if self.accelerator.is_main_process:
            self.folder.rewind_log(self.done_steps)
        self.progress.note(f"going on from step {self.done_steps} of {self.folder.root}")

    def _build_model(self) -> VideoModel:
        choice, labels = self.recipe.model, self.data.labels
        picture_network = choice.weights is not None and read_picture_network(locate(choice.weights)[0]) is not None
        if choice.weights is None or picture_network:
            model = create_model(
                choice.name,
                stream=choice.stream,
                num_classes=len(labels),
                dropout=choice.dropout,
                weights=choice.weights,
            )
        else:
            model = load_model(choice.weights)
            found = (model.spec.name, model.spec.streams[0].kind)
            if found != (choice.name, choice.stream):
                raise TrainingError(
                    f"{choice.weights} holds {found[0]} ({found[1]}); the recipe asks for {choice.name} "
                    f"({choice.stream})"
                )
            if model.labels != labels:
                model.reset_head(len(labels))
        for module in model.modules():
            if isinstance(module, ShiftBatchNorm):
                module.momentum = choice.batch_norm_momentum
            elif isinstance(module, torch.nn.Dropout):
                module.p = choice.dropout
        return model

    def _loader(self) -> DataLoader[Any]:
        """Batches from the next step on, the same whether the run was interrupted or not."""
        choice = self.recipe.data
        dataset = ClipDataset(
            self.train_records,
            self.model.spec,
            seed=self.recipe.seed,
            flip=choice.flip,
            flow=self._flow(),
        )
        batches = EpochBatches(
            len(dataset),
            choice.batch_size,
            seed=self.recipe.seed,
            start=self.done_steps * choice.accumulate_steps,
            rank=self.accelerator.process_index,
            num_ranks=self.accelerator.num_processes,
        )
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=choice.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _flow(self) -> FlowSource:
        choice = self.recipe.data
        folder = None if choice.flow_folder is None else Path(choice.flow_folder)
        return FlowSource(choice.flow_method, folder, self.data.root)

    def _inputs(self, batch: dict[str, Any]) -> list[Tensor]:
        inputs = [to_model(stream.to(self.accelerator.device, non_blocking=True)) for stream in batch["streams"]]
        return [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]

    def _check_classes(self) -> None:
        present = {r.label for r in self.train_records}
        lacking = [name for i, name in enumerate(self.data.labels) if i not in present]
        if lacking:
            raise TrainingError(
                f"{len(lacking)} classes of {self.data.name} have no training video that exists: "
                f"{', '.join(lacking[:5])}; add videos or remove the class"
            )

    def _record(self, row: dict[str, Any], writer: Any) -> None:
        if not self.accelerator.is_main_process:
            return
        self.folder.append(row)
        if writer is not None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, row["step"])

    def _tensorboard(self) -> Any:
        """A writer of TensorBoard logs, if TensorBoard is installed."""
        if not self.accelerator.is_main_process:
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.progress.note(f"no TensorBoard curves: {MissingExtraError.of('they', 'tensorboard')}")
            return None
        purge = self.done_steps + 1 if self.done_steps else None
        return SummaryWriter(str(self.folder.root / "tensorboard"), purge_step=purge)


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer) -> OneCycleLR | ReduceLROnPlateau:
    schedule = recipe.schedule
    if schedule.kind == "one-cycle":
        return OneCycleLR(optimizer, recipe.optimizer.learning_rate, total_steps=recipe.max_steps + 1)
    # Without eps a small rate would stop falling on its own.
    return ReduceLROnPlateau(optimizer, factor=schedule.factor, patience=schedule.patience, eps=0.0)
