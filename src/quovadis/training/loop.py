"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from quovadis.datasets.loader import VideoDataLoader, worker_context
from quovadis.datasets.manifest import Manifest
from quovadis.errors import JobError, LossNotFiniteError, TrainingError
from quovadis.models.batch_norm import recompute_running_statistics
from quovadis.runtime import distributed, interrupts
from quovadis.training.build import average_gradients, build_model
from quovadis.training.checkpoint import Checkpointer
from quovadis.training.clips import TrainingClips, model_inputs
from quovadis.training.precision import Precision
from quovadis.training.progress import NullProgress, Progress
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import RunFolder, lock_folder
from quovadis.training.run_log import RunLog
from quovadis.training.schedule import LearningRateSchedule
from quovadis.training.speed import speed_notes


def train(recipe: Recipe, data: Manifest, out: str | PathLike[str], *, progress: Progress | None = None) -> RunFolder:
    """Train a model on the ``train`` split; the ``val`` split selects the weights and the learning rate.

    A stopped run resumes from its last checkpoint when it is started again with the same arguments, and makes the same
    steps as an uninterrupted run. On the first Ctrl-C, the run finishes its step and saves a checkpoint before it
    raises KeyboardInterrupt; on the second Ctrl-C, it stops at once.

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


class _Stopped(Exception):
    """The run was interrupted and its state can be saved."""


class _Run:
    def __init__(self, recipe: Recipe, data: Manifest, folder: RunFolder, progress: Progress):
        self.recipe, self.data, self.folder, self.progress = recipe, data, folder, progress
        self.precision = Precision(recipe.precision)
        self.device = self.precision.device
        self.clips = TrainingClips(recipe, data)
        torch.manual_seed(recipe.seed)
        self.model = build_model(recipe, data.labels).to(self.device).channels_last()
        self.optimizer = torch.optim.SGD(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=recipe.optimizer.learning_rate,
            momentum=recipe.optimizer.momentum,
            weight_decay=recipe.optimizer.weight_decay,
            fused=True,  # one kernel for all parameters
        )
        self.schedule = LearningRateSchedule(recipe, self.optimizer)
        self.parallel = average_gradients(self.model, self.device)
        self.forward = torch.compile(self.parallel) if recipe.compile else self.parallel
        self.done_steps = 0
        self.validating = False

    def run(self) -> RunFolder:
        distributed.run_on_main(lambda: self.clips.check_readable(self.model.spec, self.progress))
        checkpointer = self.checkpointer = Checkpointer(
            self.folder, self.recipe, self.data, self.model, self.optimizer, self.schedule, self.precision
        )
        if distributed.run_on_main(lambda: self.folder.begin(self.recipe, self.data)):
            self.done_steps = checkpointer.resume(self.progress)
        for note in (*self.data.notes, *self.clips.notes):
            self.progress.note(note)
        self.log = RunLog(self.folder, self.progress, self.done_steps)
        with ExitStack() as self.loaders, interrupts.deferred(self._announce_stop) as self.interrupt:
            try:
                self._train()
            except _Stopped:
                checkpointer.save_interrupted(self.done_steps)
                self.log.close()
                distributed.barrier()  # a launcher stops all processes when one of them ends
                self.interrupt.stop(
                    f"stopped after step {self.done_steps} of {self.recipe.max_steps}; run the same command again to "
                    "continue"
                )
        if self.schedule.has_ended:
            self.progress.note("the learning rate fell below --schedule.min-learning-rate: the run is complete")
        self.log.close()
        distributed.barrier()
        return self.folder

    def _train(self) -> None:
        """Make the remaining steps and validations.

        Raises:
            _Stopped: If the run was interrupted. All processes have then made the same number of steps.
        """
        first_step, max_steps = self.done_steps + 1, self.recipe.max_steps
        loader = self.clips.training_batches(self.model.spec, self.done_steps, self.device)
        batches = iter(self.loaders.enter_context(loader))
        if self._validation_is_due():
            self._validate_and_save()
        while self.done_steps < max_steps and not self.schedule.has_ended:
            if self.interrupt.requested and distributed.world_size() == 1:
                raise _Stopped
            row, stopped = self._step(batches)
            self.log.append(row)
            self.progress.step(row, max_steps)
            if self.done_steps == first_step + 1:  # the first step warms up
                spec, videos = self.model.spec, self.data.root
                notes = speed_notes(row, max_steps, device=self.device, videos=videos, short_side_px=spec.short_side_px)
                for note in notes:
                    self.progress.note(note)
            if stopped:
                raise _Stopped
            if self._validation_is_due():
                self._validate_and_save()

    def _validation_is_due(self) -> bool:
        step = self.done_steps
        is_step = step > 0 and (step % self.recipe.validate_every == 0 or step == self.recipe.max_steps)
        return is_step and self.checkpointer.validated_step < step

    def _validate_and_save(self) -> None:
        self.validating = True
        row = self._validate()
        self.validating = False
        self.log.append(row)
        self.checkpointer.save(row)
        self.progress.validation(row)

    def _announce_stop(self) -> None:
        step = self.done_steps
        what = f"leaving the validation after step {step}" if self.validating else f"finishing step {step + 1}"
        self.progress.note(f"{what}, then saving; press Ctrl-C again to stop at once")

    def _step(self, batches: Iterator[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Make one optimizer step with ``accumulate_steps`` batches.

        Returns:
            Metrics, and whether a process was interrupted.
        """
        started, seconds_waiting = time.perf_counter(), 0.0
        step = self.done_steps + 1
        torch.manual_seed(step_seed(self.recipe.seed, step, distributed.rank()))
        self.model.train()
        num_batches = self.recipe.data.accumulate_steps
        losses, correct, num_clips = [], [], 0
        unreadable: dict[str, str] = {}
        for i in range(num_batches):
            asked = time.perf_counter()
            batch = self._next_batch(batches, is_first=i == 0)
            seconds_waiting += time.perf_counter() - asked
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
        own.append(self.interrupt.requested)
        loss_sum, all_correct, all_clips, norm_sum, num_stopped = self.log.total(own, "train", unreadable)
        mean_loss = loss_sum / (num_batches * distributed.world_size())
        self._check_finite(mean_loss, "loss", step)
        if not self.precision.scales_loss:
            self._check_finite(norm_sum, "norm of the gradients", step)
        rate = self.schedule.rate
        self.precision.step(self.optimizer)
        self.schedule.after_step()
        self.done_steps = step
        seconds = time.perf_counter() - started
        row = {
            "step": step,
            "loss": mean_loss,
            "accuracy": all_correct / all_clips,
            "learning_rate": rate,
            "clips_per_second": round(all_clips / seconds, 2),
            "seconds": round(seconds, 4),
            "seconds_waiting": round(seconds_waiting, 4),
        }
        return row, num_stopped > 0

    def _next_batch(self, batches: Iterator[dict[str, Any]], *, is_first: bool) -> dict[str, Any]:
        try:
            return next(batches)
        except JobError:
            # A signal to all processes, as from a service manager, also stops the data-loading workers.
            if self.interrupt.requested and is_first and distributed.world_size() == 1:
                raise _Stopped from None
            raise

    def _average_only_last(self, last: bool) -> AbstractContextManager[Any]:
        """Average gradients over the processes once a step instead of once a batch."""
        if last or not isinstance(self.parallel, DistributedDataParallel):
            return nullcontext()
        return self.parallel.no_sync()

    @torch.no_grad()
    def _validate(self) -> dict[str, Any]:
        """Compute loss and accuracy on the middle clip of each validation video, and step the plateau scheduler.

        Each process evaluates its part of the videos with the same weights. A missing or unreadable video counts as
        wrong; the loss is the mean over the others.

        Raises:
            _Stopped: If a process was interrupted. The run validates when it resumes.
        """
        batches = iter(self._validation_batches)
        self._update_batch_norm(batches)
        self.model.eval()
        num_videos = len(self.clips.val)
        loss_sum, correct, readable, done = 0.0, 0, 0, 0
        unreadable: dict[str, str] = {}
        for batch in batches:
            if self.interrupt.requested:
                break
            unreadable |= batch["unreadable"]
            done += distributed.world_size() * (len(batch["labels"]) + len(batch["unreadable"]))
            self.progress.count("validation", min(done, num_videos), num_videos)
            if not len(batch["labels"]):
                continue
            labels = batch["labels"].to(self.device)
            with self.precision.autocast():
                logits = self.model(*model_inputs(batch, self.device)).float()
            loss_sum += float(F.cross_entropy(logits.cpu().double(), batch["labels"], reduction="sum"))
            correct += int((logits.argmax(1) == labels).sum())
            readable += len(labels)
        own = [loss_sum, correct, readable, self.interrupt.requested]
        loss_sum, all_correct, all_readable, num_stopped = self.log.total(own, "val", unreadable)
        if num_stopped:
            raise _Stopped
        if not all_readable:
            raise TrainingError(f"none of the {num_videos} validation videos of {self.data.name} can be read")
        loss = loss_sum / all_readable
        self._check_finite(loss, "validation loss", self.done_steps)
        self.schedule.after_validation(loss)
        return {"step": self.done_steps, "val_loss": loss, "val_accuracy": all_correct / self.clips.num_val}

    @cached_property
    def _validation_batches(self) -> VideoDataLoader:
        return self.loaders.enter_context(self.clips.validation_batches(self.model.spec, self.device))

    def _update_batch_norm(self, batches: Iterator[dict[str, Any]]) -> None:
        """Give all processes the same running averages: recomputed from training clips, or averaged."""
        num_batches = self.clips.num_statistics_batches
        if not num_batches:
            distributed.average_tensors([b for b in self.model.buffers() if b.is_floating_point()])
            return
        torch.manual_seed(step_seed(self.recipe.seed, self.done_steps, distributed.rank()))
        with self.precision.autocast():
            recompute_running_statistics(self.model, self._statistics_inputs(islice(batches, num_batches)))

    def _statistics_inputs(self, batches: Iterator[dict[str, Any]]) -> Iterator[list[Tensor]]:
        num_batches = self.clips.num_statistics_batches
        for done, batch in enumerate(batches, 1):
            if self.interrupt.requested and distributed.world_size() == 1:  # several processes compute them together
                raise _Stopped
            yield model_inputs(batch, self.device)
            self.progress.count("batch norm statistics", done, num_batches)

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
