"""What a dataset is like, what is wrong with it, and what it shares with itself and with others."""

from collections import Counter, defaultdict
from collections.abc import Iterable
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
    overlaps = [find_overlap(_of(data, a), _of(data, b), a, b) for a, b in combinations(_splits(data), 2)]
    if against is not None:
        overlaps += [
            find_overlap(_of(data, a), _of(against, b), f"{data.name} {a}", f"{against.name} {b}")
            for a in _splits(data)
            for b in _splits(against)
        ]
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


def find_overlap(
    first: Iterable[VideoRecord], second: Iterable[VideoRecord], first_name: str, second_name: str
) -> Overlap:
    """What two lists of videos have in common.

    >>> from pathlib import Path
    >>> cut = VideoRecord(Path("abseiling/0wR5jVB-WPk_000417_000427.mp4"), 0, "val")
    >>> other = VideoRecord(Path("0wR5jVB-WPk_000020_000030.mp4"), 0, "test")
    >>> find_overlap([cut], [other], "val", "test").same_youtube_id
    1
    """
    first, second = list(first), list(second)
    content, group, video = (
        len(({key(r) for r in first} & {key(r) for r in second}) - {""})
        for key in (lambda r: r.sha256, lambda r: r.group, lambda r: youtube_id(r.path))
    )
    return Overlap(first_name, second_name, content, group, video)


def _splits(data: Manifest) -> list[str]:
    there = {r.split for r in data.records}
    return [split for split in SPLITS if split in there]


def _of(data: Manifest, split: str) -> list[VideoRecord]:
    """The videos of a split; unlike ``Manifest.split``, those without a label too."""
    return [r for r in data.records if r.split == split]


def _count_classes(data: Manifest) -> tuple[ClassCount, ...]:
    members: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        members[data.label_of(record)].append(record)
    labels = [*data.labels, ""] if "" in members else data.labels
    return tuple(
        ClassCount(
            label,
            {split: sum(r.split == split for r in members[label]) for split in _splits(data)},
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
