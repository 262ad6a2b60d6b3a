"""Statistics of a dataset: classes, splits, file properties, problems, duplicates and overlaps."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from quovadis.datasets.kinetics.annotations import youtube_id
from quovadis.datasets.manifest import SPLITS, STATUSES, Manifest, VideoRecord


@dataclass(frozen=True)
class ClassCount:
    """Number of videos of one class."""

    label: str
    """Class name; empty for videos without a published label."""
    splits: dict[str, int]
    """Listed videos by split, including missing and corrupt ones."""
    missing: int
    corrupt: int

    @property
    def num_videos(self) -> int:
        """Listed videos in all splits."""
        return sum(self.splits.values())


@dataclass(frozen=True)
class Duplicate:
    """A set of files with equal content."""

    paths: tuple[str, ...]
    splits: tuple[str, ...]
    """Their splits. More than one means that a test video is also in training."""
    labels: tuple[str, ...]
    """Their classes. More than one means that a label is wrong."""


@dataclass(frozen=True)
class Overlap:
    """What two splits or datasets have in common; contents, groups and IDs count once each."""

    first: str
    second: str
    same_content: int
    """Files with equal content, among the indexed files."""
    same_group: int
    same_youtube_id: int
    """YouTube videos of which both have clips, by file names as in Kinetics."""


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of a dataset, as computed by :func:`dataset_statistics`."""

    dataset: str
    data_fingerprint: str
    """See :attr:`quovadis.datasets.manifest.Manifest.fingerprint`."""
    splits: dict[str, int]
    """Videos by split."""
    statuses: dict[str, int]
    """Videos by status, see :data:`quovadis.datasets.manifest.STATUSES`."""
    num_unknown: int
    """Videos that were never indexed."""
    classes: tuple[ClassCount, ...]
    fps: dict[str, int]
    """Videos by frame rate, most frequent first."""
    sizes: dict[str, int]
    """Videos by width x height, most frequent first."""
    durations_seconds: tuple[float, ...]
    """Sorted durations. Like ``fps``, ``sizes`` and ``num_bytes``, these cover indexed videos that are not corrupt."""
    num_bytes: int
    duplicates: tuple[Duplicate, ...]
    overlaps: tuple[Overlap, ...]
    """Between the splits of this dataset, and with those of another dataset if one was given."""
    problems: tuple[tuple[str, str, str], ...]
    """Path, status and reason of each corrupt and each missing video."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON."""
        values = asdict(self) | {"num_videos": sum(self.splits.values())}
        seconds = values.pop("durations_seconds")
        positions = {"min": 0, "median": len(seconds) // 2, "max": len(seconds) - 1}
        values["duration_seconds"] = {
            "total": sum(seconds),
            **{name: seconds[i] if seconds else None for name, i in positions.items()},
        }
        values["problems"] = [dict(zip(("path", "status", "reason"), p, strict=True)) for p in self.problems]
        return values


def dataset_statistics(data: Manifest, against: Manifest | None = None) -> DatasetStatistics:
    """Compute the statistics of a dataset from its manifest.

    Args:
        data: The dataset, usually after :func:`quovadis.datasets.inspection.index_videos`. Videos that were not indexed
            count as unknown.
        against: Another dataset; overlaps with its splits are reported too.

    Example:
        >>> from quovadis.datasets.inspection import index_videos
        >>> from quovadis.datasets.motions import MotionsConfig, load_motions
        >>> config = MotionsConfig(2, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> data = load_motions(config, root=getfixture("tmp_path"))
        >>> statistics = dataset_statistics(index_videos(data))
        >>> statistics.splits, statistics.statuses["corrupt"], statistics.classes[0].num_videos
        ({'train': 4, 'val': 2, 'test': 2}, 0, 4)
    """
    usable = [r for r in data.records if r.status in ("listed", "ok")]
    indexed = [r for r in usable if r.sha256]
    own = {split: _Identifiers.of(_of_split(data, split)) for split in _splits(data)}
    overlaps = [own[a].overlap(a, own[b], b) for a, b in combinations(own, 2)]
    if against is not None:
        others = {split: _Identifiers.of(_of_split(against, split)) for split in _splits(against)}
        overlaps += [own[a].overlap(f"{data.name} {a}", others[b], f"{against.name} {b}") for a in own for b in others]
    statuses = Counter(r.status for r in data.records)
    return DatasetStatistics(
        dataset=data.name,
        data_fingerprint=data.fingerprint,
        splits={split: len(_of_split(data, split)) for split in _splits(data)},
        statuses={status: statuses[status] for status in STATUSES},
        num_unknown=len(usable) - len(indexed),
        classes=_count_classes(data),
        fps=_histogram(f"{r.fps:.2f}".rstrip("0").rstrip(".") for r in indexed if r.fps),
        sizes=_histogram(f"{r.width_px}x{r.height_px}" for r in indexed if r.width_px),
        durations_seconds=tuple(sorted(r.duration_seconds for r in indexed if r.duration_seconds is not None)),
        num_bytes=sum(r.size_bytes or 0 for r in indexed),
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
class _Identifiers:
    """Values by which the videos of a split are recognized in another split."""

    contents: frozenset[str]
    groups: frozenset[str]
    youtube_ids: frozenset[str]

    @classmethod
    def of(cls, records: Sequence[VideoRecord]) -> "_Identifiers":
        return cls(
            frozenset(r.sha256 for r in records) - {""},
            frozenset(r.group for r in records) - {""},
            frozenset(youtube_id(r.path) for r in records) - {""},
        )

    def overlap(self, name: str, other: "_Identifiers", other_name: str) -> Overlap:
        return Overlap(
            name,
            other_name,
            same_content=len(self.contents & other.contents),
            same_group=len(self.groups & other.groups),
            same_youtube_id=len(self.youtube_ids & other.youtube_ids),
        )


def _splits(data: Manifest) -> list[str]:
    used = {r.split for r in data.records}
    return [split for split in SPLITS if split in used]


def _of_split(data: Manifest, split: str) -> list[VideoRecord]:
    """Return the videos of a split, including those without a label, which ``Manifest.split`` refuses."""
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
    by_content: dict[str, list[VideoRecord]] = defaultdict(list)
    for record in data.records:
        if record.sha256 and record.status != "missing":
            by_content[record.sha256].append(record)
    return tuple(
        Duplicate(
            tuple(data.relative(r) for r in records),
            tuple(sorted({r.split for r in records}, key=SPLITS.index)),
            tuple(sorted({data.label_of(r) for r in records})),
        )
        for records in by_content.values()
        if len(records) > 1
    )


def _histogram(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())
