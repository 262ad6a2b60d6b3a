"""Train a classifier for new classes on the features of a pretrained network, in minutes on a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from shutil import rmtree
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord, preview_names
from quovadis.errors import TrainingError
from quovadis.evaluation.dump import LogitDump, score_dump
from quovadis.evaluation.protocols import find_protocol
from quovadis.evaluation.results import EvaluationResult
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import describe_model
from quovadis.metrics.calibration import expected_calibration_error, fit_temperature
from quovadis.models.i3d import I3D
from quovadis.models.video_model import VideoModel
from quovadis.runtime.atomic import write_atomically
from quovadis.runtime.hashing import sha256_text
from quovadis.runtime.locks import FolderLock
from quovadis.training.accuracy_curve import CurvePoint, learning_curve
from quovadis.training.checkpoint import trained_weights_info
from quovadis.training.cross_validation import CrossValidation, cross_validate, select_strength
from quovadis.training.data_findings import DataFindings, find_in_data
from quovadis.training.frozen_features import CachedVideos, Features, frozen_features, hash_trunk
from quovadis.training.last_blocks import (
    LastBlocksRecipe,
    LastBlocksResult,
    Tail,
    cached_activations,
    require_i3d,
    tail_logits,
    train_tail,
)
from quovadis.training.logistic import L2_STRENGTHS, divide_logits, fit_logistic, require_linear_head, set_heads
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
    records = _records(data, num_folds)
    _check_classes(data, records, num_folds)
    with FolderLock(out, "training"):
        if (out / "last.pt").exists():
            raise TrainingError(f"{out} holds a run of another recipe: choose another --out")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        models = [load_model(source).to(device) for source in sources]
        for model in models:
            require_linear_head(model)
        if last_blocks is not None:
            _require_one_i3d(models, last_blocks)
        chosen, flow = find_protocol(protocol), flow or FlowSource()
        features = []
        for model in models:
            name = f"features ({describe_model(model)})"
            features.append(
                frozen_features(
                    model,
                    data,
                    records,
                    protocol=chosen,
                    flow=flow,
                    device=device,
                    num_workers=num_workers,
                    progress=lambda done, name=name: report(name, done, len(records)),  # type: ignore[misc]
                )
            )
        trunks = [hash_trunk(model) for model in models]
        videos = _Videos(data, *_join(features))
        _require_classes(videos, num_folds)
        if num_folds:
            fitted = _fit_with_folds(videos, num_folds, balanced, seed, lambda fold: report("folds", fold, num_folds))
        else:
            fitted = _fit_on_splits(videos, balanced)
        described = chosen.describe(models[0].spec)
        trained: _LastBlocks | None = None
        if last_blocks is not None:
            stored = cached_activations(
                require_i3d(models[0], last_blocks.train_from),
                data,
                records,
                last_blocks.train_from,
                protocol=chosen,
                flow=flow,
                device=device,
                num_workers=num_workers,
                progress=lambda done: report("activations", done, len(records)),
            )
            _require_same_videos(videos, stored)
            trained = _train_last_blocks(
                require_i3d(models[0], last_blocks.train_from),
                videos,
                stored.files,
                fitted,
                last_blocks,
                balanced,
                seed,
                out / "folds",
                lambda done, total: report("training the last blocks, epochs", done, total),
            )
        kept = trained is not None and trained.result.kept
        if trained is not None and kept:
            models, fitted = [trained.model], trained.fitted
        else:
            set_heads(models, data.labels, fitted.weight, fitted.bias)
        divide_logits(models, fitted.temperature)
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


@dataclass(frozen=True)
class _Videos:
    """Videos of a dataset with their features."""

    data: Manifest
    records: tuple[VideoRecord, ...]
    errors: tuple[str, ...]
    samples: Tensor
    """float32 (readable videos, views, D): the mean over time."""
    files: tuple[Path, ...]
    """The cache file of each readable video, with its filmstrip."""

    @property
    def readable(self) -> list[VideoRecord]:
        return [r for r, error in zip(self.records, self.errors, strict=True) if not error]

    @property
    def targets(self) -> Tensor:
        return torch.tensor([r.label for r in self.readable])

    def rows(self, split: str) -> Tensor:
        """Positions of the readable videos of a split."""
        return torch.tensor([i for i, r in enumerate(self.readable) if r.split == split], dtype=torch.int64)


@dataclass(frozen=True)
class _Fitted:
    weight: Tensor
    bias: Tensor
    l2: float
    temperature: float
    scored: Tensor
    """Positions of the readable videos with logits."""
    logits: Tensor
    """Calibrated logits of these videos, none of which the classifier of the logits was trained on."""
    split: str
    cross_validation: CrossValidation | None = None


def _fit_with_folds(
    videos: _Videos, num_folds: int, balanced: bool, seed: int, progress: Callable[[int], None]
) -> _Fitted:
    targets, groups = videos.targets, [r.group for r in videos.readable]
    num_classes = len(videos.data.labels)
    validation = cross_validate(
        videos.samples,
        targets,
        groups,
        num_classes,
        num_folds=num_folds,
        balanced=balanced,
        seed=seed,
        progress=progress,
    )
    l2 = select_strength(videos.samples, targets, groups, num_classes, L2_STRENGTHS, balanced, seed)
    weight, bias = _fit(videos, torch.arange(len(targets)), l2, balanced)
    temperature = fit_temperature(validation.logits, targets)
    by = "group" if any(groups) else "video"
    return _Fitted(
        weight,
        bias,
        l2,
        temperature,
        torch.arange(len(targets)),
        validation.logits / temperature,
        f"{num_folds} folds by {by}",
        validation,
    )


def _fit_on_splits(videos: _Videos, balanced: bool) -> _Fitted:
    train, val, test = (videos.rows(split) for split in ("train", "val", "test"))
    targets = videos.targets
    fits = []
    for l2 in L2_STRENGTHS:
        weight, bias = _fit(videos, train, l2, balanced)
        logits = videos.samples[val].double().mean(1) @ weight.T + bias
        fits.append((float(F.cross_entropy(logits, targets[val])), l2, weight, bias, logits))
    _, l2, weight, bias, logits = min(fits, key=lambda fit: fit[0])
    temperature = fit_temperature(logits, targets[val])
    scores = (videos.samples[test].double().mean(1) @ weight.T + bias) / temperature
    return _Fitted(weight, bias, l2, temperature, test, scores, "test")


@dataclass(frozen=True)
class _LastBlocks:
    model: VideoModel
    """The network with trained last blocks and classifier."""
    fitted: _Fitted
    """As for the classifier on frozen features, whose weights it keeps."""
    result: LastBlocksResult


def _train_last_blocks(
    model: I3D,
    videos: _Videos,
    files: Sequence[Path],
    fitted: _Fitted,
    recipe: LastBlocksRecipe,
    balanced: bool,
    seed: int,
    folder: Path,
    progress: Callable[[int, int], None],
) -> _LastBlocks:
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
            weight, bias = _fit(videos, rest, l2, balanced)
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
    return _LastBlocks(tail.model.eval(), improved, LastBlocksResult(*accuracies))


def _key_of_fold(recipe: LastBlocksRecipe, seed: int, weight: Tensor, bias: Tensor, videos: list[list[str]]) -> str:
    """Return a hash of everything that determines the trained blocks of a fold."""
    return sha256_text(json.dumps([asdict(recipe), seed, weight.tolist(), bias.tolist(), videos]))[:16]


def _read_fold(path: Path) -> Tensor | None:
    """Read the logits of a finished fold; None if it is not finished."""
    try:
        return load(path.read_bytes())["logits"]
    except (OSError, SafetensorError, KeyError):
        return None


def _require_one_i3d(models: Sequence[VideoModel], recipe: LastBlocksRecipe) -> None:
    if len(models) > 1:
        raise TrainingError(
            f"the last blocks of one network can be trained; got {len(models)} networks: train them separately, and "
            "add their logits with --weights A B"
        )
    require_i3d(models[0], recipe.train_from)


def _require_same_videos(videos: _Videos, stored: CachedVideos) -> None:
    both = zip(videos.records, videos.errors, stored.errors, strict=True)
    changed = [record.path.name for record, a, b in both if bool(a) != bool(b)]
    if changed:
        raise TrainingError(f"{preview_names(changed)} changed during the run: run the command again")


def _fit(videos: _Videos, rows: Tensor, l2: float, balanced: bool) -> tuple[Tensor, Tensor]:
    samples = videos.samples[rows]
    targets = videos.targets[rows].repeat_interleave(samples.shape[1])
    return fit_logistic(samples.flatten(0, 1), targets, len(videos.data.labels), l2=l2, balanced=balanced)


def _check_classes(data: Manifest, records: Sequence[VideoRecord], num_folds: int) -> None:
    """Raise TrainingError before anything is computed if the listed videos cannot train a classifier."""
    if len(data.labels) < 2:
        raise TrainingError(
            f"{data.name} has only the class {data.labels[0]!r}: a classifier needs at least two, for example a folder "
            "of videos that show something else"
        )
    groups: dict[int, set[str]] = {label: set() for label in range(len(data.labels))}
    for i, record in enumerate(records):
        if num_folds or record.split == "train":
            groups[record.label].add(record.group or f"\0{i}")
    empty = [data.labels[label] for label, own in groups.items() if not own]
    if empty:
        where = "video" if num_folds else "video in the training split"
        raise TrainingError(
            f"{preview_names(empty)} of {data.name} {'has' if len(empty) == 1 else 'have'} no {where}: add videos, or "
            "remove the class"
        )
    single = [data.labels[label] for label, own in groups.items() if len(own) == 1]
    if num_folds and single:
        raise TrainingError(
            f"cross-validation needs two videos or groups of videos in each class, and {preview_names(single)} of "
            f"{data.name} {'has' if len(single) == 1 else 'have'} one: add videos of another source, remove the class, "
            "or train without --folds"
        )
    num_groups = len(set().union(*groups.values()))
    if num_folds > num_groups:
        raise TrainingError(
            f"{num_folds} folds need at least {num_folds} groups of videos, and {data.name} has {num_groups}: use "
            "fewer --folds, or add videos of other sources"
        )


def _records(data: Manifest, num_folds: int) -> tuple[VideoRecord, ...]:
    """The videos that are needed: all labeled ones, or those of the three splits."""
    if num_folds:
        return tuple(r for r in data.records if r.label != UNLABELED)
    return tuple(r for split in ("train", "val", "test") for r in data.split(split))


def _require_classes(videos: _Videos, num_folds: int) -> None:
    """Raise TrainingError if a class has no readable training video, or a split no readable video."""
    rows = {split: videos.rows(split) for split in ("train", "val", "test")}
    present = videos.targets if num_folds else videos.targets[rows["train"]]
    missing = sorted(set(range(len(videos.data.labels))) - set(present.tolist()))
    if missing:
        names = preview_names([videos.data.labels[i] for i in missing])
        where = "readable video" if num_folds else "readable video in the training split"
        reasons = sorted({e for r, e in zip(videos.records, videos.errors, strict=True) if e and r.label in missing})
        raise TrainingError(
            f"{names} of {videos.data.name} {'has' if len(missing) == 1 else 'have'} no {where}"
            f"{f' ({reasons[0]})' if reasons else ''}: add videos, or remove the class"
        )
    empty = [split for split, own in rows.items() if not len(own)]
    if empty and not num_folds:
        raise TrainingError(
            f"no {empty[0]} video of {videos.data.name} can be read; add videos, or use --folds 5 (num_folds=5)"
        )


def _join(
    features: Sequence[Features],
) -> tuple[tuple[VideoRecord, ...], tuple[str, ...], Tensor, tuple[Path, ...]]:
    """Concatenate the features of several networks. A video that one of them could not use is left out."""
    first = features[0]
    errors = tuple(next(filter(None, of_video), "") for of_video in zip(*(f.errors for f in features), strict=True))
    parts = []
    for part in features:
        own = [i for i, error in enumerate(part.errors) if not error]
        kept = [row for row, i in enumerate(own) if not errors[i]]
        parts.append(part.values[kept].mean(2))
    own = [i for i, error in enumerate(first.errors) if not error]
    files = tuple(first.files[row] for row, i in enumerate(own) if not errors[i])
    return first.records, errors, torch.cat(parts, 2), files


def _find_in_data(videos: _Videos, fitted: _Fitted) -> DataFindings:
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


def _curve(videos: _Videos, fitted: _Fitted, seed: int) -> tuple[CurvePoint, ...]:
    groups = [r.group for r in videos.readable]
    return learning_curve(videos.samples.mean(1), videos.targets, groups, l2=fitted.l2, seed=seed)


def _parts(videos: _Videos, fitted: _Fitted) -> list[str]:
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


def _evaluate(fitted: _Fitted, videos: _Videos, protocol: str, model: str) -> EvaluationResult:
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
