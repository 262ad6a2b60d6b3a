"""Training and validation clips for ``torch.utils.data``: datasets, batch sampler and collate function.

There is no random state. The videos of a batch and their random crops are functions of seed and step, so a resumed run
gets exactly the batches of an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from quovadis.runtime.threads import num_cores
from quovadis.video.clip import Clip
from quovadis.video.reader import VideoReader
from quovadis.video.resize import resize_frames
from quovadis.video.sampling import even_starts, fit_length, random_start

_MAX_SUBSTITUTES = 10


class Sample(TypedDict):
    """One training or validation clip, as returned by :class:`ClipDataset`."""

    streams: list[Tensor]
    """One uint8 tensor (T, C, H, W) per stream; empty for a validation video that cannot be read."""
    label: int
    unreadable: dict[str, str]
    """Reason for each video, by path, that could not be read for this sample."""


class ClipDataset(Dataset[Sample]):
    """Clips of labeled videos, for training or validation.

    Indexed by ``(epoch, index)``; the epoch selects the random augmentation. A training video that cannot be read is
    replaced by a random one of the same class. A validation video is not replaced; its sample has no streams. In both
    cases the sample lists the failures.

    Args:
        records: Videos of one split.
        spec: Input format of the model: streams, number of frames, stride, size.
        seed: Seed of all random choices.
        augment: Random start, random crop and random horizontal flip (paper, section 4). False takes the middle clip
            and the center crop.
        flip: Allow horizontal flips. Disable if left and right are different classes.
        flow: Source of optical flow, if the model needs it; by default stored flow, else estimated.

    Example:
        >>> from quovadis.datasets.motions import MotionsConfig, load_motions
        >>> from quovadis.models.zoo import build_model
        >>> config = MotionsConfig(2, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> data = load_motions(config, root=getfixture("tmp_path"))
        >>> clips = ClipDataset(data.split("train"), build_model("i3d_tiny", num_classes=2).spec)
        >>> batches = iter(EpochBatchSampler(len(clips), batch_size=2))
        >>> batch = collate([clips[key] for key in next(batches)])
        >>> [stream.shape for stream in batch["streams"]], batch["labels"].shape
        ([torch.Size([2, 16, 3, 64, 64])], torch.Size([2]))

    References:
        Carreira and Zisserman: "Quo Vadis, Action Recognition?", CVPR 2017, https://arxiv.org/abs/1705.07750
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
        self._indices_of_class: dict[int, list[int]] = {}
        for i, record in enumerate(self.records):
            self._indices_of_class.setdefault(record.label, []).append(i)

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
                record = self.records[int(rng.choice(self._indices_of_class[record.label]))]
                continue
            return Sample(streams=clip_to_streams(clip, self.spec), label=record.label, unreadable=unreadable)
        first = next(iter(unreadable.values()))
        raise DatasetError(f"{first}; {_MAX_SUBSTITUTES - 1} other videos of its class cannot be read either")

    def unreadable_classes(self, progress: Callable[[int, int], None] = lambda done, total: None) -> dict[int, str]:
        """Find classes without any readable video.

        Decodes the middle clip of one video per class, and of further ones only if it cannot be read.

        Args:
            progress: Called with the number of checked classes and of all classes.

        Returns:
            For each such class, the reason for its first video.
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
            found, classes = {}, self._indices_of_class
            for done, (label, why) in enumerate(zip(classes, pool.map(reason, classes.values()), strict=True), 1):
                progress(done, len(classes))
                if why:
                    found[label] = why
            return found

    def _read(self, record: VideoRecord, rng: np.random.Generator) -> Clip:
        spec = self.spec
        clip, start = self._frames(record, rng if self.augment else None)
        if spec.needs_flow:  # before looping, which adds a jump, and before cropping
            clip = self.flow.add_to(clip, fps=spec.fps, short_side_px=spec.short_side_px, first_frame_index=start)
        clip = clip.take(torch.from_numpy(fit_length(len(clip), clip_extent(spec)[0], "loop")))
        if not self.augment:
            return transforms.center_crop(clip, spec.size_px)
        clip = transforms.random_crop(clip, spec.size_px, rng)
        return transforms.flip_left_right(clip) if self.flip and rng.random() < 0.5 else clip

    def _frames(self, record: VideoRecord, rng: np.random.Generator | None) -> tuple[Clip, int]:
        """Read a clip at a random start, or the middle clip without ``rng``; return it with its first frame index."""
        spec = self.spec
        _, stride, extent = clip_extent(spec)
        # Flow of the last frame needs one more frame, if there is one.
        stop = extent + 1 if spec.needs_flow else extent
        with VideoReader(record.path, num_threads=1) as reader:
            num_frames = reader.num_resampled_frames(spec.fps)
            start = int(even_starts(num_frames, extent, 1)[0]) if rng is None else random_start(num_frames, extent, rng)
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
    """Several clip datasets as one, indexed by ``(split, epoch, index)``, so that one set of workers loads them all."""

    def __init__(self, clips: Mapping[str, ClipDataset]):
        self.clips = dict(clips)

    def __len__(self) -> int:
        return sum(map(len, self.clips.values()))

    def __getitem__(self, key: tuple[str, int, int]) -> Sample:
        split, epoch, index = key
        return self.clips[split][epoch, index]


def clip_extent(spec: ModelSpec) -> tuple[int, int, int]:
    """Return number of frames, stride and extent in frames of the training clip that covers every stream of a model.

    Example:
        >>> from quovadis.models.convnet_lstm import convnet_lstm_spec
        >>> clip_extent(convnet_lstm_spec())  # 25 frames, every fifth
        (25, 5, 121)
    """
    extent = max(s.extent_frames for s in spec.streams)
    return -(-extent // spec.clip_stride), spec.clip_stride, extent


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Infinite batch sampler of ``(epoch, index)`` that can start at any step.

    Each epoch is a permutation of all videos. Epochs are concatenated and divided into batches, so no video is dropped
    and a batch may contain the end of one epoch and the start of the next. Each batch is a function of seed and step.

    Args:
        num_items: Number of videos.
        batch_size: Batch size of this process.
        seed: Seed of the permutations.
        start: First step.
        rank: Rank of this process, which gets its part of every global batch.
        num_ranks: Number of processes.

    Example:
        >>> batches = iter(EpochBatchSampler(5, 2, seed=0))
        >>> first = [next(batches) for _ in range(5)]
        >>> [len(batch) for batch in first], sorted(index for batch in first for epoch, index in batch if epoch == 0)
        ([2, 2, 2, 2, 2], [0, 1, 2, 3, 4])
        >>> next(iter(EpochBatchSampler(5, 2, seed=0, start=3))) == first[3]
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
        global_batch_size = self.batch_size * self.num_ranks
        first = self.start * global_batch_size + self.rank * self.batch_size
        while True:
            batch = []
            for position in range(first, first + self.batch_size):
                if position // self.num_items != epoch:
                    epoch = position // self.num_items
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.num_items)
                batch.append((epoch, int(order[position % self.num_items])))
            yield batch
            first += global_batch_size


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack the readable samples to a batch.

    Returns:
        ``streams``: one uint8 tensor (B, T, C, H, W) per stream; ``labels``: int64 (B,); ``unreadable``: the reason for
        each video that could not be read, by path.

    Example:
        >>> batch = collate([dataset[0], dataset[1]])  # doctest: +SKIP
    """
    readable = [s for s in samples if s["streams"]]
    return {
        "streams": [torch.stack(parts) for parts in zip(*(s["streams"] for s in readable), strict=True)],
        "labels": torch.tensor([s["label"] for s in readable], dtype=torch.int64),
        "unreadable": {path: why for s in samples for path, why in s["unreadable"].items()},
    }
