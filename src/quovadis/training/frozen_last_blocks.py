"""Continue from a classifier on frozen features by training the last blocks of its network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from shutil import rmtree

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from quovadis.errors import TrainingError
from quovadis.metrics.calibration import fit_temperature
from quovadis.models.i3d import I3D
from quovadis.models.video_model import VideoModel
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.hashing import sha256_text
from quovadis.training.frozen_fit import FrozenFit, fit_rows
from quovadis.training.frozen_videos import FrozenVideos
from quovadis.training.last_blocks import (
    LastBlocksRecipe,
    LastBlocksResult,
    Tail,
    require_i3d,
    tail_logits,
    train_tail,
)
from quovadis.training.logistic import set_heads


@dataclass(frozen=True)
class TrainedLastBlocks:
    """The trained blocks, and how accurate they are."""

    model: VideoModel
    """The network with trained last blocks and classifier."""
    fitted: FrozenFit
    """As for the classifier on frozen features, whose weights it keeps."""
    result: LastBlocksResult


def train_last_blocks(
    model: I3D,
    videos: FrozenVideos,
    files: Sequence[Path],
    fitted: FrozenFit,
    recipe: LastBlocksRecipe,
    balanced: bool,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> TrainedLastBlocks:
    """Continue from the classifier on frozen features; in each fold from the classifier of its training videos.

    The logits of finished folds are kept in ``folder`` until the end, so an interrupted run continues at the next fold.
    """
    targets, validation = videos.targets, fitted.cross_validation
    total = recipe.num_epochs * (1 if validation is None else len(validation.strengths) + 1)
    trainings = 0

    def train(rows: Tensor, weight: Tensor, bias: Tensor) -> Tail:
        nonlocal trainings
        before = trainings * recipe.num_epochs
        set_heads([model], videos.data.labels, weight, bias)
        tail = Tail(model, recipe.train_from)
        chosen = [files[i] for i in rows.tolist()]
        train_tail(tail, chosen, targets[rows], recipe, seed=seed, progress=lambda done: progress(before + done, total))
        trainings += 1
        return tail

    def score(tail: Tail, rows: Tensor) -> Tensor:
        return tail_logits(tail, [files[i] for i in rows.tolist()])

    if validation is None:
        train_rows, val, test = (videos.rows(split) for split in ("train", "val", "test"))
        tail = train(train_rows, fitted.weight, fitted.bias)
        frozen = videos.samples[val].double().mean(1) @ fitted.weight.T + fitted.bias
        own, scores = score(tail, val), score(tail, test)
        truth = targets[val]
    else:
        frozen, own, truth = validation.logits, torch.zeros_like(validation.logits), targets
        for fold, l2 in enumerate(validation.strengths):
            held_out = validation.folds == fold
            rest = (~held_out).nonzero().flatten()
            weight, bias = fit_rows(videos, rest, l2, balanced)
            parts = [[files[i].stem for i in rows.nonzero().flatten().tolist()] for rows in (~held_out, held_out)]
            key = _key_of_fold(recipe, seed, weight, bias, parts)
            logits = _read_fold(folder / f"{key}.safetensors")
            if logits is None:
                logits = score(train(rest, weight, bias), held_out.nonzero().flatten())
                write_atomically(folder / f"{key}.safetensors", save({"logits": logits}))
            else:
                trainings += 1
            own[held_out] = logits
        scores, validation = own, replace(validation, logits=own)
        tail = train(torch.arange(len(targets)), fitted.weight, fitted.bias)
    rmtree(folder, ignore_errors=True)
    temperature = fit_temperature(own, truth)
    accuracies = [float((logits.argmax(1) == truth).double().mean()) for logits in (frozen, own)]
    improved = replace(fitted, temperature=temperature, logits=scores / temperature, cross_validation=validation)
    return TrainedLastBlocks(tail.model.eval(), improved, LastBlocksResult(*accuracies))


def _key_of_fold(recipe: LastBlocksRecipe, seed: int, weight: Tensor, bias: Tensor, videos: list[list[str]]) -> str:
    """Return a hash of everything that determines the trained blocks of a fold."""
    return sha256_text(json.dumps([asdict(recipe), seed, weight.tolist(), bias.tolist(), videos]))[:16]


def _read_fold(path: Path) -> Tensor | None:
    """Read the logits of a finished fold; None if it is not finished."""
    try:
        return load(path.read_bytes())["logits"]
    except (OSError, SafetensorError, KeyError):
        return None


def require_one_i3d(models: Sequence[VideoModel], recipe: LastBlocksRecipe) -> None:
    """Raise TrainingError unless there is one network, whose last blocks can be trained."""
    if len(models) > 1:
        raise TrainingError(
            f"the last blocks of one network can be trained; got {len(models)} networks: train them separately, and "
            "add their logits with --weights A B"
        )
    require_i3d(models[0], recipe.train_from)
