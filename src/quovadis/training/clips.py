"""Batches of training and validation clips, and checks of the videos before a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.clip_dataset import ClipDataset, EpochBatchSampler, Splits, collate
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord, preview_names
from quovadis.errors import TrainingError
from quovadis.flow.source import FlowSource
from quovadis.models.spec import ModelSpec
from quovadis.runtime import distributed
from quovadis.training.progress import Progress
from quovadis.training.recipes import Recipe
from quovadis.transforms import to_model

_MISSING_IN_VALIDATION = "validation videos do not exist and count as wrong"


class TrainingClips:
    """The clips of a run; each process gets its part of every batch.

    Args:
        recipe: A recipe with its defaults resolved, see :meth:`Recipe.for_processes`.
        data: Labeled videos. Videos whose files do not exist are left out; in validation, they count as wrong.

    Raises:
        TrainingError: If no training video of a class exists, no validation video exists of a class that has some, or
            the processes have different data.
    """

    def __init__(self, recipe: Recipe, data: Manifest):
        self.recipe, self.data = recipe, data
        self.train = [r for r in data.split("train") if r.path.is_file()]
        self.val = [r for r in data.split("val") if r.path.is_file()]
        self.num_val = len(data.split("val"))
        """Number of validation videos, also of those that do not exist."""
        self._check_classes()
        self._check_same_data()

    @property
    def notes(self) -> list[str]:
        """The training and validation videos that do not exist."""
        notes = []
        for split, text in (("train", "training videos do not exist"), ("val", _MISSING_IN_VALIDATION)):
            missing = [str(r.path) for r in self.data.split(split) if not r.path.is_file()]
            if missing:
                notes.append(f"{len(missing)} {text}: {preview_names(missing)}")
        return notes

    def training_batches(self, spec: ModelSpec, done_steps: int, device: torch.device) -> VideoDataLoader:
        """Load the batches that follow after ``done_steps`` optimizer steps. Endless."""
        config = self.recipe.data
        clips = self._dataset(self.train, spec, augment=True)
        return self._loader(clips, self._batches(len(clips), done_steps * config.accumulate_steps), device)

    def validation_batches(self, spec: ModelSpec, device: torch.device) -> VideoDataLoader:
        """Load ``num_statistics_batches`` batches of training clips, always the same, then the validation clips."""
        train = self._dataset(self.train, spec, augment=True)
        val = self._dataset(self.val, spec, augment=False)
        parts = islice(self._batches(len(train)), self.num_statistics_batches)
        keys = [[("train", *key) for key in batch] for batch in parts]
        own = [("val", 0, i) for i in range(distributed.rank(), len(val), distributed.world_size())]
        size = self.recipe.data.batch_size
        keys += [own[i : i + size] for i in range(0, len(own), size)]
        return self._loader(Splits({"train": train, "val": val}), keys, device)

    @cached_property
    def num_statistics_batches(self) -> int:
        """Number of batches from which the running averages of batch norm are recomputed before validation."""
        clips = min(self.recipe.model.batch_norm_clips or 0, len(self.train))
        return -(-clips // (self.recipe.data.batch_size * distributed.world_size()))

    def check_readable(self, spec: ModelSpec, progress: Progress) -> None:
        """Raise TrainingError if no video of a class can be read. Decodes one video of each class and split."""
        for name, records in (("training", self.train), ("validation", self.val)):
            count = partial(progress.count, f"checking a {name} video of each class")
            unreadable = ClipDataset(records, spec).unreadable_classes(count)
            if unreadable:
                reasons = [f"{self.data.labels[label]!r} ({why})" for label, why in sorted(unreadable.items())]
                raise TrainingError(
                    f"{self.data.name}: no {name} video can be read of {preview_names(reasons)}: replace the files, or "
                    "remove the class"
                )

    def _check_classes(self) -> None:
        present = {r.label for r in self.train}
        missing = [name for i, name in enumerate(self.data.labels) if i not in present]
        if missing:
            raise TrainingError(
                f"{self.data.name}: no training video exists of {preview_names(list(map(repr, missing)))}: add videos, "
                "or remove the class"
            )
        if not self.val:
            raise TrainingError(
                f"none of the validation videos of {self.data.name} exists: add them, or correct the paths"
            )
        gone = {r.label for r in self.data.split("val")} - {r.label for r in self.val}
        if gone:
            names = [repr(self.data.labels[label]) for label in sorted(gone)]
            raise TrainingError(
                f"{self.data.name}: none of the validation videos exists of {preview_names(names)}: add them, correct "
                "the paths, or remove the class"
            )

    def _check_same_data(self) -> None:
        found = distributed.gather((self.data.fingerprint, len(self.train), len(self.val)))
        if len(set(found)) > 1:
            raise TrainingError(
                "the processes have different data: "
                f"{', '.join(f'{train} + {val} videos of {fingerprint}' for fingerprint, train, val in found)}; "
                "give all machines the same files at the same path"
            )

    def _batches(self, num_clips: int, start: int = 0) -> EpochBatchSampler:
        return EpochBatchSampler(
            num_clips,
            self.recipe.data.batch_size,
            seed=self.recipe.seed,
            start=start,
            rank=distributed.rank(),
            num_ranks=distributed.world_size(),
        )

    def _dataset(self, records: Sequence[VideoRecord], spec: ModelSpec, *, augment: bool) -> ClipDataset:
        config = self.recipe.data
        folder = None if config.flow_folder is None else Path(config.flow_folder)
        flow = FlowSource(config.flow_method, folder, self.data.root)
        return ClipDataset(records, spec, seed=self.recipe.seed, augment=augment, flip=config.flip, flow=flow)

    def _loader(self, dataset: Any, batches: Any, device: torch.device) -> VideoDataLoader:
        return VideoDataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.recipe.data.num_workers,
            pin_memory=device.type == "cuda",
        )


def model_inputs(batch: dict[str, Any], device: torch.device) -> list[Tensor]:
    """Convert the streams of a batch to float tensors on the device."""
    inputs = [to_model(stream.to(device, non_blocking=True)) for stream in batch["streams"]]
    return [x.contiguous(memory_format=torch.channels_last_3d) for x in inputs]
