"""One experiment: a network, a setting and a dataset, from training to the scores of every test video; done only once.

An experiment has a folder whose name ends with a hash of everything that decides its outcome: recipe, data fingerprint,
the weights that it starts from, protocol and split. Its scores come last, so where they are, all is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch

from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import LogitDump, read_dump, write_dump
from quovadis.evaluation.evaluate import evaluate_streams
from quovadis.evaluation.protocols import find_protocol
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.video_model import VideoModel
from quovadis.runtime import distributed
from quovadis.training.classifier import ClassifierRecipe, classify_features, train_classifier
from quovadis.training.frozen_features import Features, frozen_features, hash_trunk
from quovadis.training.loop import NullProgress, Progress, train
from quovadis.training.recipes import Recipe
from quovadis.training.run_folder import lock_folder
from quovadis.weights.files import save_weights, write_atomically
from quovadis.weights.info import WeightsInfo
from quovadis.weights.load import load_model, locate

Setting = Literal["original", "fixed", "full-ft"]
"""On the dataset alone; a new classifier on frozen features of a source; from a source, end to end (section 4.1)."""

SCORES = "scores.npz"
_MACHINE_ONLY = ("num_workers", "flow_folder")  # decide how fast, and nothing else


@dataclass(frozen=True)
class Experiment:
    """What is done, and on what.

    Raises:
        TrainingError: a source where there must be none, or none where there must be one.
        DatasetError: the data lack a split that is needed, which is better known before training than after.
    """

    setting: Setting
    recipe: Recipe
    """Of the network. With the setting ``fixed`` only its model, flow and number of workers count."""
    data: Manifest
    classifier: ClassifierRecipe | None = None
    """With the setting ``fixed``."""
    source: str | PathLike[str] | None = None
    """Weights to transfer from, for ``fixed`` and ``full-ft``. The network and stream in them are taken."""
    split: str = "test"
    """Which videos are measured."""
    protocol: str | None = None
    """How; by default the model's own way."""

    def __post_init__(self) -> None:
        if (self.source is None) != (self.setting == "original"):
            needs = "starts from no source" if self.setting == "original" else "needs the weights of a source"
            raise TrainingError(f"the setting {self.setting} {needs}")
        if (self.classifier is None) == (self.setting == "fixed"):
            raise TrainingError("the setting fixed, and no other, needs a recipe for its classifier")
        for split in ("train", "val", self.split):
            self.data.split(split)

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides the outcome, 12 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self._made_of(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def folder_name(self) -> str:
        """Readable, and unlike that of any other experiment."""
        model = self.recipe.model
        stream = model.stream or "default"
        return f"{self.data.name}-{self.setting}-{model.name}-{stream}-{self.key}"

    def _made_of(self) -> dict[str, Any]:
        recipe = self.recipe.to_dict()
        for name in _MACHINE_ONLY:
            recipe["data"].pop(name, None)
        start = recipe["model"].pop("weights")
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


def transfer_experiment(
    setting: Setting,
    source: str | PathLike[str],
    data: Manifest,
    *,
    original: Recipe,
    full_ft: Recipe,
    fixed: ClassifierRecipe,
    protocol: str | None = None,
) -> Experiment:
    """The experiment of a setting with the network that a source holds.

    With ``original`` the source only says which network; its weights are not used.
    """
    spec = load_model(source).spec
    recipe = original if setting == "original" else full_ft
    stream: Any = spec.stream
    start = recipe.model.weights if setting == "original" else None
    recipe = replace(recipe, model=replace(recipe.model, name=spec.name, stream=stream, weights=start))
    return Experiment(
        setting,
        recipe,
        data,
        classifier=fixed if setting == "fixed" else None,
        source=None if setting == "original" else source,
        protocol=protocol,
    )


def run_experiment(experiment: Experiment, out: Path, *, progress: Progress | None = None) -> tuple[LogitDump, Path]:
    """Do what is not done yet, and give the scores of the test videos.

    Started by ``torchrun``, all processes train, compute features and measure together; the first one trains the
    classifier of ``fixed``, writes and speaks.

    Args:
        experiment: what to do.
        out: the folder of all experiments; a training run goes on where a kill left it, features are shared.
        progress: is told about steps, validations and notes.

    Returns:
        The scores, and the experiment's folder, which is a run folder that ``quovadis evaluate --weights`` takes.

    Raises:
        TrainingError, DatasetError, WeightsError, StorageError: as :func:`quovadis.training.loop.train`.
    """
    with distributed.process_group():
        told = progress if progress is not None and distributed.is_main() else NullProgress()
        folder = distributed.run_on_main(lambda: _folder_of(experiment, out))
        if distributed.run_on_main(lambda: (folder / SCORES).is_file()):
            told.note(f"{folder} is done")
            return read_dump(folder / SCORES), folder
        told.note(f"{experiment.setting} on {experiment.data.name}: {folder}")
        if experiment.setting == "fixed":
            with lock_folder(folder, "training"):
                dump = _fixed(experiment, folder, told)
        else:
            dump = _end_to_end(experiment, folder, told)
        distributed.run_on_main(lambda: write_dump(folder / SCORES, dump))
        return dump, folder


def _folder_of(experiment: Experiment, out: Path) -> Path:
    """Where the experiment was begun, under whatever name its data had; else where it will be."""
    begun = sorted(out.glob(f"*-{experiment.key}"))
    return begun[0] if begun else out / experiment.folder_name


def _end_to_end(experiment: Experiment, folder: Path, progress: Progress) -> LogitDump:
    recipe, data = experiment.recipe, experiment.data
    if experiment.source is not None:
        recipe = replace(recipe, model=replace(recipe.model, weights=str(experiment.source)))
    train(recipe, data, folder, progress=progress)
    recognizer = Recognizer.load(
        folder, flow_method=recipe.data.flow_method, flow_folder=_path(recipe.data.flow_folder)
    )
    progress.note(f"measuring {len(data.split(experiment.split))} {experiment.split} videos of {data.name}")
    results = evaluate_streams(
        recognizer,
        data,
        split=experiment.split,
        protocol=experiment.protocol,
        num_workers=recipe.data.num_workers,
        on_video=_tenths(progress, len(data.split(experiment.split))),
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
        progress.note(f"features of the {part} videos of {data.name}")
        return frozen_features(
            model,
            data,
            part,
            folder.parent / "features",
            protocol=protocol,
            flow=flow,
            device=device,
            num_workers=experiment.recipe.data.num_workers,
            on_video=_tenths(progress, len(data.split(part))),
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
    """What a training run leaves too: weights, log, and what it was made of."""
    data = experiment.data
    info = WeightsInfo(
        model=model.spec.name,
        options={"stream": model.spec.stream, "num_classes": len(data.labels)},
        labels=data.labels,
        source={
            "recipe": "fixed",
            "data": data.name,
            "data_fingerprint": data.fingerprint,
            "flow_method": experiment.recipe.data.flow_method if model.spec.needs_flow else None,
            **facts,
        },
    )
    assert experiment.classifier is not None
    save_weights(folder / "best.safetensors", model.state_dict(), info)
    write_atomically(folder / "recipe.json", (json.dumps(experiment.classifier.to_dict(), indent=2) + "\n").encode())
    write_atomically(folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())


def score_features(model: VideoModel, features: Features, data: Manifest, split: str, protocol: str) -> LogitDump:
    """Scores of the videos of a split from features that were computed before."""
    readable = torch.tensor([not error for error in features.errors])
    logits = torch.full((len(readable), len(data.labels)), torch.nan)
    logits[readable] = classify_features(model, features)
    return LogitDump(
        dataset=data.name,
        data_fingerprint=data.fingerprint,
        split=split,
        models=tuple(Recognizer([model], data.labels).describe_models()),
        protocols=(protocol,),
        labels=data.labels,
        paths=tuple(data.relative(r) for r in features.records),
        errors=features.errors,
        targets=torch.tensor([r.label for r in features.records]),
        logits=logits[None],
    )


def require_all_classes(features: Features, data: Manifest) -> None:
    """Raise :class:`~quovadis.errors.TrainingError` if a class has no training video that can be read."""
    lacking = sorted(set(range(len(data.labels))) - set(features.targets.tolist()))
    if lacking:
        raise TrainingError(
            f"{len(lacking)} classes of {data.name} have no training video that can be read: "
            f"{', '.join(data.labels[i] for i in lacking[:5])}; add videos or remove the class"
        )


def _hash_file(weights: str) -> str:
    """sha256 of a file of weights; of all tensors where it is not a single file."""
    path = locate(weights)[0]
    if not path.is_file():
        return _hash_model(weights)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_model(weights: str | PathLike[str]) -> str:
    """Of all tensors, the classifier's too: fine-tuning begins with it where the classes are the same."""
    model = load_model(weights)
    head = hashlib.sha256()
    for name, tensor in sorted(model.head.state_dict().items()):
        head.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"{hash_trunk(model)} {head.hexdigest()}"


def _tenths(progress: Progress, total: int) -> Callable[[int], None]:
    """Tells after every tenth of the videos how many are done."""
    every = max(total // 10, 1)

    def tell(done: int) -> None:
        if done % every == 0 and total >= 100:
            progress.note(f"{done} of {total} videos")

    return tell


def _path(folder: str | None) -> Path | None:
    return None if folder is None else Path(folder)
