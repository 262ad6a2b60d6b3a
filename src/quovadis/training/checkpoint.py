"""Save and restore the state of a training run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from quovadis.datasets.manifest import Manifest
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.training.precision import Precision
from quovadis.training.progress import Progress
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import RunFolder
from quovadis.training.schedule import LearningRateSchedule
from quovadis.weights.files import save_weights
from quovadis.weights.info import WeightsInfo


def trained_weights_info(
    model: VideoModel, data: Manifest, *, recipe: str, flow_method: str, **source: Any
) -> WeightsInfo:
    """Describe weights trained on ``data``, for the header of the weights file."""
    return WeightsInfo(
        model=model.spec.name,
        options={"stream": model.spec.stream, "num_classes": len(data.labels)},
        labels=data.labels,
        source={
            "recipe": recipe,
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "flow_method": flow_method if model.spec.needs_flow else None,
            **source,
        },
    )


class Checkpointer:
    """Write weights and resumable checkpoints to a run folder."""

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        data: Manifest,
        model: VideoModel,
        optimizer: Optimizer,
        schedule: LearningRateSchedule,
        precision: Precision,
    ):
        self._folder, self._recipe, self._data = folder, recipe, data
        self._model, self._optimizer, self._schedule, self._precision = model, optimizer, schedule, precision
        self._best_loss = math.inf
        self.validated_step = 0
        """The step of the last validation."""

    def save(self, row: dict[str, Any]) -> None:
        """Save the weights first and the resumable checkpoint last.

        Args:
            row: Step and metrics of the validation.
        """
        self.validated_step = row["step"]
        if not distributed.is_main():
            return
        flow_method = self._recipe.data.flow_method
        info = trained_weights_info(self._model, self._data, recipe=self._recipe.name, flow_method=flow_method, **row)
        if row["val_loss"] < self._best_loss:
            self._best_loss = row["val_loss"]
            save_weights(self._folder.best, self._model.state_dict(), info)
        save_weights(self._folder.last, self._model.state_dict(), info)
        self._save_checkpoint(row["step"], None)

    def save_interrupted(self, step: int) -> None:
        """Save the resumable checkpoint between validations. The weights files stay those of the last validation.

        Called by all processes, whose running averages differ between validations.
        """
        buffers = None
        if distributed.world_size() > 1:
            buffers = distributed.gather([b.cpu() for b in self._model.buffers()])
        if distributed.is_main():
            self._save_checkpoint(step, buffers)

    def _save_checkpoint(self, step: int, buffers: list[list[Tensor]] | None) -> None:
        self._folder.save_checkpoint(
            {
                "step": step,
                "validated_step": self.validated_step,
                "best_loss": self._best_loss,
                "model": self._model.state_dict(),
                "buffers": buffers,
                "optimizer": self._optimizer.state_dict(),
                "scheduler": self._schedule.state_dict(),
                "scaler": self._precision.state_dict(),
                "batch_norm_clips": self._num_normalized_clips(),
            }
        )

    def resume(self, progress: Progress) -> int:
        """Restore the last checkpoint.

        Returns:
            The number of finished steps.

        Raises:
            TrainingError: If the checkpoint or the log is damaged.
        """
        state = self._folder.load_checkpoint()
        try:
            self._model.load_state_dict(state["model"])
            self._load_buffers(state.get("buffers"))
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["scheduler"])
            self._precision.load_state_dict(state["scaler"])
            step, self._best_loss = int(state["step"]), float(state["best_loss"])
            self.validated_step = int(state.get("validated_step", step))
            before = state["batch_norm_clips"]
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise self._folder.broken_checkpoint(str(error).partition("\n")[0]) from error
        if distributed.is_main():
            self._folder.rewind_log(step)
        progress.note(f"resuming {self._folder.root} from step {step}")
        now = self._num_normalized_clips()
        if before != now:
            progress.note(
                f"batch norm now normalizes {now} clips together, before it was {before}: the following steps differ "
                "from those of an uninterrupted run"
            )
        return step

    @torch.no_grad()
    def _load_buffers(self, saved: list[list[Tensor]] | None) -> None:
        """Restore the running averages of this process; their mean if the number of processes has changed."""
        if saved is None:
            return
        same_number = len(saved) == distributed.world_size()
        for buffer, values in zip(self._model.buffers(), zip(*saved, strict=True), strict=True):
            own = values[distributed.rank()] if same_number else torch.stack(values).double().mean(0)
            buffer.copy_(own)

    def _num_normalized_clips(self) -> int | None:
        """Number of clips that batch norm normalizes together; None if its statistics are frozen."""
        kind, size = self._recipe.model.batch_norm, self._recipe.data.batch_size
        return None if kind == "frozen" else size * (distributed.world_size() if kind == "synchronized" else 1)
