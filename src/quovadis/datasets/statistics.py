"""What a dataset is like, what is wrong with it, and what it shares with itself and with others."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from quovadis.datasets.groups import youtube_id
from quovadis.datasets.manifest import SPLITS, STATUSES, Manifest, VideoRecord


@dataclass(frozen=True)
class ClassCount:
    """The videos of one class."""

    label: str
    """Empty for the videos whose class is not published."""
    splits: dict[str, int]
    missing: int
    corrupt: int

    @property
    def num_videos(self) -> int:
        """Listed videos, there or not."""
        return sum(self.splits.values())


@dataclass(frozen=True)
class Duplicate:
    """Files with the same bytes."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    """The splits that they lie in; more than one means that a test video was trained on."""
    labels: tuple[str, ...]
    """Their classes; more than one means that a label is wrong."""


@dataclass(frozen=True)
class Overlap:
    """What two lists of videos have in common, each thing counted once however many videos have it."""

    first: str
    second: str
    same_content: int
    """Files with the same bytes; counts only files that were indexed."""
    same_group: int
    same_youtube_id: int
    """Videos of YouTube that both have cuts of, by file names as Kinetics has them."""


@dataclass(frozen=True)
class DatasetStatistics:
    """What is there, what is wrong, and what the videos are like."""

    dataset: str
    data_fingerprint: str
    """Hash of the list of videos: equal hashes mean equal data."""
    splits: dict[str, int]
    statuses: dict[str, int]
    num_unknown: int
    """Videos of which nothing bad is known because they were never looked at."""
    classes: tuple[ClassCount, ...]
    fps: dict[str, int]
    """Videos by frames a second, the most frequent first."""
    sizes: dict[str, int]
    """Videos by width x height."""
    durations_seconds: tuple[float, ...]
    """In order of length, of the videos whose length is known; as all these figures, without corrupt files."""
    num_bytes: int
    duplicates: tuple[Duplicate, ...]
    overlaps: tuple[Overlap, ...]
    """Between the splits; between this dataset's splits and another's, where one was given."""
    problems: tuple[tuple[str, str, str], ...]
    """Path, status and reason of what is corrupt, then of what is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"num_videos": sum(self.splits.values())}
        seconds = values.pop("durations_seconds")
        values["duration_seconds"] = {
            "total": sum(seconds),
            **{name: seconds[i] if seconds else None for name, i in _order_statistics(len(seconds)).items()},
        }
        values["problems"] = [dict(zip(("path", "status", "reason"), p, strict=True)) for p in self.problems]
        return values


def _order_statistics(count: int) -> dict[str, int]:
    return {"min": 0, "median": count // 2, "max": count - 1}


def dataset_statistics(data: Manifest, against: Manifest | None = None) -> DatasetStatistics:
    """Count what a manifest knows; files are only looked at for the fingerprint.

    Args:
        data: the videos, best after :func:`quovadis.datasets.inspection.index_videos`: what was not indexed counts as
            unknown.
        against: another dataset whose videos may also be in this one.
    """
    good = [r for r in data.records if r.status in ("listed", "ok")]
    known = [r for r in good if r.sha256]
    here = {split: _Traces.of(_of(data, split)) for split in _splits(data)}
    overlaps = [here[a].overlap(a, here[b], b) for a, b in combinations(here, 2)]
    if against is not None:
        there = {split: _Traces.of(_of(against, split)) for split in _splits(against)}
        overlaps += [here[a].overlap(f"{data.name} {a}", there[b], f"{against.name} {b}") for a in here for b in there]
    statuses = Counter(r.status for r in data.records)
    return DatasetStatistics(
        dataset=data.name,
        data_fingerprint=data.fingerprint,
        splits={split: len(_of(data, split)) for split in _splits(data)},
        statuses={status: statuses[status] for status in STATUSES},
        num_unknown=len(good) - len(known),
        classes=_count_classes(data),
        fps=_histogram(f"{r.fps:.2f}".rstrip("0").rstrip(".") for r in known if r.fps),
        sizes=_histogram(f"{r.width_px}x{r.height_px}" for r in known if r.width_px),
        durations_seconds=tuple(sorted(r.duration_seconds for r in known if r.duration_seconds is not None)),
        num_bytes=sum(r.size_bytes or 0 for r in known),
        duplicates=_duplicates(data),
        overlaps=tuple(overlaps),
        problems=tuple(
            (data.relative(r), r.status, r.reason)
            for status in ("corrupt", "missing")
            for r in data.records
            if r.status == status
        ),
    )


@dataclass(frozen=True)
class _Traces:
    """What the videos of a split can be known again by."""

    contents: frozenset[str]
    groups: frozenset[str]
    youtube_ids: frozenset[str]

    @classmethod
    def of(cls, records: Sequence[VideoRecord]) -> "_Traces":
        unknown = {""}
        return cls(
            frozenset(r.sha256 for r in records) - unknown,
            frozenset(r.group for r in records) - unknown,
            frozenset(youtube_id(r.path) for r in records) - unknown,
        )

    def overlap(self, name: str, other: "_Traces", other_name: str) -> Overlap:
        return Overlap(
            name,
            other_name,
            same_content=len(self.contents & other.contents),
            same_group=len(self.groups & other.groups),
            same_youtube_id=len(self.youtube_ids & other.youtube_ids),
        )


def _splits(data: Manifest) -> list[str]:
    there = {r.split for r in data.records}
    return [split for split in SPLITS if split in there]


def _of(data: Manifest, split: str) -> list[VideoRecord]:
    """The videos of a split; unlike ``Manifest.split``, those without a label too."""
    return [r for r in data.records if r.split == split]


def _count_classes(data: Manifest) -> tuple[ClassCount, ...]:
    splits = _splits(data)
    members: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        members[data.label_of(record)].append(record)
    labels = [*data.labels, ""] if "" in members else data.labels
    return tuple(
        ClassCount(
            label,
            {split: sum(r.split == split for r in members[label]) for split in splits},
            sum(r.status == "missing" for r in members[label]),
            sum(r.status == "corrupt" for r in members[label]),
        )
        for label in labels
    )


def _duplicates(data: Manifest) -> tuple[Duplicate, ...]:
    same: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        if record.sha256 and record.status != "missing":
            same[record.sha256].append(record)
    return tuple(
        Duplicate(
            tuple(data.relative(r) for r in records),
            tuple(sorted({r.split for r in records}, key=SPLITS.index)),
            tuple(sorted({data.label_of(r) for r in records})),
        )
        for records in same.values()
        if len(records) > 1
    )


def _histogram(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
