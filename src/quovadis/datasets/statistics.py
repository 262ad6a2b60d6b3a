"""What a dataset is like, what is wrong with it, and what it shares with itself and with others."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from quovadis.datasets.groups import youtube_id
from quovadis.datasets.manifest import SPLITS, STATUSES, Manifest, VideoRecord
from quovadis.types import ClassCount, DatasetStatistics, Duplicate, Overlap


def dataset_statistics(data: Manifest, against: Manifest | None = None) -> DatasetStatistics:
    """Count what a manifest knows; files are only looked at for the identity.

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
        data_identity=data.identity,
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
