"""Experiments: train one network in one setting on one dataset, and score the test videos.

The name of an experiment's folder ends with a hash of everything that determines its result: recipe, data fingerprint,
initial weights, protocol and split. The scores are written last; an experiment with scores is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from quovadis.datasets.manifest import Manifest, preview_names
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import LogitDump, read_dump, write_dump
from quovadis.evaluation.evaluator import evaluate_streams
from quovadis.evaluation.protocols import find_protocol
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.hashing import sha256, sha256_text
from quovadis.training.checkpoint import trained_weights_info
from quovadis.training.classifier import ClassifierRecipe, score_features, train_classifier
from quovadis.training.frozen_features import Features, frozen_features, hash_trunk, require_all_classes
from quovadis.training.loop import train
from quovadis.training.progress import NullProgress, Progress
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import lock_folder
from quovadis.weights.files import save_weights
from quovadis.weights.load import load_model, resolve_weights

Setting = Literal["original", "fixed", "full-ft"]
"""Training on the dataset only; a new classifier on frozen features; end-to-end fine-tuning (section 4.1)."""

SCORES = "scores.npz"
_MACHINE_ONLY = ("num_workers", "flow_folder")  # do not affect the result


@dataclass(frozen=True)
class Experiment:
    """Definition of an experiment.

    Raises:
        TrainingError: If ``source`` or ``classifier`` does not match the setting, there is a single class, or a class
            has no training video.
        DatasetError: If the data do not have a required split.
    """

    setting: Setting
    recipe: Recipe
    """Recipe of the network. The setting ``fixed`` uses only its model, flow and number of workers."""
    data: Manifest
    classifier: ClassifierRecipe | None = None
    """Recipe of the classifier, for the setting ``fixed``."""
    source: str | PathLike[str] | None = None
    """Weights to transfer from, for ``fixed`` and ``full-ft``. They determine network and stream."""
    split: str = "test"
    """The split to evaluate."""
    protocol: str | None = None
    """Evaluation protocol; by default the protocol of the model."""

    def __post_init__(self) -> None:
        if (self.source is None) != (self.setting == "original"):
            needs = "does not use source weights" if self.setting == "original" else "needs source weights"
            raise TrainingError(f"the setting {self.setting} {needs}")
        if (self.classifier is None) == (self.setting == "fixed"):
            raise TrainingError("the setting fixed needs a classifier recipe, and other settings do not use one")
        if len(self.data.labels) < 2:
            raise TrainingError(
                f"{self.data.name} has only the class {self.data.labels[0]!r}: add videos of at least one other class"
            )
        for split in ("train", "val", self.split):
            self.data.split(split)
        trained = {record.label for record in self.data.split("train")}
        missing = [label for i, label in enumerate(self.data.labels) if i not in trained]
        if missing:
            verb = "has" if len(missing) == 1 else "have"
            raise TrainingError(
                f"{preview_names(missing)} of {self.data.name} {verb} no video in the training split: add videos, or "
                "remove the class"
            )

    @cached_property
    def key(self) -> str:
        """Hash of everything that determines the result, 12 hexadecimal digits."""
        return sha256_text(json.dumps(self._identity(), sort_keys=True))[:12]

    @property
    def folder_name(self) -> str:
        """Readable and unique name of the experiment's folder."""
        model = self.recipe.model
        stream = model.stream or "default"
        return f"{self.data.name}-{self.setting}-{model.name}-{stream}-{self.key}"

    def _identity(self) -> dict[str, Any]:
        recipe = self.recipe.to_dict()
        for name in _MACHINE_ONLY:
            recipe["data"].pop(name, None)
        start = recipe["model"].pop("weights")
        if recipe["model"]["train_from"] is None:  # keeps the names of folders made before this option existed
            del recipe["model"]["train_from"]
        if self.setting == "fixed":
            kept = {"model": {k: recipe["model"][k] for k in ("name", "stream")}}
            recipe = {**kept, "flow_method": recipe["data"]["flow_method"]}
        return {
            "setting": self.setting,
            "recipe": recipe,
            "start": None if start is None else _hash_file(start),
            "classifier": None if self.classifier is None else self.classifier.to_dict(),
            "data_fingerprint": self.data.fingerprint,
            "source": None if self.source is None else _hash_model(self.source),
            "split": self.split,
            "protocol": self.protocol,
        }


def run_experiment(experiment: Experiment, out: Path, *, progress: Progress | None = None) -> tuple[LogitDump, Path]:
    """Run an experiment unless it is complete, and return its scores.

    Under ``torchrun`` all processes train, extract features and evaluate together. The main process trains the
    classifier of ``fixed`` and writes files.

    Args:
        experiment: The experiment.
        out: Folder of all experiments, which share features. An interrupted training run is resumed.
        progress: Callbacks for steps, validations and notes.

    Returns:
        The scores of the test videos, and the run folder of the experiment.

    Raises:
        TrainingError: See :func:`quovadis.training.loop.train`.
        DatasetError: If videos cannot be read.
        WeightsError: If the source cannot be loaded.
        StorageError: If files cannot be written.

    Example:
        >>> data = quovadis.load_dataset("clips/")  # doctest: +SKIP
        >>> experiment = Experiment("original", find_recipe("tiny"), data)  # doctest: +SKIP
        >>> scores, folder = run_experiment(experiment, Path("runs/experiments"))  # doctest: +SKIP
    """
    with distributed.process_group():
        if progress is None or not distributed.is_main():
            progress = NullProgress()
        folder = distributed.run_on_main(lambda: _folder_of(experiment, out))
        if distributed.run_on_main(lambda: (folder / SCORES).is_file()):
            progress.note(f"{folder} is complete")
            return read_dump(folder / SCORES), folder
        progress.note(f"{experiment.setting} on {experiment.data.name}: {folder}")
        if experiment.setting == "fixed":
            with lock_folder(folder, "training"):
                dump = _fixed(experiment, folder, progress)
        else:
            dump = _end_to_end(experiment, folder, progress)
        distributed.run_on_main(lambda: write_dump(folder / SCORES, dump))
        return dump, folder


def _folder_of(experiment: Experiment, out: Path) -> Path:
    """Return the folder of the experiment. An existing one may have another name if the data were renamed."""
    existing = sorted(out.glob(f"*-{experiment.key}"))
    return existing[0] if existing else out / experiment.folder_name


def _end_to_end(experiment: Experiment, folder: Path, progress: Progress) -> LogitDump:
    recipe, data = experiment.recipe, experiment.data
    if experiment.source is not None:
        recipe = replace(recipe, model=replace(recipe.model, weights=str(experiment.source)))
    train(recipe, data, folder, progress=progress)
    recognizer = Recognizer.load(
        folder, flow_method=recipe.data.flow_method, flow_folder=_path(recipe.data.flow_folder)
    )
    num_videos = len(data.split(experiment.split))
    description = f"evaluation on {data.name} {experiment.split}"
    results = evaluate_streams(
        recognizer,
        data,
        split=experiment.split,
        protocol=experiment.protocol,
        num_workers=recipe.data.num_workers,
        progress=lambda done: progress.count(description, done, num_videos),
    )
    return LogitDump.of(results[:1])


def _fixed(experiment: Experiment, folder: Path, progress: Progress) -> LogitDump:
    assert experiment.source is not None
    data, split = experiment.data, experiment.split
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(experiment.source).to(device).channels_last()
    trunk = hash_trunk(model)
    flow = FlowSource(experiment.recipe.data.flow_method, _path(experiment.recipe.data.flow_folder))
    protocol = find_protocol(experiment.protocol or model.spec.protocol)

    def features_of(part: str) -> Features:
        records, description = data.split(part), f"features of {data.name} {part}"
        return frozen_features(
            model,
            data,
            records,
            folder.parent / "features",
            protocol=protocol,
            flow=flow,
            device=device,
            num_workers=experiment.recipe.data.num_workers,
            progress=lambda done: progress.count(description, done, len(records)),
        )

    parts = {part: features_of(part) for part in dict.fromkeys(("train", "val", split))}
    require_all_classes(parts["train"], data)

    def fit() -> LogitDump:
        assert experiment.classifier is not None
        rows: list[dict[str, Any]] = []
        best = train_classifier(
            model, data.labels, parts["train"], parts["val"], experiment.classifier, on_row=rows.append
        )
        progress.validation(best)
        _save_fixed(experiment, folder, model, {"source_weights": trunk, **best}, rows)
        return score_features(model, parts[split], data, split, protocol.describe(model.spec))

    return distributed.run_on_main(fit)


def _save_fixed(
    experiment: Experiment, folder: Path, model: VideoModel, facts: Mapping[str, Any], rows: list[dict[str, Any]]
) -> None:
    """Write the files of a run folder: weights, recipe and log."""
    assert experiment.classifier is not None
    flow_method = experiment.recipe.data.flow_method
    info = trained_weights_info(model, experiment.data, recipe="fixed", flow_method=flow_method, **facts)
    save_weights(folder / "best.safetensors", model.state_dict(), info)
    write_atomically(folder / "recipe.json", json.dumps(experiment.classifier.to_dict(), indent=2) + "\n")
    write_atomically(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def _hash_file(weights: str) -> str:
    """Return the SHA-256 of a weights file, or of all tensors if the weights are not a single file."""
    path = resolve_weights(weights)[0]
    return sha256(path) if path.is_file() else _hash_model(weights)


def _hash_model(weights: str | PathLike[str]) -> str:
    """Return a hash of all tensors, including the classifier, which fine-tuning keeps if the classes are the same."""
    model = load_model(weights)
    head = hashlib.sha256()
    for name, tensor in sorted(model.head.state_dict().items()):
        head.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"{hash_trunk(model)} {head.hexdigest()}"


def _path(folder: str | None) -> Path | None:
    return None if folder is None else Path(folder)
