"""Measure a recognizer on a split by a protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from quovadis import transforms
from quovadis.datasets.loader import SafeDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import TooFewFramesError, VideoError
from quovadis.evaluation.protocols import Protocol, find_protocol
from quovadis.evaluation.results import EvaluationResult, VideoResult
from quovadis.flow.source import FlowSource
from quovadis.inference.fusion import require_finite, sum_logits
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec
from quovadis.runtime import distributed
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames

_TOP = 5


class ProtocolVideos(Dataset[tuple[int, Clip | None, str]]):
    """For each video as much of it as a protocol looks at; or why it cannot be read.

    Items are ``(index, video, error)``; the video is at the model's frame rate and short side, and already cropped
    where there is one crop only. :meth:`Protocol.views` makes clips of it: there can be thirty, so they do not travel.
    """

    def __init__(
        self, records: Sequence[VideoRecord], spec: ModelSpec, protocol: Protocol, flow: FlowSource | None = None
    ):
        self.records = tuple(records)
        self.flow = flow
        self.spec = spec
        self.protocol = protocol

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[int, Clip | None, str]:
        try:
            video = self._read(self.records[index])
        except (VideoError, TooFewFramesError) as error:
            return index, None, str(error)
        if self.protocol.num_crops == 1:
            video = transforms.center_crop(video, self.spec.size_px)
        return index, video, ""

    def _read(self, record: VideoRecord) -> Clip:
        """As much of the video as the protocol looks at, with flow where a model wants it."""
        spec, longest = self.spec, self.protocol.longest(self.spec)
        with VideoReader(record.path, num_threads=1) as reader:
            clip = reader.read(
                fps=spec.fps,
                stop_seconds=None if longest is None else reader.frame_seconds(longest, spec.fps),
                transform=partial(resize_frames, short_side_px=spec.short_side_px),
            )
        assert clip is not None
        if self.flow is None:
            return clip
        return self.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_tick=0)


def evaluate(
    recognizer: Recognizer,
    data: Manifest,
    *,
    split: str = "test",
    protocol: str | None = None,
    num_workers: int = 1,
    on_video: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Measure a recognizer.

    Args:
        recognizer: the model or models.
        data: labeled videos; the recognizer must know all their classes, by name.
        split: ``train``, ``val`` or ``test``.
        protocol: see :data:`quovadis.evaluation.protocols.PROTOCOLS`; None takes the model's own, the paper's for I3D.
        num_workers: processes that decode; 0 decodes here.
        on_video: called with the number of videos done, as far as this process can tell.

    Returns:
        The figures. A video that cannot be read counts as wrong in all of them, and is listed.

    Raises:
        DatasetError: classes that the recognizer does not know. UnknownNameError: no such split or protocol.
        InvalidInputError: stored flow that was made otherwise than the recognizer's; logits that are NaN or infinite.
    """
    return evaluate_streams(
        recognizer, data, split=split, protocol=protocol, num_workers=num_workers, on_video=on_video
    )[-1]


def evaluate_streams(
    recognizer: Recognizer,
    data: Manifest,
    *,
    split: str = "test",
    protocol: str | None = None,
    num_workers: int = 1,
    on_video: Callable[[int], None] | None = None,
) -> list[EvaluationResult]:
    """Measure a recognizer and each of its models in one pass: the columns RGB, Flow and RGB + Flow of Table 2.

    With several processes (:mod:`quovadis.runtime.distributed`), each evaluates a part of the videos. All processes
    return the same results, bit-identical to those of a single process.

    Args and Raises are those of :func:`evaluate`.

    Returns:
        One result a model, and last the one of all together; of a single model only that.
    """
    data = data.with_labels(recognizer.labels)
    records = data.split(split)
    chosen = find_protocol(protocol or recognizer.spec.protocol)
    flow = replace(recognizer.flow, videos=data.root) if recognizer.needs_flow else None
    videos = ProtocolVideos(records, recognizer.spec, chosen, flow)
    own = Subset(videos, range(distributed.rank(), len(records), distributed.world_size()))
    loader = SafeDataLoader(own, batch_size=None, num_workers=num_workers)
    found: dict[int, tuple[list[Tensor] | None, str]] = {}
    for index, video, error in loader:
        scores = None
        if video is not None:
            of_views = [recognizer.stream_logits(view) for view in chosen.views(video, recognizer.spec)]
            scores = [torch.stack(of_model).mean(0) for of_model in zip(*of_views, strict=True)]
        found[index] = scores, error
        if on_video is not None:
            on_video(min(len(found) * distributed.world_size(), len(records)))
    for part in distributed.gather(found):
        found |= part
    logits: list[list[Tensor | None]] = [
        [None if (scores := found[i][0]) is None else scores[number] for i in range(len(records))]
        for number in range(len(recognizer.models))
    ]
    errors = [found[i][1] for i in range(len(records))]
    names = recognizer.describe_models()
    if len(names) > 1:
        logits.append([_sum(rows) for rows in zip(*logits, strict=True)])
        names.append(recognizer.describe())
    return [
        summarize(
            scores,
            [r.label for r in records],
            [data.relative(r) for r in records],
            errors,
            labels=data.labels,
            dataset=data.name,
            data_fingerprint=data.fingerprint,
            split=split,
            protocol=chosen.describe(recognizer.spec),
            model=name,
        )
        for scores, name in zip(logits, names, strict=True)
    ]


def _sum(scores: Sequence[Tensor | None]) -> Tensor | None:
    """The models' scores of one video together; None where it could not be read."""
    there = [s for s in scores if s is not None]
    return sum_logits(there) if there else None


def summarize(
    logits: Sequence[Tensor | None],
    targets: Sequence[int],
    paths: Sequence[str],
    errors: Sequence[str],
    *,
    labels: tuple[str, ...],
    dataset: str,
    data_fingerprint: str,
    split: str,
    protocol: str,
    model: str,
) -> EvaluationResult:
    """Figures from per-video logits; None stands for a video that could not be read, and counts as wrong.

    Raises:
        InvalidInputError: If a logit is NaN or infinite.
    """
    for row, path in zip(logits, paths, strict=True):
        if row is not None:
            require_finite(row, model, path)
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_confusion_matrix

    num_classes = len(labels)
    readable = [i for i, scores in enumerate(logits) if scores is not None]
    scores = torch.stack([s for s in logits if s is not None]) if readable else torch.zeros(0, num_classes)
    truth = torch.tensor([targets[i] for i in readable], dtype=torch.long)
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    top5, loss = 0.0, float("nan")
    if readable:
        confusion = multiclass_confusion_matrix(scores, truth, num_classes)
        top5 = float(multiclass_accuracy(scores, truth, num_classes, average="micro", top_k=min(_TOP, num_classes)))
        loss = float(torch.nn.functional.cross_entropy(scores, truth))
    of_class = torch.bincount(torch.tensor(targets), minlength=num_classes)
    right = confusion.diagonal()
    present = of_class > 0
    videos = []
    for i, path in enumerate(paths):
        row = logits[i]
        top: tuple[tuple[str, float], ...] = ()
        if row is not None:
            values, indices = row.softmax(0).topk(min(_TOP, num_classes))
            top = tuple((labels[c], float(p)) for p, c in zip(values, indices.tolist(), strict=True))
        videos.append(VideoResult(path, labels[targets[i]], top, errors[i]))
    return EvaluationResult(
        dataset=dataset,
        data_fingerprint=data_fingerprint,
        split=split,
        protocol=protocol,
        model=model,
        labels=labels,
        top1=float(right.sum()) / len(targets),
        top5=top5 * len(readable) / len(targets),
        mean_class=float((right[present] / of_class[present]).mean()),
        loss=loss,
        confusion=confusion,
        videos=tuple(videos),
        logits=torch.stack([torch.full((num_classes,), torch.nan) if s is None else s.float() for s in logits]),
    )
