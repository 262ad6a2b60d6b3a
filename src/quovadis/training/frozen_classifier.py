"""Train a classifier for new classes on the features of a pretrained network, in minutes on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import LogitDump, score_dump
from quovadis.evaluation.protocols import find_protocol
from quovadis.evaluation.results import EvaluationResult
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import describe_model
from quovadis.metrics.calibration import expected_calibration_error
from quovadis.models.video_model import VideoModel
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.locks import FolderLock
from quovadis.training.accuracy_curve import CurvePoint, learning_curve
from quovadis.training.checkpoint import trained_weights_info
from quovadis.training.cross_validation import CrossValidation
from quovadis.training.data_findings import DataFindings, find_in_data
from quovadis.training.frozen_features import frozen_features, hash_trunk
from quovadis.training.frozen_fit import FrozenFit, fit_on_splits, fit_with_folds
from quovadis.training.frozen_last_blocks import TrainedLastBlocks, require_one_i3d, train_last_blocks
from quovadis.training.frozen_videos import (
    FrozenVideos,
    frozen_records,
    join_features,
    require_classes,
    require_readable_classes,
    require_same_videos,
)
from quovadis.training.last_blocks import (
    LastBlocksRecipe,
    LastBlocksResult,
    cached_activations,
    require_i3d,
)
from quovadis.training.logistic import divide_logits, require_linear_head, set_heads
from quovadis.weights.files import save_weights
from quovadis.weights.load import NETWORKS_FILE, load_model


@dataclass(frozen=True)
class FrozenRun:
    """A trained classifier and its metrics."""

    folder: Path
    """The run folder, which commands accept as ``--weights``."""
    l2: float
    """The selected strength of the penalty; see :func:`quovadis.training.logistic.fit_logistic`."""
    temperature: float
    """The logits of the classifier are divided by this, so that its probabilities are calibrated."""
    result: EvaluationResult
    """Metrics on the test split, or out-of-fold metrics of all videos."""
    findings: DataFindings
    """Doubtful labels, look-alikes and a map of the videos."""
    cross_validation: CrossValidation | None = None
    """Out-of-fold predictions of the readable videos, if there were folds."""
    notes: tuple[str, ...] = ()
    """Sentences about doubtful labels, look-alikes in different folds or splits, and unequal classes."""
    curve: tuple[CurvePoint, ...] = ()
    """Accuracy against the number of training videos per class, if requested."""
    last_blocks: LastBlocksResult | None = None
    """Accuracy before and after the training of the last blocks, if requested."""

    @property
    def calibration_error(self) -> tuple[float, float]:
        """Expected calibration error of the evaluated videos, before and after division by the temperature."""
        targets = self.findings.targets[self.findings.scored]
        return (
            expected_calibration_error(self.uncalibrated, targets),
            expected_calibration_error(self.findings.probabilities, targets),
        )

    @property
    def uncalibrated(self) -> Tensor:
        """float64 (M, K): probabilities of the evaluated videos without the temperature."""
        return (self.findings.probabilities.clamp(min=1e-300).log() * self.temperature).softmax(1)


def train_frozen(
    weights: str | PathLike[str] | Sequence[str | PathLike[str]],
    data: Manifest,
    out: str | PathLike[str],
    *,
    num_folds: int = 0,
    protocol: str = "center-clip",
    balanced: bool = False,
    curve: bool = False,
    last_blocks: LastBlocksRecipe | None = None,
    seed: int = 0,
    flow: FlowSource | None = None,
    num_workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> FrozenRun:
    """Train an L2-regularized logistic regression on frozen features and evaluate it.

    Features are cached by the content of the videos, so an interrupted run continues at the next video, and later runs
    with other labels, splits or folds do not compute them again.

    Without folds, the classifier is trained on the split train; val selects the penalty and the temperature, and test
    is evaluated. With folds, the splits are not used: all videos are cross-validated, whole groups at a time, and the
    saved classifier is trained on all of them. Its temperature is fitted on the out-of-fold predictions.

    The run folder contains the complete network with the new classifier, or one folder for each of several networks.

    Args:
        weights: One or more pretrained networks: published names, files or run folders. The classifier uses the
            features of all of them, such as RGB and flow.
        data: Labeled videos.
        out: The run folder.
        num_folds: Number of folds of the cross-validation; 0 uses the splits of the data.
        protocol: The clips of each video; see :data:`quovadis.evaluation.protocols.PROTOCOLS`.
        balanced: Give all classes the same total weight.
        last_blocks: Then train the last blocks of the network, starting from the classifier. They are kept if they are
            more accurate on the validation split or, with folds, out of fold.
        curve: Measure a learning curve; see :func:`quovadis.training.learning_curve`.
        seed: Seed of the folds.
        flow: Source of optical flow, for networks that need it.
        num_workers: Number of decoding processes; 0 decodes in this process.
        progress: Called with the name of a step, the number of finished videos, folds or epochs, and their total.

    Returns:
        The run folder, the classifier and its metrics.

    Raises:
        WeightsError: If the weights cannot be read.
        DatasetError: If the data do not have a required split, have fewer groups than folds or cannot be read.
        TrainingError: If a class has no readable training video, or a network has no single linear classifier.
        StorageError: If ``out`` cannot be written to.

    Example:
        >>> data = quovadis.load_dataset("clips/")  # doctest: +SKIP
        >>> run = train_frozen("i3d-rgb-kinetics400", data, "runs/mine", num_folds=5)  # doctest: +SKIP
        >>> quovadis.Recognizer.load(run.folder).predict("video.mp4")  # doctest: +SKIP
    """
    sources = [weights] if isinstance(weights, str | PathLike) else list(weights)
    out = Path(out)
    report = progress or (lambda step, done, total: None)

    def count(step: str, total: int) -> Callable[[int], None]:
        return lambda done: report(step, done, total)

    records = frozen_records(data, num_folds)
    require_classes(data, records, num_folds)
    with FolderLock(out, "training"):
        if (out / "last.pt").exists():
            raise TrainingError(f"{out} holds a run of another recipe: choose another --out")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        models = [load_model(source).to(device) for source in sources]
        for model in models:
            require_linear_head(model)
        if last_blocks is not None:
            require_one_i3d(models, last_blocks)
        chosen, flow = find_protocol(protocol), flow or FlowSource()
        reading: dict[str, Any] = {"protocol": chosen, "flow": flow, "device": device, "num_workers": num_workers}
        features = [
            frozen_features(
                model, data, records, **reading, progress=count(f"features ({describe_model(model)})", len(records))
            )
            for model in models
        ]
        trunks = [hash_trunk(model) for model in models]
        videos = FrozenVideos(data, *join_features(features))
        require_readable_classes(videos, num_folds)
        if num_folds:
            fitted = fit_with_folds(videos, num_folds, balanced, seed, count("folds", num_folds))
        else:
            fitted = fit_on_splits(videos, balanced)
        trained: TrainedLastBlocks | None = None
        if last_blocks is not None:
            i3d = require_i3d(models[0], last_blocks.train_from)
            stored = cached_activations(
                i3d, data, records, last_blocks.train_from, **reading, progress=count("activations", len(records))
            )
            require_same_videos(videos, stored)
            epochs = partial(report, "training the last blocks, epochs")
            trained = train_last_blocks(
                i3d, videos, stored.files, fitted, last_blocks, balanced, seed, out / "folds", epochs
            )
        kept = trained is not None and trained.result.kept
        if trained is not None and kept:
            models, fitted = [trained.model], trained.fitted
        else:
            set_heads(models, data.labels, fitted.weight, fitted.bias)
        divide_logits(models, fitted.temperature)
        described = chosen.describe(models[0].spec)
        facts = {
            "source_weights": [fspath(source) for source in sources],
            "protocol": described,
            "l2": fitted.l2,
            "balanced": balanced,
            "temperature": fitted.temperature,
            "num_folds": num_folds,
            "seed": seed,
            "last_blocks": asdict(last_blocks) if last_blocks is not None and kept else None,
        }
        _save(out, models, data, flow, facts, trunks)
        findings = _find_in_data(videos, fitted)
        return FrozenRun(
            out,
            fitted.l2,
            fitted.temperature,
            _evaluate(fitted, videos, described, " + ".join(map(describe_model, models))),
            findings,
            fitted.cross_validation,
            tuple(findings.notes(balanced=balanced)),
            _curve(videos, fitted, seed) if curve else (),
            None if trained is None else trained.result,
        )


def _find_in_data(videos: FrozenVideos, fitted: FrozenFit) -> DataFindings:
    return find_in_data(
        videos.samples.mean(1),
        videos.targets,
        fitted.logits,
        fitted.scored,
        names=[videos.data.relative(r) for r in videos.readable],
        labels=videos.data.labels,
        parts=_parts(videos, fitted),
        groups=[r.group for r in videos.readable],
        files=videos.files,
    )


def _curve(videos: FrozenVideos, fitted: FrozenFit, seed: int) -> tuple[CurvePoint, ...]:
    groups = [r.group for r in videos.readable]
    return learning_curve(videos.samples.mean(1), videos.targets, groups, l2=fitted.l2, seed=seed)


def _parts(videos: FrozenVideos, fitted: FrozenFit) -> list[str]:
    """Return the fold or split of each readable video."""
    if fitted.cross_validation is not None:
        return [f"fold {fold + 1}" for fold in fitted.cross_validation.folds.tolist()]
    return [r.split for r in videos.readable]


def _save(
    out: Path, models: Sequence[VideoModel], data: Manifest, flow: FlowSource, facts: dict[str, Any], trunks: list[str]
) -> None:
    """Write the files of the run folder; the list of networks last."""
    folders = [out] if len(models) == 1 else [out / f"{i + 1}-{m.spec.stream}" for i, m in enumerate(models)]
    for model, folder, trunk in zip(models, folders, trunks, strict=True):
        info = trained_weights_info(
            model, data, recipe="frozen", flow_method=flow.method, source_trunk_sha256=trunk, **facts
        )
        save_weights(folder / "best.safetensors", model.state_dict(), info)
    write_atomically(out / "recipe.json", json.dumps({"name": "frozen", **facts}, indent=2) + "\n")
    if len(models) > 1:
        write_atomically(out / NETWORKS_FILE, json.dumps([folder.name for folder in folders], indent=2) + "\n")


def _evaluate(fitted: FrozenFit, videos: FrozenVideos, protocol: str, model: str) -> EvaluationResult:
    """Score the videos that were held out; unreadable ones count as wrong."""
    held_out = {videos.readable[i].path for i in fitted.scored.tolist()}
    kept = [
        i
        for i, (r, error) in enumerate(zip(videos.records, videos.errors, strict=True))
        if r.path in held_out or (error and (r.split == "test" or fitted.cross_validation is not None))
    ]
    logits = torch.full((len(kept), len(videos.data.labels)), torch.nan)
    logits[[row for row, i in enumerate(kept) if not videos.errors[i]]] = fitted.logits.float()
    dump = LogitDump(
        dataset=videos.data.name,
        data_fingerprint=videos.data.fingerprint,
        split=fitted.split,
        models=(model,),
        protocols=(protocol,),
        labels=videos.data.labels,
        paths=tuple(videos.data.relative(videos.records[i]) for i in kept),
        errors=tuple(videos.errors[i] for i in kept),
        targets=torch.tensor([videos.records[i].label for i in kept]),
        logits=logits[None],
    )
    return score_dump(dump)[0]
