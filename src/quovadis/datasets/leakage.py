"""Detect leakage: test videos of one dataset that are in the training data of another."""

from collections import defaultdict
from pathlib import Path

from quovadis.datasets.kinetics.annotations import youtube_id
from quovadis.datasets.manifest import Manifest, VideoRecord, file_size, preview_names
from quovadis.errors import DatasetError
from quovadis.runtime.hashing import sha256


def check_no_leakage(source: Manifest, target: Manifest) -> None:
    """Raise an error if a test video of the target is in the training data of the source.

    Compares the training and validation videos of the source with the test videos of the target: by path, content,
    group and YouTube ID (in file names of Kinetics). Contents are compared by SHA-256 from the manifest. Files that
    were not indexed are hashed only if their size matches.

    Args:
        source: Dataset of the pretraining.
        target: Dataset of the evaluation.

    Raises:
        DatasetError: If videos are shared; lists them with the reasons.

    Example:
        >>> test_videos = tuple(VideoRecord(Path(f"{i}.mp4"), 0, "test", group=f"g{i}") for i in range(2))
        >>> train_videos = (VideoRecord(Path("elsewhere.mp4"), 0, "train", group="g1"),)
        >>> source, target = Manifest("a", Path(), ("x",), train_videos), Manifest("b", Path(), ("x",), test_videos)
        >>> check_no_leakage(source, target)
        Traceback (most recent call last):
        quovadis.errors.DatasetError: 1 test videos of b were seen in training on a: 1.mp4 (same group g1 as ...
    """
    trained = [r for r in source.records if r.split in ("train", "val")]
    tested = [r for r in target.records if r.split == "test"]
    reasons = {**_shared_by_name(trained, tested), **_shared_by_content(trained, tested)}
    if reasons:
        listed = [f"{target.relative(r)} ({reasons[r.path]})" for r in tested if r.path in reasons]
        raise DatasetError(
            f"{len(listed)} test videos of {target.name} were seen in training on {source.name}: "
            f"{preview_names(listed)}. Test results would be invalid: remove these videos from one of the datasets, or "
            "choose another source"
        )


def _shared_by_name(trained: list[VideoRecord], tested: list[VideoRecord]) -> dict[Path, str]:
    """Map tested videos that share path, group or YouTube ID with a trained one to the reason."""
    paths = {r.path.absolute() for r in trained}
    groups = {r.group: r for r in trained if r.group}
    ids = {youtube_id(r.path): r for r in trained}
    reasons = {}
    for record in tested:
        if record.path.absolute() in paths:
            reasons[record.path] = "the same file"
        elif record.group in groups:
            reasons[record.path] = f"same group {record.group} as {groups[record.group].path}"
        elif (name := youtube_id(record.path)) and name in ids:
            reasons[record.path] = f"same YouTube video as {ids[name].path}"
    return reasons


def _shared_by_content(trained: list[VideoRecord], tested: list[VideoRecord]) -> dict[Path, str]:
    """Map tested videos that have the same bytes as a trained one to the reason."""
    by_size = defaultdict(list)
    for record in trained:
        by_size[_size_bytes(record)].append(record)
    by_size.pop(-1, None)
    digests: dict[Path, str] = {}
    reasons = {}
    for record in tested:
        candidates = by_size.get(_size_bytes(record), [])
        match = next((c for c in candidates if _digest(c, digests) == _digest(record, digests)), None)
        if match is not None:
            reasons[record.path] = f"same content as {match.path}"
    return reasons


def _size_bytes(record: VideoRecord) -> int:
    return file_size(record.path) if record.size_bytes is None else record.size_bytes


def _digest(record: VideoRecord, cache: dict[Path, str]) -> str:
    if record.sha256:
        return record.sha256
    if record.path not in cache:
        cache[record.path] = sha256(record.path)
    return cache[record.path]
