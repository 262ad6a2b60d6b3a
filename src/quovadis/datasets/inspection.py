"""Look at every video of a manifest: what the files are, and whether they decode to their end."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from quovadis.datasets.manifest import Manifest, VideoRecord
from quovadis.datasets.probe_cache import ProbeCache
from quovadis.errors import QuovadisError
from quovadis.runtime.jobs import run_jobs
from quovadis.video.reader import VideoReader

OnVideo = Callable[[int], None]
"""Called with the number of videos done."""

_NOTHING_KNOWN: dict[str, Any] = {
    **dict.fromkeys(("num_frames", "fps", "duration_seconds", "width_px", "height_px", "size_bytes")),
    "sha256": "",
    "status": "listed",
    "reason": "",
}


def index_videos(
    data: Manifest, *, num_workers: int = 0, cache: ProbeCache | None = None, on_video: OnVideo | None = None
) -> Manifest:
    """Find out what every file is: size and hash of its bytes, and frames, rate, length and size of its pictures.

    Headers are read and one frame is decoded. A file that is not there gets the status ``missing``, one that is no
    video ``corrupt``; nothing is left out. The fingerprint of the manifest stays what it was.

    Args:
        data: the videos.
        num_workers: processes; 0 works here.
        cache: where facts of unchanged files are taken from and kept; None looks at every file.
        on_video: for a progress bar.

    Raises:
        StorageError: the cache cannot be used.
    """
    return _inspect_all(data, False, num_workers, cache, True, on_video)


def verify_videos(
    data: Manifest,
    *,
    num_workers: int = 0,
    cache: ProbeCache | None = None,
    again: bool = False,
    on_video: OnVideo | None = None,
) -> Manifest:
    """Decode every file to its end, and compare its bytes with what was indexed.

    The status becomes ``ok``, ``missing`` or ``corrupt``: it cannot be opened, has broken frames, ends before its
    header says, or its bytes are no longer those of the index (then size and hash stay those of the index).
    ``num_frames`` is then counted.

    Args:
        data: the videos.
        num_workers: processes; 0 works here.
        cache: files that were found good before and have not changed are taken from it.
        again: decode those too.
        on_video: for a progress bar.

    Raises:
        StorageError: the cache cannot be used.
    """
    return _inspect_all(data, True, num_workers, cache, not again, on_video)


def inspect_video(record: VideoRecord, *, decode: bool) -> VideoRecord:
    """One video with what its file says now.

    Args:
        record: the video; what was known of another content is forgotten.
        decode: read the file to its end, else only its bytes, its header and one frame.
    """
    try:
        size_bytes, digest = _size_and_hash(record.path)
    except (FileNotFoundError, NotADirectoryError):
        # A download may have said why.
        return replace(record, status="missing", reason=record.reason if record.status == "missing" else "no such file")
    except OSError as error:
        return replace(record, status="corrupt", reason=f"cannot be read: {error.strerror}")
    if record.status == "ok" and digest == record.sha256 and not decode:
        return record  # the same bytes were decoded to their end before
    record = replace(record, **_NOTHING_KNOWN | {"size_bytes": size_bytes, "sha256": digest})
    try:
        with VideoReader(record.path, num_threads=1) as reader:
            info = reader.info
            record = replace(
                record,
                num_frames=info.num_frames,
                fps=info.fps or None,
                duration_seconds=info.duration_seconds,
                width_px=info.width,
                height_px=info.height,
            )
            return _decode(record, reader) if decode else record
    except (QuovadisError, OSError) as error:
        # The manifest knows the path already, and may be read on another machine.
        return replace(record, status="corrupt", reason=str(error).replace(str(record.path), record.path.name))


def _inspect_all(
    data: Manifest, decode: bool, num_workers: int, cache: ProbeCache | None, use_cached: bool, on_video: OnVideo | None
) -> Manifest:
    results: list[VideoRecord] = list(data.records)
    todo: list[tuple[int, VideoRecord]] = []
    statuses: dict[int, os.stat_result] = {}
    for i, record in enumerate(data.records):
        status = _status(record.path)
        facts = cache.get(record.path, status) if cache is not None and status is not None and use_cached else None
        if status is None:
            results[i] = inspect_video(record, decode=decode)  # nothing to read, so no work for a process
            continue
        statuses[i] = status
        if facts is not None and (facts["status"] == "ok" or not decode):
            results[i] = replace(record, **facts)
        else:
            todo.append((i, record))
    num_done = len(results) - len(todo)
    if on_video is not None:
        on_video(num_done)
    inspect = partial(_inspect_item, decode=decode)
    for place, found in run_jobs(inspect, todo, num_workers=num_workers, on_crash=_crashed):
        i = todo[place][0]
        results[i] = found
        # Only what is good is remembered: a disk that failed for a moment must not leave a mark.
        if cache is not None and found.status in ("listed", "ok"):
            cache.put(found.path, statuses[i], {name: getattr(found, name) for name in _NOTHING_KNOWN})
        num_done += 1
        if on_video is not None:
            on_video(num_done)
    if decode:
        results = [_compare_bytes(old, new) for old, new in zip(data.records, results, strict=True)]
    return replace(data, records=tuple(results))


def _inspect_item(item: tuple[int, VideoRecord], decode: bool) -> VideoRecord:
    return inspect_video(item[1], decode=decode)


def _crashed(item: tuple[int, VideoRecord]) -> VideoRecord:
    return replace(
        item[1], status="corrupt", reason="the process that read it died: a broken file, or too little memory"
    )


def _decode(record: VideoRecord, reader: VideoReader) -> VideoRecord:
    num_frames, end_seconds = 0, 0.0
    for frame in reader.frames():
        num_frames += 1
        end_seconds = frame.end_seconds
    record = replace(record, num_frames=num_frames, duration_seconds=end_seconds - reader.first_pts_seconds)
    return replace(record, status="corrupt", reason=reader.damage) if reader.damage else replace(record, status="ok")


def _compare_bytes(indexed: VideoRecord, found: VideoRecord) -> VideoRecord:
    if not indexed.sha256 or found.sha256 in ("", indexed.sha256):
        return found
    return replace(
        indexed,
        status="corrupt",
        reason=f"its bytes are not those that were indexed: sha256 {found.sha256[:8]}..., was {indexed.sha256[:8]}...",
    )


def _size_and_hash(path: Path) -> tuple[int, str]:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # a pipe would be waited for without end
        raise IsADirectoryError(None, "it is a folder" if stat.S_ISDIR(mode) else "it is no regular file")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
