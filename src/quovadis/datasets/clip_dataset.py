"""Training clips: one random stretch of a video, cropped and flipped at random; every choice follows from the seed.

Nothing here keeps random state. Which videos make batch ``s``, and how each is cut, are functions of (seed, step), so a
run that was killed goes on with exactly the batches it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from quovadis import transforms
from quovadis.datasets.manifest import VideoRecord
from quovadis.errors import DatasetError, TooFewFramesError, VideoError
from quovadis.flow.source import FlowSource
from quovadis.models.inputs import clip_to_streams
from quovadis.models.spec import ModelSpec
from quovadis.runtime.jobs import num_cores
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import even_starts, fit_length, random_start

_MAX_SUBSTITUTES = 10


class Sample(TypedDict):
    """One training or validation clip."""

    streams: list[Tensor]
    """uint8 (T, C, H, W), one a stream; empty for a validation video that cannot be read."""
    label: int
    unreadable: dict[str, str]
    """Paths of the videos that could not be read for this sample, each with the reason."""


class ClipDataset(Dataset[Sample]):
    """Clips for training, or, with ``augment=False``, the middle clip of each video for validation.

    Items are asked for by ``(epoch, index)``: the epoch chooses the random cut.

    Args:
        records: the videos of one split.
        spec: what the model sees.
        seed: of all random choices.
        augment: random start, random crop, random mirror (paper, section 4); else middle and center.
        flip: whether mirroring is allowed; turn it off where left and right are different classes.
        flow: where optical flow comes from, where the model wants it.

    For training, a video that cannot be read is replaced by another of its class, chosen by the seed. For validation
    it is not replaced: its sample has no streams. Both are reported in the sample.
    """

    def __init__(
        self,
        records: Sequence[VideoRecord],
        spec: ModelSpec,
        *,
        seed: int = 0,
        augment: bool = True,
        flip: bool = True,
        flow: FlowSource | None = None,
    ):
        self.records = tuple(records)
        self.spec = spec
        self.seed = seed
        self.augment = augment
        self.flip = flip
        self.flow = flow or FlowSource()
        self._of_class: dict[int, list[int]] = {}
        for i, record in enumerate(self.records):
            self._of_class.setdefault(record.label, []).append(i)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        record = self.records[index]
        unreadable: dict[str, str] = {}
        for _ in range(_MAX_SUBSTITUTES):
            try:
                clip = self._read(record, rng)
            except (VideoError, TooFewFramesError) as error:
                unreadable[str(record.path)] = str(error)
                if not self.augment:
                    return Sample(streams=[], label=record.label, unreadable=unreadable)
                record = self.records[int(rng.choice(self._of_class[record.label]))]
                continue
            return Sample(streams=clip_to_streams(clip, self.spec), label=record.label, unreadable=unreadable)
        first = next(iter(unreadable.values()))
        raise DatasetError(f"{first}; nor can {_MAX_SUBSTITUTES - 1} others that were drawn from its class be read")

    def unreadable_classes(self) -> dict[int, str]:
        """The classes none of whose videos can be read, each with the reason for its first video.

        Decodes the middle clip of one video of each class, and of further ones only where it cannot be read.
        """

        def reason(indices: Sequence[int]) -> str:
            reasons = []
            for i in indices:
                try:
                    self._frames(self.records[i], None)
                except (VideoError, TooFewFramesError) as error:
                    reasons.append(str(error))
                else:
                    return ""
            return reasons[0]

        with ThreadPoolExecutor(num_cores()) as pool:
            reasons = pool.map(reason, self._of_class.values())
            return {label: why for label, why in zip(self._of_class, reasons, strict=True) if why}

    def _read(self, record: VideoRecord, rng: np.random.Generator) -> Clip:
        spec = self.spec
        clip, start = self._frames(record, rng if self.augment else None)
        if spec.needs_flow:  # before looping, which would show a jump, and before cropping
            clip = self.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_tick=start)
        clip = clip.take(torch.from_numpy(fit_length(len(clip), clip_extent(spec)[0], "loop")))
        if not self.augment:
            return transforms.center_crop(clip, spec.size_px)
        clip = transforms.random_crop(clip, spec.size_px, rng)
        return transforms.flip_left_right(clip) if self.flip and rng.random() < 0.5 else clip

    def _frames(self, record: VideoRecord, rng: np.random.Generator | None) -> tuple[Clip, int]:
        """A clip from a random start, or the middle one without ``rng``; and the number of its first frame."""
        spec = self.spec
        _, stride, span = clip_extent(spec)
        # One frame more where there is one, because the flow of the last frame goes to the next.
        stop = span + 1 if spec.needs_flow else span
        with VideoReader(record.path, num_threads=1) as reader:
            num_ticks = reader.num_resampled_frames(spec.fps)
            start = int(even_starts(num_ticks, span, 1)[0]) if rng is None else random_start(num_ticks, span, rng)
            clip = reader.read(
                fps=spec.fps,
                start_seconds=reader.frame_seconds(start, spec.fps),
                stop_seconds=reader.frame_seconds(start + stop, spec.fps),
                frame_stride=stride,
                transform=partial(resize_frames, short_side_px=spec.short_side_px),
            )
        assert clip is not None
        return clip, start


class Splits(Dataset[Sample]):
    """Several sets of clips as one, whose items are asked for by ``(split, epoch, index)``."""

    def __init__(self, clips: Mapping[str, ClipDataset]):
        self.clips = dict(clips)

    def __len__(self) -> int:
        return sum(map(len, self.clips.values()))

    def __getitem__(self, key: tuple[str, int, int]) -> Sample:
        split, epoch, index = key
        return self.clips[split][epoch, index]


def clip_extent(spec: ModelSpec) -> tuple[int, int, int]:
    """Frames, stride and span of the training clip that serves every stream of a model.

    >>> from quovadis.models.convnet_lstm import convnet_lstm_spec
    >>> clip_extent(convnet_lstm_spec())  # 25 frames, every fifth
    (25, 5, 121)
    """
    span = max(s.span_frames for s in spec.streams)
    return -(-span // spec.clip_stride), spec.clip_stride, span


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of ``(epoch, index)``, without end, from any step on.

    The epochs, each a permutation of all videos, are laid end to end and cut into batches, so no video is dropped and
    step ``s`` is a function of the seed alone. With several processes each takes its part of every batch.

    >>> batches = iter(EpochBatches(5, 2, seed=0))
    >>> first = [next(batches) for _ in range(5)]
    >>> [len(batch) for batch in first], sorted(index for batch in first for epoch, index in batch if epoch == 0)
    ([2, 2, 2, 2, 2], [0, 1, 2, 3, 4])
    >>> next(iter(EpochBatches(5, 2, seed=0, start=3))) == first[3]
    True
    """

    def __init__(
        self, num_items: int, batch_size: int, *, seed: int = 0, start: int = 0, rank: int = 0, num_ranks: int = 1
    ):
        self.num_items = num_items
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.num_ranks = num_ranks

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, np.zeros(0, np.int64)
        whole = self.batch_size * self.num_ranks
        position = self.start * whole + self.rank * self.batch_size
        while True:
            batch = []
            for place in range(position, position + self.batch_size):
                if place // self.num_items != epoch:
                    epoch = place // self.num_items
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.num_items)
                batch.append((epoch, int(order[place % self.num_items])))
            yield batch
            position += whole


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Make a batch of the samples that could be read.

    Returns:
        ``streams`` uint8 (B, T, C, H, W) each, ``labels`` int64 (B,), and ``unreadable``: the reason for each path.
    """
    readable = [s for s in samples if s["streams"]]
    return {
        "streams": [torch.stack(parts) for parts in zip(*(s["streams"] for s in readable), strict=True)],
        "labels": torch.tensor([s["label"] for s in readable], dtype=torch.int64),
        "unreadable": {path: why for s in samples for path, why in s["unreadable"].items()},
    }
