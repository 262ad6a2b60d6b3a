"""Logit dumps: the logits of every video of a split, to evaluate and fuse models again without running them.

A dump file is one ``.npz`` of plain arrays that numpy reads without pickle.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from quovadis.errors import DatasetError, InvalidInputError
from quovadis.evaluation.results import EvaluationResult, VideoResult
from quovadis.inference.fusion import mean_probabilities, require_finite, sum_logits
from quovadis.runtime.atomic import write_atomically

FusionRule = Literal["sum_logits", "mean_probabilities"]
"""``sum_logits`` adds logits, as the official code does; ``mean_probabilities`` averages softmax probabilities."""

_LIST_FIELDS = ("models", "protocols", "labels", "paths", "errors")
_STRING_FIELDS = ("dataset", "data_fingerprint", "split")
_TOP = 5


@dataclass(frozen=True)
class LogitDump:
    """Logits of one or more models for every video of a split.

    Raises:
        InvalidInputError: If the shapes do not fit together, a target is out of range, or logits are NaN or infinite.

    Example:
        >>> dump = LogitDump(
        ...     dataset="clips", data_fingerprint="0", split="test", models=("i3d (rgb)",), protocols=("paper",),
        ...     labels=("run", "jump"), paths=("a.mp4", "b.mp4"), errors=("", ""), targets=torch.tensor([0, 1]),
        ...     logits=torch.tensor([[[2.0, 0.0], [3.0, 1.0]]]),
        ... )
        >>> [result.top1 for result in score_dump(dump)]
        [0.5]
    """

    dataset: str
    data_fingerprint: str
    """Hash of the list of videos; see :class:`quovadis.datasets.manifest.Manifest`."""
    split: str
    models: tuple[str, ...]
    """Description of each stream."""
    protocols: tuple[str, ...]
    """Description of the protocol of each stream."""
    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    paths: tuple[str, ...]
    errors: tuple[str, ...]
    """Why a video could not be read; empty if it could."""
    targets: Tensor
    """int64 (videos,)."""
    logits: Tensor
    """float32 (streams, videos, classes); all NaN for an unreadable video, otherwise finite."""

    def __post_init__(self) -> None:
        expected = (len(self.models), len(self.paths), len(self.labels))
        if tuple(self.logits.shape) != expected:
            raise InvalidInputError(f"logits must be (streams, videos, classes) = {expected}; got {self.logits.shape}")
        lengths = {len(self.targets), len(self.errors), len(self.paths)}
        if len(lengths) != 1 or len(self.protocols) != len(self.models):
            raise InvalidInputError("a dump needs one target and one error per path, and one protocol per model")
        if len(self.targets) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < len(self.labels):
            raise InvalidInputError(f"targets must be classes from 0 to {len(self.labels) - 1}")
        for model, logits in zip(self.models, self.logits, strict=True):
            _require_finite_rows(self, logits, model)

    def unreadable(self, logits: Tensor) -> Tensor:
        """Mask, bool (videos,), of the videos with an error and only NaN in ``logits`` (videos, classes)."""
        return torch.tensor([bool(error) for error in self.errors], dtype=torch.bool) & logits.isnan().all(1)

    @classmethod
    def of(cls, results: Sequence[EvaluationResult]) -> LogitDump:
        """Collect the logits of evaluations of the same videos, one result for each stream.

        Leave out the results of fusions, which :func:`score_dump` computes from the streams.

        Raises:
            DatasetError: If the results are of different videos.
        """
        index = {label: i for i, label in enumerate(results[0].labels)}
        parts = [
            cls(
                dataset=r.dataset,
                data_fingerprint=r.data_fingerprint,
                split=r.split,
                models=(r.model,),
                protocols=(r.protocol,),
                labels=r.labels,
                paths=tuple(v.path for v in r.videos),
                errors=tuple(v.error for v in r.videos),
                targets=torch.tensor([index[v.label] for v in r.videos], dtype=torch.int64),
                logits=r.logits[None],
            )
            for r in results
        ]
        return join_dumps(parts)


def write_dump(path: str | PathLike[str], dump: LogitDump) -> Path:
    """Write a dump under exactly this name; the file is complete or not written at all.

    Raises:
        StorageError: If the file cannot be written.

    Example:
        >>> dump = LogitDump(
        ...     "clips", "0", "test", ("i3d (rgb)",), ("paper",), ("run", "jump"), ("a.mp4",), ("",),
        ...     torch.tensor([0]), torch.tensor([[[2.0, 0.0]]]),
        ... )
        >>> read_dump(write_dump(getfixture("tmp_path") / "scores.npz", dump)).logits.tolist()
        [[[2.0, 0.0]]]
    """
    arrays: dict[str, Any] = {name: np.array(getattr(dump, name), np.str_) for name in (*_LIST_FIELDS, *_STRING_FIELDS)}
    arrays |= {"targets": dump.targets.numpy(), "logits": dump.logits.numpy()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_atomically(path, buffer.getvalue())


def read_dump(path: str | PathLike[str]) -> LogitDump:
    """Read a file written by :func:`write_dump`; see the example there.

    Raises:
        InvalidInputError: If there is no such file, or it is not a dump.

    Example:
        >>> dump = read_dump("logits.npz")  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"no logit dump at {path}: write one with quovadis evaluate --dump {path}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            fields: dict[str, Any] = {name: tuple(file[name].tolist()) for name in _LIST_FIELDS}
            fields |= {name: str(file[name]) for name in _STRING_FIELDS}
            targets = torch.from_numpy(file["targets"].astype(np.int64))
            logits = torch.from_numpy(file["logits"].astype(np.float32))
        return LogitDump(**fields, targets=targets, logits=logits)
    except Exception as error:  # numpy and zipfile raise many types of exceptions for damaged files
        raise InvalidInputError(f"{path} is not a dump written by quovadis evaluate --dump: {error}") from error


def join_dumps(dumps: Sequence[LogitDump], names: Sequence[str] | None = None) -> LogitDump:
    """Combine the streams of dumps of the same videos.

    A video that is unreadable for one stream is unreadable for their fusion.

    Args:
        dumps: One or more dumps.
        names: Names of the dumps for error messages.

    Raises:
        DatasetError: If the dumps differ in data fingerprint, split, labels or videos.
        InvalidInputError: If there are no dumps.

    Example:
        >>> dump = LogitDump(
        ...     "clips", "0", "test", ("i3d (rgb)",), ("paper",), ("run", "jump"), ("a.mp4",), ("",),
        ...     torch.tensor([0]), torch.tensor([[[2.0, 0.0]]]),
        ... )
        >>> join_dumps([dump, dump]).models
        ('i3d (rgb)', 'i3d (rgb)')
    """
    if not dumps:
        raise InvalidInputError("there are no dumps to fuse")
    first = dumps[0]
    names = list(names or (f"dump {i}" for i in range(1, len(dumps) + 1)))
    for dump, name in zip(dumps[1:], names[1:], strict=True):
        for field in ("data_fingerprint", "split", "labels", "paths"):
            here, there = getattr(first, field), getattr(dump, field)
            if here != there:
                raise DatasetError(
                    f"{names[0]} and {name} differ in {field.replace('_', ' ')} ({_difference(here, there)}): only "
                    "scores of the same videos and classes can be fused; evaluate both on the same data and split"
                )
        if not torch.equal(first.targets, dump.targets):
            raise DatasetError(f"{names[0]} and {name} assign different classes to the same videos")
    errors = tuple(next(filter(None, of_video), "") for of_video in zip(*(d.errors for d in dumps), strict=True))
    return LogitDump(
        dataset=first.dataset,
        data_fingerprint=first.data_fingerprint,
        split=first.split,
        models=tuple(m for d in dumps for m in d.models),
        protocols=tuple(p for d in dumps for p in d.protocols),
        labels=first.labels,
        paths=first.paths,
        errors=errors,
        targets=first.targets,
        logits=torch.cat([d.logits for d in dumps]),
    )


def score_dump(
    dump: LogitDump, *, weights: Sequence[float] | None = None, rule: FusionRule = "sum_logits"
) -> list[EvaluationResult]:
    """Compute the metrics of each stream and of their fusion.

    Args:
        dump: One dump; combine the dumps of several streams with :func:`join_dumps`.
        weights: Weight of each stream in the fusion; None for equal weights of 1.
        rule: ``sum_logits`` or ``mean_probabilities``. With the latter, the logits of the result are the logarithms of
            the averaged probabilities.

    Returns:
        One result for each stream, followed by that of the fusion; a single result for a single stream.

    Raises:
        InvalidInputError: If the weights do not fit the streams, or are so large that a sum of logits is infinite.

    Example:
        >>> dump = LogitDump(
        ...     "clips", "0", "test", ("i3d (rgb)",), ("paper",), ("run", "jump"), ("a.mp4",), ("",),
        ...     torch.tensor([0]), torch.tensor([[[2.0, 0.0]]]),
        ... )
        >>> [(result.model, result.top1) for result in score_dump(join_dumps([dump, dump]), weights=[1, 0.5])]
        [('i3d (rgb)', 1.0), ('i3d (rgb)', 1.0), ('i3d (1 x rgb + 0.5 x rgb)', 1.0)]
    """
    fused = _fuse(dump.logits, weights, rule)
    results = []
    for model, protocol, logits in zip(dump.models, dump.protocols, dump.logits, strict=True):
        unreadable = dump.unreadable(logits).tolist()
        errors = [error if bad else "" for error, bad in zip(dump.errors, unreadable, strict=True)]
        results.append(_summarize(dump, logits, errors, model=model, protocol=protocol))
    if len(results) > 1:
        model = _describe_fusion(dump.models, weights, rule)
        protocol = "; ".join(dict.fromkeys(dump.protocols))
        results.append(_summarize(dump, fused, dump.errors, model=model, protocol=protocol))
    return results


def _summarize(
    dump: LogitDump, logits: Tensor, errors: Sequence[str], *, model: str, protocol: str
) -> EvaluationResult:
    """Compute the metrics of logits (videos, classes)."""
    _require_finite_rows(dump, logits, model)
    num_videos, num_classes = logits.shape
    readable = ~dump.unreadable(logits)
    scores, targets = logits[readable], dump.targets[readable]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    top5, loss = 0.0, float("nan")
    if len(scores):
        cells = targets * num_classes + scores.argmax(1)
        confusion = torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
        best = scores.topk(min(_TOP, num_classes)).indices
        top5 = float((best == targets[:, None]).any(1).float().mean())
        loss = float(torch.nn.functional.cross_entropy(scores, targets))
    class_sizes = torch.bincount(dump.targets, minlength=num_classes)
    num_correct = confusion.diagonal()
    present = class_sizes > 0
    videos = []
    for i, path in enumerate(dump.paths):
        top: tuple[tuple[str, float], ...] = ()
        if readable[i]:
            values, indices = logits[i].softmax(0).topk(min(_TOP, num_classes))
            top = tuple((dump.labels[c], float(p)) for p, c in zip(values, indices.tolist(), strict=True))
        videos.append(VideoResult(path, dump.labels[int(dump.targets[i])], top, errors[i]))
    return EvaluationResult(
        dataset=dump.dataset,
        data_fingerprint=dump.data_fingerprint,
        split=dump.split,
        protocol=protocol,
        model=model,
        labels=dump.labels,
        top1=float(num_correct.sum()) / num_videos,
        top5=top5 * len(scores) / num_videos,
        mean_class=float((num_correct[present] / class_sizes[present]).mean()),
        loss=loss,
        confusion=confusion,
        videos=tuple(videos),
        logits=logits,
    )


def _require_finite_rows(dump: LogitDump, logits: Tensor, model: str) -> None:
    """Check that the logits (videos, classes) of all readable videos are finite."""
    invalid = ~(logits.isfinite().all(1) | dump.unreadable(logits))
    for i in invalid.nonzero().flatten().tolist():
        require_finite(logits[i], model, dump.paths[i])


def _fuse(streams: Tensor, weights: Sequence[float] | None, rule: FusionRule) -> Tensor:
    if rule == "sum_logits":
        return sum_logits(list(streams), weights)
    # A probability of zero would make the loss infinite, so the smallest positive float replaces it.
    probabilities = mean_probabilities(list(streams.double()), weights)
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log().float()


def _describe_fusion(models: Sequence[str], weights: Sequence[float] | None, rule: str) -> str:
    """Describe a fusion; models of the same name are merged.

    >>> _describe_fusion(["i3d (rgb)", "i3d (flow)"], None, "sum_logits")
    'i3d (rgb + flow)'
    >>> _describe_fusion(["i3d (rgb)", "conv3d (rgb)"], [1, 0.5], "mean_probabilities")
    '1 x i3d (rgb) + 0.5 x conv3d (rgb), mean probabilities'
    """
    names = {model.partition(" (")[0] for model in models}
    parts = [model.partition(" (")[2].rstrip(")") for model in models] if len(names) == 1 else list(models)
    if weights is not None and set(weights) != {1}:
        parts = [f"{weight:g} x {part}" for weight, part in zip(weights, parts, strict=True)]
    text = " + ".join(parts)
    text = f"{names.pop()} ({text})" if len(names) == 1 else text
    return text if rule == "sum_logits" else f"{text}, mean probabilities"


def _difference(here: Any, there: Any) -> str:
    """Describe the first difference between two strings or sequences."""
    if isinstance(here, str):
        return f"{here} and {there}"
    if len(here) != len(there):
        return f"{len(here)} and {len(there)}"
    index = next(i for i, (a, b) in enumerate(zip(here, there, strict=True)) if a != b)
    return f"number {index + 1} is {here[index]} and {there[index]}"
