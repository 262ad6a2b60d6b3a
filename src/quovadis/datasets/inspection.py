"""Index and verify the videos of a dataset: read file properties, decode every frame, detect changes."""

from __future__ import annotations

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
from quovadis.runtime.hashing import sha256
from quovadis.runtime.jobs import run_jobs
from quovadis.video.reader import VideoReader

ProgressCallback = Callable[[int], None]
"""Progress callback, called with the number of videos done."""

CRASH_REASON = "the worker process died while reading it: the file is broken, or memory ran out"
_NOT_INSPECTED: dict[str, Any] = {
    **dict.fromkeys(("num_frames", "fps", "duration_seconds", "width_px", "height_px", "size_bytes")),
    "sha256": "",
    "status": "listed",
    "reason": "",
}


def index_videos(
    data: Manifest, *, num_workers: int = 0, cache: ProbeCache | None = None, progress: ProgressCallback | None = None
) -> Manifest:
    """Read the properties of every file: size, SHA-256, number of frames, frame rate, duration, width and height.

    Reads headers and decodes one frame. The status of a file that does not exist becomes ``missing``, and of a file
    that is not a video ``corrupt``. No record is removed and the fingerprint of the manifest does not change.

    Args:
        data: The dataset.
        num_workers: Number of worker processes; 0 works in the calling process.
        cache: Cache of results for unchanged files; None inspects every file.
        progress: Progress callback, called with the number of videos done.

    Raises:
        StorageError: If the cache cannot be used.

    Example:
        >>> from quovadis.datasets.motions import MotionsConfig, load_motions
        >>> config = MotionsConfig(1, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> data = index_videos(load_motions(config, root=getfixture("tmp_path")))
        >>> record = data.records[0]
        >>> record.status, record.num_frames, record.fps, len(record.sha256)
        ('listed', 32, 20.0, 64)
    """
    return _inspect_all(data, decode=False, num_workers=num_workers, cache=cache, progress=progress)


def verify_videos(
    data: Manifest,
    *,
    num_workers: int = 0,
    cache: ProbeCache | None = None,
    again: bool = False,
    progress: ProgressCallback | None = None,
) -> Manifest:
    """Decode every file to its end, and compare its content with the SHA-256 in the manifest.

    The status of each record becomes ``ok``, ``missing`` or ``corrupt``. A file is corrupt if it cannot be opened, has
    broken frames, ends before the duration in its header, or has changed since it was indexed (the record then keeps
    the indexed size and hash). ``num_frames`` is the number of decoded frames.

    Args:
        data: The dataset.
        num_workers: Number of worker processes; 0 works in the calling process.
        cache: Cache of results. Unchanged files that were verified before are not decoded again.
        again: Decode these files too.
        progress: Progress callback, called with the number of videos done.

    Raises:
        StorageError: If the cache cannot be used.

    Example:
        >>> from quovadis.datasets.motions import MotionsConfig, load_motions
        >>> config = MotionsConfig(1, 1, 1, shapes=("disc",), motions=("spins", "slides"))
        >>> data = load_motions(config, root=getfixture("tmp_path"))
        >>> _ = data.records[0].path.write_bytes(b"not a video")
        >>> [record.status for record in verify_videos(data).records]
        ['corrupt', 'ok', 'ok', 'ok', 'ok', 'ok']
    """
    return _inspect_all(data, decode=True, num_workers=num_workers, cache=cache, again=again, progress=progress)


def inspect_video(record: VideoRecord, *, decode: bool) -> VideoRecord:
    """Return the record of a video, updated from its file.

    Args:
        record: The video. Properties of other content are discarded.
        decode: Decode the file to its end. Otherwise read its bytes, header and one frame.
    """
    try:
        size_bytes, digest = _size_and_hash(record.path)
    except (FileNotFoundError, NotADirectoryError):
        # Keep the reason that a download recorded.
        return replace(record, status="missing", reason=record.reason if record.status == "missing" else "no such file")
    except OSError as error:
        return replace(record, status="corrupt", reason=f"cannot be read: {error.strerror}")
    if record.status == "ok" and digest == record.sha256 and not decode:
        return record  # the same content was verified before
    record = replace(record, **_NOT_INSPECTED | {"size_bytes": size_bytes, "sha256": digest})
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
        # Without the folder, because a manifest may be read on another machine.
        return replace(record, status="corrupt", reason=str(error).replace(str(record.path), record.path.name))


def _inspect_all(
    data: Manifest,
    *,
    decode: bool,
    num_workers: int,
    cache: ProbeCache | None,
    progress: ProgressCallback | None,
    again: bool = False,
) -> Manifest:
    results: list[VideoRecord] = list(data.records)
    todo: list[tuple[int, VideoRecord]] = []
    stats: dict[int, os.stat_result] = {}
    for i, record in enumerate(data.records):
        status = _stat(record.path)
        if status is None:
            results[i] = inspect_video(record, decode=decode)  # returns at once, so no worker is needed
            continue
        stats[i] = status
        probed = cache.get(record.path, status) if cache is not None and not again else None
        if probed is not None and (probed["status"] == "ok" or not decode):
            results[i] = replace(record, **probed)
        else:
            todo.append((i, record))
    num_done = len(results) - len(todo)
    if progress is not None:
        progress(num_done)
    inspect = partial(_inspect_item, decode=decode)
    for position, result in run_jobs(inspect, todo, num_workers=num_workers, on_crash=_crashed):
        i = todo[position][0]
        results[i] = result
        # Failures are not cached, because a disk error may be temporary.
        if cache is not None and result.status in ("listed", "ok"):
            cache.put(result.path, stats[i], {name: getattr(result, name) for name in _NOT_INSPECTED})
        num_done += 1
        if progress is not None:
            progress(num_done)
    if decode:
        results = [_compare_content(old, new) for old, new in zip(data.records, results, strict=True)]
    return replace(data, records=tuple(results))


def _inspect_item(item: tuple[int, VideoRecord], decode: bool) -> VideoRecord:
    return inspect_video(item[1], decode=decode)


def _crashed(item: tuple[int, VideoRecord]) -> VideoRecord:
    return replace(item[1], status="corrupt", reason=CRASH_REASON)


def _decode(record: VideoRecord, reader: VideoReader) -> VideoRecord:
    num_frames, end_seconds = 0, 0.0
    for frame in reader.frames():
        num_frames += 1
        end_seconds = frame.end_seconds
    record = replace(record, num_frames=num_frames, duration_seconds=end_seconds - reader.first_pts_seconds)
    return replace(record, status="corrupt", reason=reader.damage) if reader.damage else replace(record, status="ok")


def _compare_content(indexed: VideoRecord, found: VideoRecord) -> VideoRecord:
    if not indexed.sha256 or found.sha256 in ("", indexed.sha256):
        return found
    return replace(
        indexed,
        status="corrupt",
        reason=f"changed since it was indexed: sha256 {found.sha256[:8]}..., was {indexed.sha256[:8]}...",
    )


def _size_and_hash(path: Path) -> tuple[int, str]:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # reading a pipe would block
        raise IsADirectoryError(None, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
    return path.stat().st_size, sha256(path)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
