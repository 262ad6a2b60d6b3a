"""The training loop: short enough to read."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatches, Splits, collate
from quovadis.datasets.loader import SafeDataLoader, worker_context
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import LossNotFiniteError, TrainingError
from quovadis.flow.source import FlowSource
from quovadis.models.batch_norm import recompute_running_statistics
from quovadis.models.checkpointing import recompute_activations
from quovadis.models.layers import choose_batch_norm
from quovadis.models.safe_convolution import require_bf16
from quovadis.models.video_model import VideoModel
from quovadis.models.zoo import choose_stream
from quovadis.runtime import distributed
from quovadis.runtime.extras import missing_extra
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import RunFolder, lock_folder
from quovadis.training.schedule import LearningRateSchedule
from quovadis.transforms import to_model
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import create_model, load_model, must_be_inflated


class Progress(Protocol):
    """What a run tells while it works."""

    def step(self, row: dict[str, Any], max_steps: int) -> None:
        """A step was made."""

    def validation(self, row: dict[str, Any]) -> None:
        """A validation was made."""

    def note(self, message: str) -> None:
        """Something that the user should know."""


_CONSEQUENCES = {
    "train": "another video of its class replaces it in training",
    "val": "it counts as wrong in validation",
}


class NullProgress:
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
    makes exactly the steps that it would have made.

    Started by ``torchrun`` or ``accelerate launch``, all processes train one model: each on its part of every batch,
    with gradients exchanged once a step, and each validates its part of the videos. All see the run folder, on a disk
    that they share; only the first writes, logs and speaks. Between two starts the number of processes may change and
    the effective batch has to stay: see ``data.effective_batch_size``. Batch norm takes its statistics as
    ``model.batch_norm`` says. Whose running averages count, the paper does not say: here they are averaged over the
    processes before they are used or saved.

    Args:
        recipe: see :mod:`quovadis.training.recipes`.
        data: labeled videos.
        out: the run folder; :mod:`quovadis.training.run_folder` says what comes into it.
        progress: is told about steps, validations and notes.

    Raises:
        DatasetError: no training or validation videos.
        TrainingError: a class has no video that can be read, the folder holds another run or damaged files, the
            effective batch cannot be made, or the precision is not usable here.
        LossNotFiniteError: the loss or a gradient became NaN; the last good checkpoint and the best weights are kept.
        StorageError: the disk is full; likewise. Or another process is training in the folder.
        JobError: another process was lost; likewise.
    """
    if recipe.data.num_workers:
        worker_context()
    with distributed.process_group():
        told = progress if progress is not None and distributed.is_main() else NullProgress()
        with lock_folder(Path(out), "training"):
            return _Run(recipe.for_processes(distributed.world_size()), data, RunFolder(Path(out)), told).run()


class _Run:
    """One run: the objects that the loop needs, and the loop."""

    def __init__(self, recipe: Recipe, data: Manifest, folder: RunFolder, progress: Progress):
        self.recipe, self.data, self.folder, self.progress = recipe, data, folder, progress
        self.accelerator = _accelerator(recipe.precision)
        self.train_records = [r for r in data.split("train") if r.path.is_file()]
        self.val_records = [r for r in data.split("val") if r.path.is_file()]
        self._check_classes()
        self._check_same_data()
        self.unreadable: dict[str, dict[str, str]] = {"train": {}, "val": {}}
        torch.manual_seed(recipe.seed)
        self.model = self._build_model().to(self.accelerator.device).channels_last()
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.optimizer.learning_rate,
            momentum=recipe.optimizer.momentum,
            weight_decay=recipe.optimizer.weight_decay,
            fused=True,  # one kernel for all parameters
        )
        self.schedule = LearningRateSchedule(recipe, optimizer)
        self.optimizer = self.accelerator.prepare(optimizer)
        self.exchanging = _exchanging(self.model, self.accelerator.device)
        self.forward = torch.compile(self.exchanging) if recipe.compile else self.exchanging
        self.done_steps = 0
        self.best_loss = math.inf

    def run(self) -> RunFolder:
        """Train to the end."""
        distributed.run_on_main(self._check_readable)
        if distributed.run_on_main(lambda: self.folder.begin(self.recipe, self.data)):
            self._resume()
        for note in self.data.notes:
            self.progress.note(note)
        writer = self._tensorboard()
        batches = iter(self._loader())
        while self.done_steps < self.recipe.max_steps and not self.schedule.has_ended:
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
        if self.schedule.has_ended:
            self.progress.note("the learning rate has reached its end: the run is complete")
        self._summarize_unreadable()
        distributed.barrier()  # all have come to the end
        return self.folder

    def _step(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """One optimizer step, over ``accumulate_steps`` batches."""
        started = time.perf_counter()
        step = self.done_steps + 1
        # Dropout's random state is a function of the step, so a resumed run repeats it.
        torch.manual_seed(step_seed(self.recipe.seed, step, distributed.rank()))
        self.model.train()
        parts = self.recipe.data.accumulate_steps
        losses, right, seen = [], [], 0
        unreadable: dict[str, str] = {}
        for part in range(parts):
            batch = next(batches)
            unreadable |= batch["unreadable"]
            labels = batch["labels"].to(self.accelerator.device)
            with self._synchronize_only_last(part == parts - 1), self.accelerator.autocast():
                outputs = self.forward(*self._inputs(batch))
                loss = self.model.loss(outputs, labels)
                self.accelerator.backward(loss / parts)
            losses.append(loss.detach())
            right.append((self.model.answer(outputs).argmax(1) == labels).sum())
            seen += len(labels)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        # The device is waited for once a step, here.
        own = [sum(torch.stack(losses).tolist()), int(torch.stack(right).sum()), seen, float(norm)]
        loss_sum, all_right, all_seen, norm_sum = self._total(own, "train", unreadable)
        mean_loss = loss_sum / (parts * distributed.world_size())
        self._check_finite(mean_loss, "loss", step)
        if self.accelerator.scaler is None:  # which skips steps of infinite gradients itself
            self._check_finite(norm_sum, "norm of the gradients", step)
        rate = self.schedule.rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.after_step()
        self.done_steps = step
        seconds = time.perf_counter() - started
        return {
            "step": step,
            "loss": mean_loss,
            "accuracy": all_right / all_seen,
            "learning_rate": rate,
            "clips_per_second": round(all_seen / seconds, 2),
            "seconds": round(seconds, 4),
        }

    def _synchronize_only_last(self, last: bool) -> Any:
        """Gradients are exchanged between processes once a step, not once a batch."""
        if last or not isinstance(self.exchanging, DistributedDataParallel):
            return nullcontext()
        return self.exchanging.no_sync()

    def _total(self, values: Sequence[float], split: str, unreadable: dict[str, str]) -> list[float]:
        """Sum values over all processes, and tell at once which videos one of them found to be unreadable."""
        rows = distributed.gather((list(values), unreadable))
        known, consequence = self.unreadable[split], _CONSEQUENCES[split]
        for path, reason in {path: why for _, found in rows for path, why in found.items()}.items():
            if path not in known:
                known[path] = reason
                self.progress.note(f"{reason}; {consequence}")
        return torch.tensor([row for row, _ in rows], dtype=torch.float64).sum(0).tolist()

    def _summarize_unreadable(self) -> None:
        for split, what in (
            ("train", "training videos could not be read and were replaced"),
            ("val", "validation videos could not be read and counted as wrong"),
        ):
            found = sorted(self.unreadable[split])
            if found:
                self.progress.note(f"{len(found)} {what}: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}")

    def _check_finite(self, value: float, name: str, step: int) -> None:
        if math.isfinite(value):
            return
        folder = self.folder
        kept = f"{folder.best} and {folder.checkpoint} are kept" if folder.best.exists() else "nothing was saved yet"
        raise LossNotFiniteError(
            f"the {name} is {value} at step {step}, learning rate {self.schedule.rate:g}; {kept}. Start a new run with "
            "a smaller --optimizer.learning-rate"
        )

    @torch.no_grad()
    def _validate(self) -> dict[str, Any]:
        """Compute loss and accuracy on the middle clip of each validation video, and step the plateau schedule.

        Each process measures its part of the videos with the same weights and averages; the results are summed. A video
        that cannot be read counts as wrong; the loss is the mean over the others.
        """
        batches = iter(self._validation_loader)
        self._prepare_batch_norm(batches)
        self.model.eval()
        loss_sum, right, readable = 0.0, 0, 0
        unreadable: dict[str, str] = {}
        for batch in batches:
            unreadable |= batch["unreadable"]
            if not len(batch["labels"]):
                continue
            labels = batch["labels"].to(self.accelerator.device)
            with self.accelerator.autocast():
                logits = self.model(*self._inputs(batch)).float()
            loss_sum += float(F.cross_entropy(logits.cpu().double(), batch["labels"], reduction="sum"))
            right += int((logits.argmax(1) == labels).sum())
            readable += len(labels)
        loss_sum, all_right, all_readable = self._total([loss_sum, right, readable], "val", unreadable)
        if not all_readable:
            raise TrainingError(
                f"none of the {len(self.val_records)} validation videos of {self.data.name} can be read"
            )
        loss = loss_sum / all_readable
        self._check_finite(loss, "validation loss", self.done_steps)
        self.schedule.after_validation(loss)
        return {"step": self.done_steps, "val_loss": loss, "val_accuracy": all_right / len(self.val_records)}

    def _prepare_batch_norm(self, batches: Iterator[dict[str, Any]]) -> None:
        """Give all processes the same running averages: those of given training clips, or the mean of their own."""
        if not self._num_statistics_batches:
            distributed.average_tensors([b for b in self.model.buffers() if b.is_floating_point()])
            return
        torch.manual_seed(step_seed(self.recipe.seed, self.done_steps, distributed.rank()))
        inputs = (self._inputs(batch) for batch in islice(batches, self._num_statistics_batches))
        with self.accelerator.autocast():
            recompute_running_statistics(self.model, inputs)

    @cached_property
    def _num_statistics_batches(self) -> int:
        clips = min(self.recipe.model.batch_norm_clips or 0, len(self.train_records))
        return -(-clips // (self.recipe.data.batch_size * distributed.world_size()))

    @cached_property
    def _validation_loader(self) -> SafeDataLoader:
        """The training clips whose statistics batch norm takes, always the same ones; then the validation clips."""
        choice, seed = self.recipe.data, self.recipe.seed
        train, val = self._clips(self.train_records, augment=True), self._clips(self.val_records, augment=False)
        parts = EpochBatches(
            len(train), choice.batch_size, seed=seed, rank=distributed.rank(), num_ranks=distributed.world_size()
        )
        keys = [[("train", *key) for key in batch] for batch in islice(parts, self._num_statistics_batches)]
        own = [("val", 0, i) for i in range(distributed.rank(), len(val), distributed.world_size())]
        keys += [own[i : i + choice.batch_size] for i in range(0, len(own), choice.batch_size)]
        return self._load(Splits({"train": train, "val": val}), keys)

    def _save(self, row: dict[str, Any]) -> None:
        """Write the weights and the state to go on from; first the small promise, last the pointer to go on from."""
        if not distributed.is_main():
            return
        info = WeightsInfo(
            model=self.recipe.model.name,
            options={"stream": self.model.spec.stream, "num_classes": len(self.data.labels)},
            labels=self.data.labels,
            source={
                "recipe": self.recipe.name,
                "data": self.data.name,
                "data_fingerprint": self.data.fingerprint,
                "flow_method": self.recipe.data.flow_method if self.model.spec.needs_flow else None,
                **row,
            },
        )
        if row["val_loss"] < self.best_loss:
            self.best_loss = row["val_loss"]
            save_weights(self.folder.best, self.model.state_dict(), info)
        save_weights(self.folder.last, self.model.state_dict(), info)
        self.folder.save_checkpoint(
            {
                "step": self.done_steps,
                "best_loss": self.best_loss,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.schedule.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else None,
                "batch_norm_clips": self._batch_norm_clips(),
            }
        )

    def _resume(self) -> None:
        state = self.folder.load_checkpoint()
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["scheduler"])
            if state["scaler"] is not None and self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
            self.done_steps, self.best_loss = int(state["step"]), float(state["best_loss"])
            before = state["batch_norm_clips"]
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise self.folder.broken_checkpoint(str(error).partition("\n")[0]) from error
        if distributed.is_main():
            self.folder.rewind_log(self.done_steps)
        self.progress.note(f"going on from step {self.done_steps} of {self.folder.root}")
        now = self._batch_norm_clips()
        if before != now:
            self.progress.note(
                f"batch norm saw {before} clips together before and sees {now} now: from here on the steps are others "
                "than they would have been"
            )

    def _batch_norm_clips(self) -> int | None:
        """How many clips are normalized together; None where the statistics are frozen."""
        kind, size = self.recipe.model.batch_norm, self.recipe.data.batch_size
        return None if kind == "frozen" else size * (distributed.world_size() if kind == "synchronized" else 1)

    def _build_model(self) -> VideoModel:
        choice, labels = self.recipe.model, self.data.labels
        if choice.weights is None or must_be_inflated(choice.weights, choice.name, choice.stream):
            model = create_model(
                choice.name,
                stream=choice.stream,
                num_classes=len(labels),
                dropout=choice.dropout,
                weights=choice.weights,
            )
        else:
            model = load_model(choice.weights)
            found = (model.spec.name, model.spec.stream)
            asked = (choice.name, choose_stream(choice.name, choice.stream))
            if found != asked:
                raise TrainingError(
                    f"{choice.weights} holds {found[0]} ({found[1]}); the recipe asks for {asked[0]} ({asked[1]})"
                )
            if model.labels != labels:
                model.reset_head(len(labels))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = choice.dropout
        choose_batch_norm(model, choice.batch_norm, choice.batch_norm_momentum)
        if self.recipe.recompute:
            recompute_activations(model)
        return model

    def _loader(self) -> SafeDataLoader:
        clips, choice = self._clips(self.train_records, augment=True), self.recipe.data
        batches = EpochBatches(
            len(clips),
            choice.batch_size,
            seed=self.recipe.seed,
            start=self.done_steps * choice.accumulate_steps,
            rank=distributed.rank(),
            num_ranks=distributed.world_size(),
        )
        return self._load(clips, batches)

    def _clips(self, records: Sequence[VideoRecord], *, augment: bool) -> ClipDataset:
        return ClipDataset(
            records,
            self.model.spec,
            seed=self.recipe.seed,
            augment=augment,
            flip=self.recipe.data.flip,
            flow=self._flow(),
        )

    def _load(self, dataset: Any, batches: Any) -> SafeDataLoader:
        return SafeDataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.recipe.data.num_workers,
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
        if not self.val_records:
            raise TrainingError(
                f"none of the validation videos of {self.data.name} exists: add them, or correct the paths"
            )

    def _check_readable(self) -> None:
        """Raise if no training or validation video of a class can be read; one video of each class is decoded."""
        for name, records in (("training", self.train_records), ("validation", self.val_records)):
            lacking = ClipDataset(records, self.model.spec).unreadable_classes()
            if lacking:
                reasons = [f"{self.data.labels[label]} ({why})" for label, why in sorted(lacking.items())[:5]]
                raise TrainingError(
                    f"{len(lacking)} classes of {self.data.name} have no {name} video that can be read: "
                    f"{'; '.join(reasons)}. Replace the files, or remove the class"
                )

    def _check_same_data(self) -> None:
        seen = distributed.gather((self.data.fingerprint, len(self.train_records), len(self.val_records)))
        if len(set(seen)) > 1:
            raise TrainingError(
                f"the processes do not see the same data: {', '.join(f'{t} + {v} videos of {i}' for i, t, v in seen)}; "
                "give all machines the same files at the same place"
            )

    def _record(self, row: dict[str, Any], writer: Any) -> None:
        if not distributed.is_main():
            return
        self.folder.append(row)
        if writer is not None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, row["step"])

    def _tensorboard(self) -> Any:
        """A writer of TensorBoard logs, if TensorBoard is installed."""
        if not distributed.is_main():
            return None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.progress.note(f"no TensorBoard curves: {missing_extra('they', 'tensorboard')}")
            return None
        purge = self.done_steps + 1 if self.done_steps else None
        return SummaryWriter(str(self.folder.root / "tensorboard"), purge_step=purge)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of dropout in one step of one process.

    >>> len({step_seed(0, step, rank) for step in range(9) for rank in range(9)})
    81
    """
    return hash((seed, step, rank)) & 0x7FFFFFFF


def _accelerator(precision: str) -> Any:
    """The device and the precision."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate remembers the precision of the first run in a process; each run here has its own.
    AcceleratorState._reset_state()
    try:
        accelerator = Accelerator(mixed_precision=precision)
    except ValueError as error:
        raise TrainingError(f"--precision {precision} cannot run here: {error}; use --precision no") from error
    # Accelerate lets this pass, without the scaling of the loss that half precision needs.
    if precision == "fp16" and accelerator.device.type == "cpu":
        raise TrainingError("--precision fp16 needs a GPU, and this runs on the CPU: use --precision no")
    if precision == "bf16" and accelerator.device.type == "cpu":
        require_bf16()
    return accelerator


def _exchanging(model: VideoModel, device: torch.device) -> VideoModel | DistributedDataParallel:
    """The model with its gradients averaged over all processes in each backward pass; alone, the model."""
    if distributed.world_size() == 1:
        return model
    # Running averages are not exchanged at each step: nothing reads them in training. PyTorch 2.13 renamed the option.
    new, old = "forward_sync_buffers", "broadcast_buffers"
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    keep_buffers: Any = {new if new in known else old: False}
    return DistributedDataParallel(model, device_ids=None if device.type == "cpu" else [device], **keep_buffers)
