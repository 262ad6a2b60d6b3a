"""Videos that two datasets share where they must not: what a network was trained on, and what it is measured on."""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

from quovadis.datasets.groups import youtube_id
from quovadis.datasets.manifest import Manifest, VideoRecord, shorten
from quovadis.errors import DatasetError


def refuse_shared_videos(source: Manifest, target: Manifest) -> None:
    """Raise if a test video of the target was trained on in the source, or is cut from what was.

    The training and validation videos of the source are compared with the test videos of the target: by path, by
    content, by group, and by the video of YouTube that their names tell. Contents are compared by the hashes that an
    index holds, and else by hashing those files only that are of one size.

    Raises:
        DatasetError: says which videos, and why.

    >>> videos = [VideoRecord(Path(f"{i}.mp4"), 0, "test", group=f"g{i}") for i in range(2)]
    >>> seen = VideoRecord(Path("elsewhere.mp4"), 0, "train", group="g1")
    >>> target, source = Manifest("b", Path(), ("x",), tuple(videos)), Manifest("a", Path(), ("x",), (seen,))
    >>> refuse_shared_videos(source, target)
    Traceback (most recent call last):
    quovadis.errors.DatasetError: 1 test videos of b were seen in training on a: 1.mp4 (same group g1 as ...
    """
    seen = [r for r in source.records if r.split in ("train", "val")]
    tested = [r for r in target.records if r.split == "test"]
    found = {**_same_names(seen, tested), **_same_content(seen, tested)}
    if found:
        listed = [f"{target.relative(r)} ({found[r.path]})" for r in tested if r.path in found]
        raise DatasetError(
            f"{len(listed)} test videos of {target.name} were seen in training on {source.name}: {shorten(listed)}; "
            "figures on them would mean nothing: take them out of one of the two, or choose another source"
        )


def _same_names(seen: list[VideoRecord], tested: list[VideoRecord]) -> dict[Path, str]:
    """Of the tested videos by path: what they share by name with one that was seen."""
    paths = {r.path.absolute() for r in seen}
    groups = {r.group: r for r in seen if r.group}
    ids = {youtube_id(r.path): r for r in seen}
    found = {}
    for record in tested:
        if record.path.absolute() in paths:
            found[record.path] = "the same file"
        elif record.group in groups:
            found[record.path] = f"same group {record.group} as {groups[record.group].path}"
        elif (name := youtube_id(record.path)) and name in ids:
            found[record.path] = f"same video of YouTube as {ids[name].path}"
    return found


def _same_content(seen: list[VideoRecord], tested: list[VideoRecord]) -> dict[Path, str]:
    """Of the tested videos by path: which seen file has the same bytes."""
    of_size = defaultdict(list)
    for record in seen:
        of_size[_size(record)].append(record)
    of_size.pop(-1, None)
    digests: dict[Path, str] = {}
    found = {}
    for record in tested:
        others = of_size.get(_size(record), [])
        twin = next((o for o in others if _digest(o, digests) == _digest(record, digests)), None)
        if twin is not None:
            found[record.path] = f"same content as {twin.path}"
    return found


def _size(record: VideoRecord) -> int:
    """Bytes; -1 where there is no such file."""
    if record.size_bytes is not None:
        return record.size_bytes
    return record.path.stat().st_size if os.path.isfile(record.path) else -1


def _digest(record: VideoRecord, known: dict[Path, str]) -> str:
    """The sha256 of a file, from the index or computed once."""
    if record.sha256:
        return record.sha256
    if record.path not in known:
        with record.path.open("rb") as file:
            known[record.path] = hashlib.file_digest(file, "sha256").hexdigest()
    return known[record.path]
