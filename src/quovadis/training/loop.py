"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from quovadis.datasets.loader import VideoDataLoader, worker_context
from quovadis.datasets.manifest import Manifest
from quovadis.errors import LossNotFiniteError, TrainingError
from quovadis.models.batch_norm import recompute_running_statistics
from quovadis.runtime import distributed
from quovadis.training.build import average_gradients, build_model
from quovadis.training.checkpoint import Checkpointer
from quovadis.training.clips import TrainingClips, model_inputs
from quovadis.training.precision import Precision
from quovadis.training.progress import NullProgress, Progress
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import RunFolder, lock_folder
from quovadis.training.run_log import RunLog
from quovadis.training.schedule import LearningRateSchedule


def train(recipe: Recipe, data: Manifest, out: str | PathLike[str], *, progress: Progress | None = None) -> RunFolder:
    """Train a model on the ``train`` split; the ``val`` split selects the weights and the learning rate.

    A stopped run resumes from its last checkpoint when it is started again with the same arguments, and makes the same
    steps as an uninterrupted run.

    Under ``torchrun`` all processes train one model. Each processes its part of every batch and of the validation
    videos, and gradients are averaged once a step. All processes need access to the run folder on a shared disk; only
    the main process writes. The number of processes may change between two starts if the effective batch size stays the
    same, see ``data.effective_batch_size``. Running averages of batch norm are averaged over the processes before they
    are used or saved; the paper does not specify this.

    Args:
        recipe: See :mod:`quovadis.training.recipes`.
        data: Labeled videos.
        out: The run folder, see :mod:`quovadis.training.run_folder`.
        progress: Callbacks for steps, validations and notes.

    Returns:
        The run folder.

    Raises:
        DatasetError: If there are no training or validation videos.
        TrainingError: If a class has no readable video, the folder holds another run or damaged files, the effective
            batch size is impossible, or the device does not support the precision.
        LossNotFiniteError: If the loss or a gradient is NaN or infinite. The last checkpoint and weights are kept.
        StorageError: If the disk is full, or another process trains in the folder.
        JobError: If another process of the run died.

    Example:
        >>> import quovadis
        >>> from quovadis.training.recipes import find_recipe
        >>> data = quovadis.load_dataset("clips/")  # doctest: +SKIP
        >>> run = quovadis.train(find_recipe("tiny"), data, "runs/mine")  # doctest: +SKIP
        >>> recognizer = quovadis.Recognizer.load(run.root)  # doctest: +SKIP
    """
    if recipe.data.num_workers:
        worker_context()
    with distributed.process_group():
        if progress is None or not distributed.is_main():
            progress = NullProgress()
        with lock_folder(Path(out), "training"):
            return _Run(recipe.for_processes(distributed.world_size()), data, RunFolder(Path(out)), progress).run()


class _Run:
    def __init__(self, recipe: Recipe, data: Manifest, folder: RunFolder, progress: Progress):
        self.recipe, self.data, self.folder, self.progress = recipe, data, folder, progress
        self.precision = Precision(recipe.precision)
        self.device = self.precision.device
        self.clips = TrainingClips(recipe, data)
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe, data.labels).to(self.device).channels_last()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.optimizer.learning_rate,
            momentum=recipe.optimizer.momentum,
            weight_decay=recipe.optimizer.weight_decay,
            fused=True,  # one kernel for all parameters
        )
        self.schedule = LearningRateSchedule(recipe, self.optimizer)
        self.parallel = average_gradients(self.model, self.device)
        self.forward = torch.compile(self.parallel) if recipe.compile else self.parallel
        self.done_steps = 0

    def run(self) -> RunFolder:
        distributed.run_on_main(lambda: self.clips.check_readable(self.model.spec))
        checkpointer = Checkpointer(
            self.folder, self.recipe, self.data, self.model, self.optimizer, self.schedule, self.precision
        )
        if distributed.run_on_main(lambda: self.folder.begin(self.recipe, self.data)):
            self.done_steps = checkpointer.resume(self.progress)
        for note in self.data.notes:
            self.progress.note(note)
        self.log = RunLog(self.folder, self.progress, self.done_steps)
        batches = iter(self.clips.training_batches(self.model.spec, self.done_steps, self.device))
        while self.done_steps < self.recipe.max_steps and not self.schedule.has_ended:
            row = self._step(batches)
            self.log.append(row)
            self.progress.step(row, self.recipe.max_steps)
            if self.done_steps % self.recipe.validate_every == 0 or self.done_steps == self.recipe.max_steps:
                row = self._validate()
                self.log.append(row)
                checkpointer.save(row)
                self.progress.validation(row)
        if self.schedule.has_ended:
            self.progress.note("the learning rate fell below --schedule.min-learning-rate: the run is complete")
        self.log.close()
        distributed.barrier()
        return self.folder

    def _step(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        """Make one optimizer step with ``accumulate_steps`` batches."""
        started = time.perf_counter()
        step = self.done_steps + 1
        torch.manual_seed(step_seed(self.recipe.seed, step, distributed.rank()))
        self.model.train()
        num_batches = self.recipe.data.accumulate_steps
        losses, correct, num_clips = [], [], 0
        unreadable: dict[str, str] = {}
        for i in range(num_batches):
            batch = next(batches)
            unreadable |= batch["unreadable"]
            labels = batch["labels"].to(self.device)
            with self._average_only_last(i == num_batches - 1):
                with self.precision.autocast():
                    outputs = self.forward(*model_inputs(batch, self.device))
                    loss = self.model.loss(outputs, labels)
                self.precision.backward(loss / num_batches)
            losses.append(loss.detach())
            correct.append((self.model.video_logits(outputs).argmax(1) == labels).sum())
            num_clips += len(labels)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        # The only synchronization with the device in a step.
        own = [sum(torch.stack(losses).tolist()), int(torch.stack(correct).sum()), num_clips, float(norm)]
        loss_sum, all_correct, all_clips, norm_sum = self.log.total(own, "train", unreadable)
        mean_loss = loss_sum / (num_batches * distributed.world_size())
        self._check_finite(mean_loss, "loss", step)
        if not self.precision.scales_loss:
            self._check_finite(norm_sum, "norm of the gradients", step)
        rate = self.schedule.rate
        self.precision.step(self.optimizer)
        self.schedule.after_step()
        self.done_steps = step
        seconds = time.perf_counter() - started
        return {
            "step": step,
            "loss": mean_loss,
            "accuracy": all_correct / all_clips,
            "learning_rate": rate,
            "clips_per_second": round(all_clips / seconds, 2),
            "seconds": round(seconds, 4),
        }

    def _average_only_last(self, last: bool) -> AbstractContextManager[Any]:
        """Average gradients over the processes once a step instead of once a batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()

    @torch.no_grad()
    def _validate(self) -> dict[str, Any]:
        """Compute loss and accuracy on the middle clip of each validation video, and step the plateau scheduler.

        Each process evaluates its part of the videos with the same weights. An unreadable video counts as wrong; the
        loss is the mean over the others.
        """
        batches = iter(self._validation_batches)
        self._update_batch_norm(batches)
        self.model.eval()
        loss_sum, correct, readable = 0.0, 0, 0
        unreadable: dict[str, str] = {}
        for batch in batches:
            unreadable |= batch["unreadable"]
            if not len(batch["labels"]):
                continue
            labels = batch["labels"].to(self.device)
            with self.precision.autocast():
                logits = self.model(*model_inputs(batch, self.device)).float()
            loss_sum += float(F.cross_entropy(logits.cpu().double(), batch["labels"], reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
            readable += len(labels)
        loss_sum, all_correct, all_readable = self.log.total([loss_sum, correct, readable], "val", unreadable)
        num_videos = len(self.clips.val)
        if not all_readable:
            raise TrainingError(f"none of the {num_videos} validation videos of {self.data.name} can be read")
        loss = loss_sum / all_readable
        self._check_finite(loss, "validation loss", self.done_steps)
        self.schedule.after_validation(loss)
        return {"step": self.done_steps, "val_loss": loss, "val_accuracy": all_correct / num_videos}

    @cached_property
    def _validation_batches(self) -> VideoDataLoader:
        return self.clips.validation_batches(self.model.spec, self.device)

    def _update_batch_norm(self, batches: Iterator[dict[str, Any]]) -> None:
        """Give all processes the same running averages: recomputed from training clips, or averaged."""
        num_batches = self.clips.num_statistics_batches
        if not num_batches:
            distributed.average_tensors([b for b in self.model.buffers() if b.is_floating_point()])
            return
        torch.manual_seed(step_seed(self.recipe.seed, self.done_steps, distributed.rank()))
        inputs = (model_inputs(batch, self.device) for batch in islice(batches, num_batches))
        with self.precision.autocast():
            recompute_running_statistics(self.model, inputs)

    def _check_finite(self, value: float, name: str, step: int) -> None:
        if math.isfinite(value):
            return
        best, checkpoint = self.folder.best, self.folder.checkpoint
        kept = f"{best} and {checkpoint} are kept" if best.exists() else "nothing was saved yet"
        raise LossNotFiniteError(
            f"the {name} is {value} at step {step}, learning rate {self.schedule.rate:g}; {kept}. Start a new run with "
            "a smaller --optimizer.learning-rate"
        )


def step_seed(seed: int, step: int, rank: int) -> int:
    """Return the seed of dropout for one step and process, so that a resumed run repeats it.

    >>> len({step_seed(0, step, rank) for step in range(9) for rank in range(9)})
    81
    """
    return hash((seed, step, rank)) & 0x7FFFFFFF
