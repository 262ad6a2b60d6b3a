"""What networks said about every video, kept: scores can be fused and measured again without any network.

A dump is one ``.npz`` of plain arrays, without pickles, which numpy alone can read.
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
from quovadis.evaluation.evaluate import summarize
from quovadis.evaluation.results import EvaluationResult
from quovadis.inference.fusion import mean_probabilities, require_finite, sum_logits
from quovadis.weights.files import write_atomically

FusionRule = Literal["sum_logits", "mean_probabilities"]
"""Add logits, as the official code does; or average softmaxes."""

_LISTS = ("models", "protocols", "labels", "paths", "errors")
_WORDS = ("dataset", "data_fingerprint", "split")


@dataclass(frozen=True)
class LogitDump:
    """The scores of one or more models for every video of a split."""

    dataset: str
    data_fingerprint: str
    """Hash of the list of videos; see :class:`quovadis.datasets.manifest.Manifest`."""
    split: str
    models: tuple[str, ...]
    """Each stream in words."""
    protocols: tuple[str, ...]
    """How each stream was shown the videos, in words."""
    labels: tuple[str, ...]
    """Class names in the order of the logits."""
    paths: tuple[str, ...]
    errors: tuple[str, ...]
    """Why a video could not be read; empty where it could."""
    targets: Tensor
    """int64 (videos,)."""
    logits: Tensor
    """float32 (streams, videos, classes); all NaN where a video could not be read, finite elsewhere."""

    def __post_init__(self) -> None:
        expected = (len(self.models), len(self.paths), len(self.labels))
        if tuple(self.logits.shape) != expected:
            raise InvalidInputError(f"logits must be (streams, videos, classes) = {expected}; got {self.logits.shape}")
        lengths = {len(self.targets), len(self.errors), len(self.paths)}
        if len(lengths) != 1 or len(self.protocols) != len(self.models):
            raise InvalidInputError("a dump needs one target and one error a path, and one protocol a model")
        if len(self.targets) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < len(self.labels):
            raise InvalidInputError(f"targets must be classes from 0 to {len(self.labels) - 1}")
        for model, stream in zip(self.models, self.logits, strict=True):
            finite_or_unreadable = stream.isfinite().all(1) | self._unreadable(stream)
            for i in (~finite_or_unreadable).nonzero().flatten().tolist():
                require_finite(stream[i], model, self.paths[i])

    def rows(self, stream: Tensor) -> list[Tensor | None]:
        """The logits of each video, of a stream (videos, classes) or a fusion; None where it could not be read."""
        return [None if bad else row for bad, row in zip(self._unreadable(stream).tolist(), stream, strict=True)]

    def _unreadable(self, stream: Tensor) -> Tensor:
        """Which videos, bool (videos,), have an error and only NaN in the logits (videos, classes) of a stream."""
        return torch.tensor([bool(error) for error in self.errors], dtype=torch.bool) & stream.isnan().all(1)

    @classmethod
    def of(cls, results: Sequence[EvaluationResult]) -> LogitDump:
        """The scores of evaluations of the same videos, one a stream: fusions are left out, as they follow from these.

        Raises:
            DatasetError: they are of different videos.
        """
        number = {label: i for i, label in enumerate(results[0].labels)}
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
                targets=torch.tensor([number[v.label] for v in r.videos], dtype=torch.int64),
                logits=r.logits[None],
            )
            for r in results
        ]
        return join_dumps(parts)


def write_dump(path: str | PathLike[str], dump: LogitDump) -> Path:
    """Write a dump; the file appears whole or not at all, under just this name.

    Raises:
        StorageError: it cannot be written.
    """
    arrays: dict[str, Any] = {name: np.array(getattr(dump, name), dtype=np.str_) for name in (*_LISTS, *_WORDS)}
    arrays |= {"targets": dump.targets.numpy(), "logits": dump.logits.numpy()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return write_atomically(path, buffer.getvalue())


def read_dump(path: str | PathLike[str]) -> LogitDump:
    """Read what :func:`write_dump` wrote.

    Raises:
        InvalidInputError: no such file, or no dump.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidInputError(f"no dump of logits at {path}: write one with quovadis evaluate --dump {path}")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            fields: dict[str, Any] = {name: tuple(file[name].tolist()) for name in _LISTS}
            fields |= {name: str(file[name]) for name in _WORDS}
            targets = torch.from_numpy(file["targets"].astype(np.int64))
            logits = torch.from_numpy(file["logits"].astype(np.float32))
        return LogitDump(**fields, targets=targets, logits=logits)
    except Exception as error:  # numpy and zipfile raise nearly anything for a damaged file
        raise InvalidInputError(f"{path} is no dump of quovadis evaluate --dump: {error}") from error


def join_dumps(dumps: Sequence[LogitDump], names: Sequence[str] | None = None) -> LogitDump:
    """The streams of several dumps of the same videos in one.

    A video that one of them could not read has the error of that one for all: no fusion exists for it.

    Args:
        dumps: one or more.
        names: what to call them in messages.

    Raises:
        DatasetError: they differ in data fingerprint, split, labels or videos. InvalidInputError: there are none.
    """
    if not dumps:
        raise InvalidInputError("there are no dumps to fuse")
    first = dumps[0]
    names = list(names or (f"dump {i}" for i in range(1, len(dumps) + 1)))
    for dump, name in zip(dumps[1:], names[1:], strict=True):
        for what in ("data_fingerprint", "split", "labels", "paths"):
            here, there = getattr(first, what), getattr(dump, what)
            if here != there:
                raise DatasetError(
                    f"{names[0]} and {name} differ in {what.replace('_', ' ')} ({_difference(here, there)}): only "
                    "scores of the same videos and classes can be fused; evaluate both on the same data and split"
                )
        if not torch.equal(first.targets, dump.targets):
            raise DatasetError(f"{names[0]} and {name} give the same videos different classes")
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
    """The figures of each stream, and last of their fusion; of a single stream only those.

    Args:
        dump: of one file, or joined from several.
        weights: of each stream in the fusion; None is 1 for each.
        rule: add logits, or average probabilities. The logits of the result are then logarithms of the averages.

    Raises:
        InvalidInputError: weights that do not fit the streams, or so large that a sum of logits is infinite.
    """
    rows = [(dump.rows(stream), m, p) for stream, m, p in zip(dump.logits, dump.models, dump.protocols, strict=True)]
    fused = _fuse(dump.logits, weights, rule)
    if len(rows) > 1:
        rows.append((dump.rows(fused), _describe(dump.models, weights, rule), "; ".join(dict.fromkeys(dump.protocols))))
    return [
        summarize(
            logits,
            dump.targets.tolist(),
            dump.paths,
            dump.errors if i == len(dump.models) else _own_errors(logits, dump.errors),
            labels=dump.labels,
            dataset=dump.dataset,
            data_fingerprint=dump.data_fingerprint,
            split=dump.split,
            protocol=protocol,
            model=model,
        )
        for i, (logits, model, protocol) in enumerate(rows)
    ]


def _fuse(streams: Tensor, weights: Sequence[float] | None, rule: FusionRule) -> Tensor:
    if rule == "sum_logits":
        return sum_logits(list(streams), weights)
    # Zero probabilities would make an infinite loss of one video; the smallest float is small enough.
    probabilities = mean_probabilities(list(streams.double()), weights)
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log().float()


def _own_errors(logits: Sequence[Tensor | None], errors: Sequence[str]) -> list[str]:
    """The errors of the videos that this stream could not read."""
    return [error if row is None else "" for row, error in zip(logits, errors, strict=True)]


def _describe(models: Sequence[str], weights: Sequence[float] | None, rule: str) -> str:
    """The fusion in words: ``i3d (rgb + flow)``, or with each stream in full where they are of different kinds.

    >>> _describe(["i3d (rgb)", "i3d (flow)"], None, "sum_logits")
    'i3d (rgb + flow)'
    >>> _describe(["i3d (rgb)", "conv3d (rgb)"], [1, 0.5], "mean_probabilities")
    '1 x i3d (rgb) + 0.5 x conv3d (rgb), mean probabilities'
    """
    kinds = {name.partition(" (")[0] for name in models}
    parts = [name.partition(" (")[2].rstrip(")") for name in models] if len(kinds) == 1 else list(models)
    if weights is not None and set(weights) != {1}:
        parts = [f"{weight:g} x {part}" for weight, part in zip(weights, parts, strict=True)]
    text = " + ".join(parts)
    text = f"{kinds.pop()} ({text})" if len(kinds) == 1 else text
    return text if rule == "sum_logits" else f"{text}, mean probabilities"


def _difference(here: Any, there: Any) -> str:
    """Where two values part, in few words."""
    if isinstance(here, str):
        return f"{here} and {there}"
    if len(here) != len(there):
        return f"{len(here)} and {len(there)}"
    place = next(i for i, (a, b) in enumerate(zip(here, there, strict=True)) if a != b)
    return f"number {place + 1} is {here[place]} and {there[place]}"
