"""Evaluate a recognizer on a split of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from quovadis import transforms
from quovadis.datasets.loader import VideoDataLoader
from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.errors import TooFewFramesError, VideoError
from quovadis.evaluation.dump import LogitDump, score_dump
from quovadis.evaluation.protocols import Protocol, find_protocol
from quovadis.evaluation.results import EvaluationResult
from quovadis.flow.source import FlowSource
from quovadis.inference.recognizer import Recognizer
from quovadis.models.spec import ModelSpec
from quovadis.runtime import distributed
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames


class ProtocolVideos(Dataset[tuple[int, Clip | None, str]]):
    """Videos read as far as a protocol needs them.

    Items are ``(index, video, error)``. The video is at the model's frame rate and short side, and center-cropped if
    the protocol has a single crop; it is None if it cannot be read. :meth:`Protocol.views` cuts it into clips after the
    transfer between processes, because up to 30 clips share the same frames.
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
        spec, max_frames = self.spec, self.protocol.max_frames(self.spec)
        with VideoReader(record.path, num_threads=1) as reader:
            clip = reader.read(
                fps=spec.fps,
                stop_seconds=None if max_frames is None else reader.frame_seconds(max_frames, spec.fps),
                transform=partial(resize_frames, short_side_px=spec.short_side_px),
            )
        assert clip is not None
        if self.flow is None:
            return clip
        return self.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_frame_index=0)


def evaluate(
    recognizer: Recognizer,
    data: Manifest,
    *,
    split: str = "test",
    protocol: str | None = None,
    num_workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> EvaluationResult:
    """Evaluate a recognizer on a split of a dataset.

    Args:
        recognizer: One or more models; the logits of several models are added.
        data: Labeled videos. Their classes are matched to those of the recognizer by name.
        split: ``train``, ``val`` or ``test``.
        protocol: Name of a test protocol; see :data:`quovadis.evaluation.protocols.PROTOCOLS`. Defaults to that of the
            model, which is ``paper`` for I3D.
        num_workers: Number of decoding processes; 0 decodes in this process.
        progress: Called with the number of videos done. With several processes, this is an estimate.

    Returns:
        The metrics. Videos that cannot be read count as wrong and are listed.

    Raises:
        DatasetError: If the recognizer does not have all classes of the data.
        UnknownNameError: If there is no such split or protocol.
        InvalidInputError: If stored flow was made with other settings, or logits are NaN or infinite.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> video = getfixture("clip_path")
        >>> data = Manifest("clips", video.parent, ("run", "jump"), (VideoRecord(video, 0, "test"),))
        >>> recognizer = Recognizer([build_model("i3d_tiny", num_classes=2)], ("run", "jump"))
        >>> result = evaluate(recognizer, data, protocol="paper", num_workers=0)
        >>> result.num_videos, result.top1 in (0.0, 1.0)
        (1, True)
        >>> result.protocol
        'paper: first 16 frames at 25 fps, shorter videos looped, center crop 64 px, logits averaged'
    """
    return evaluate_streams(
        recognizer, data, split=split, protocol=protocol, num_workers=num_workers, progress=progress
    )[-1]


def evaluate_streams(
    recognizer: Recognizer,
    data: Manifest,
    *,
    split: str = "test",
    protocol: str | None = None,
    num_workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[EvaluationResult]:
    """Evaluate each model of a recognizer and their sum, as the columns RGB, Flow and RGB + Flow of Table 2.

    With several processes (:mod:`quovadis.runtime.distributed`), each evaluates a part of the videos. All processes
    return the same results, bit-identical to those of a single process.

    Arguments and exceptions are those of :func:`evaluate`.

    Returns:
        One result for each model, followed by that of their sum; a single result for a single model.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> video = getfixture("clip_path")
        >>> data = Manifest("clips", video.parent, ("run", "jump"), (VideoRecord(video, 0, "test"),))
        >>> models = [build_model("i3d_tiny", stream=s, num_classes=2) for s in ("rgb", "flow")]
        >>> recognizer = Recognizer(models, ("run", "jump"), flow=FlowSource("tvl1-fast"))
        >>> [result.model for result in evaluate_streams(recognizer, data, protocol="paper", num_workers=0)]
        ['i3d_tiny (rgb)', 'i3d_tiny (flow)', 'i3d_tiny (rgb + flow)']
    """
    data = data.with_labels(recognizer.labels)
    records = data.split(split)
    test_protocol = find_protocol(protocol or recognizer.spec.protocol)
    scores = _score(recognizer, data, records, test_protocol, num_workers, progress)
    unreadable = torch.full((len(recognizer.models), len(data.labels)), torch.nan)
    logits = [unreadable if s.logits is None else s.logits for s in scores]
    dump = LogitDump(
        dataset=data.name,
        data_fingerprint=data.fingerprint,
        split=split,
        models=tuple(recognizer.describe_models()),
        protocols=(test_protocol.describe(recognizer.spec),) * len(recognizer.models),
        labels=data.labels,
        paths=tuple(data.relative(r) for r in records),
        errors=tuple(s.error for s in scores),
        targets=torch.tensor([r.label for r in records], dtype=torch.int64),
        logits=torch.stack(logits, 1).float(),
    )
    return score_dump(dump)


def training_notes(recognizer: Recognizer, data: Manifest, split: str) -> list[str]:
    """Tell whether the evaluated videos were used for training, as far as the weights record it.

    Returns:
        A sentence for each model that was trained on the split or, with cross-validation, on all videos of the data.

    Example:
        >>> from pathlib import Path
        >>> from quovadis.models.zoo import build_model
        >>> model = build_model("i3d_tiny", num_classes=2)
        >>> model.source = {"recipe": "frozen", "data": "clips", "num_folds": 5}
        >>> data = Manifest("clips", Path("clips"), ("run", "jump"), (VideoRecord(Path("a.mp4"), 0, "test"),))
        >>> training_notes(Recognizer([model], data.labels), data, "test")[0].partition(":")[0]
        'i3d_tiny (rgb) was trained on all videos of clips'
    """
    notes = []
    for name, model in zip(recognizer.describe_models(), recognizer.models, strict=True):
        source = model.source
        if source.get("num_folds") and source.get("data") == data.name:
            notes.append(
                f"{name} was trained on all videos of {data.name}: its accuracy on them says nothing about other "
                "videos. The accuracy of the cross-validation is in results.json of the run folder"
            )
        elif split == "train" and source.get("data_fingerprint") == data.fingerprint:
            notes.append(f"{name} was trained on these videos: evaluate the split test")
    return notes


@dataclass(frozen=True)
class _VideoScores:
    logits: Tensor | None
    """float32 (models, classes); None if the video could not be read."""
    error: str


def _score(
    recognizer: Recognizer,
    data: Manifest,
    records: Sequence[VideoRecord],
    protocol: Protocol,
    num_workers: int,
    progress: Callable[[int], None] | None,
) -> list[_VideoScores]:
    """Compute the logits of all videos; every process computes a part and returns all."""
    flow = replace(recognizer.flow, videos=data.root) if recognizer.needs_flow else None
    videos = ProtocolVideos(records, recognizer.spec, protocol, flow)
    part = Subset(videos, range(distributed.rank(), len(records), distributed.world_size()))
    scores: dict[int, _VideoScores] = {}
    with VideoDataLoader(part, batch_size=None, num_workers=num_workers) as loader:
        for index, video, error in loader:
            logits = None
            if video is not None:
                views = [recognizer.stream_logits(view) for view in protocol.views(video, recognizer.spec)]
                logits = torch.stack([torch.stack(of_model).mean(0) for of_model in zip(*views, strict=True)])
            scores[index] = _VideoScores(logits, error)
            if progress is not None:
                progress(min(len(scores) * distributed.world_size(), len(records)))
    for gathered in distributed.gather(scores):
        scores |= gathered
    return [scores[index] for index in range(len(records))]
