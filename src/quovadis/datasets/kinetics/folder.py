"""Kinetics on the disk: which clip lies where, and the manifest of it all."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from quovadis.datasets.kinetics.annotations import ClipLookup, KineticsClip, read_annotations, select_clips, start_of
from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.datasets.kinetics.clip_status import ClipStatus, read_status
from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord, preview_names
from quovadis.datasets.video_files import find_videos
from quovadis.errors import DatasetError

_REPLACEMENTS = "replacement_for_corrupted_k400"
"""Folder of CVDF's replacement set, as its archive unpacks."""


def kinetics_manifest(
    name: str,
    annotations: Sequence[str | PathLike[str]],
    root: str | PathLike[str],
    *,
    classes: Collection[str] = (),
    youtube_ids: Collection[str] = (),
) -> Manifest:
    """The clips of annotation files as a manifest, whether they are there or not.

    A clip is found by the name of its file wherever it lies under ``root``: in folders of classes (with spaces, with
    underscores, within ``train`` and ``val`` or not), in one flat folder as CVDF's archives unpack, or in CVDF's
    replacement set, which goes first. A clip that lies nowhere gets the path that the download would write.

    The group of a clip is its YouTube video, so that clips of one video cannot lie in two splits. Where the published
    lists themselves put a video in two splits (28 of val and test of Kinetics-600), its clips get no group and a note
    says how many there are.

    Args:
        name: kinetics400, kinetics600 or kinetics700: its classes, in the order of bytes, whichever the files list.
            With any other name the classes are those of the files, in the same order.
        annotations: one CSV file or more. Clips of test files without labels are listed, so that what a list shares
            with another is known; they are refused where a label is needed, in training and in evaluation.
        root: the folder of the clips.
        classes: only these, for a mini-Kinetics; then they are all that the manifest has.
        youtube_ids: only clips of these videos.

    Raises:
        DatasetError, UnknownNameError: as :func:`~quovadis.datasets.kinetics.annotations.read_annotations` and
            :func:`~quovadis.datasets.kinetics.annotations.select_clips` say; no such folder; no classes are known.
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"no folder of clips at {root}")
    known = class_labels(name) if name in LABEL_SETS else ()
    rows = [clip for file in annotations for clip in read_annotations(file, labels=known)]
    clips = select_clips(rows, classes=classes, youtube_ids=youtube_ids)
    labels = tuple(sorted(classes or known or {clip.label for clip in clips if clip.label}, key=str.encode))
    if not labels:
        raise DatasetError(f"none of the {len(clips)} clips has a label: give an annotation file with labels")
    number = {label: i for i, label in enumerate(labels)}
    found = find_clips(root, clips)
    shared = _videos_in_two_splits(clips)
    downloads = read_status(root)
    records = tuple(
        VideoRecord(
            found.paths.get(clip, root / clip.path),
            number[clip.label] if clip.label else UNLABELED,
            clip.split,
            "" if clip.youtube_id in shared else clip.youtube_id,
            **_fate(None if clip in found.paths else downloads.get(str(clip.path))),
        )
        for clip in clips
    )
    return Manifest(name, root, labels, records, tuple(_notes(rows, clips, found, shared)))


def _fate(download: ClipStatus | None) -> dict[str, Any]:
    """Why a clip is not there, where a download tried to get it."""
    if download is None or download.done:
        return {}
    return {"status": "missing", "reason": f"{download.status}: {download.reason}".removesuffix(": ")}


@dataclass(frozen=True)
class FoundClips:
    """What :func:`find_clips` found."""

    paths: Mapping[KineticsClip, Path]
    num_other_times: int
    """Clips that were found by their id alone, in files whose names carry other times."""
    num_doubled: int
    """Clips that lie in more than one place; the first is taken."""


def find_clips(root: Path, clips: Collection[KineticsClip]) -> FoundClips:
    """Find each clip below a folder, by the names of files alone; hidden and system files are ignored."""
    lookup = ClipLookup(clips)
    places: dict[KineticsClip, list[Path]] = defaultdict(list)
    for path in find_videos(root).videos:
        for clip in lookup.clips_of(path.stem):
            places[clip].append(path)
    paths, num_other_times, num_doubled = {}, 0, 0
    for clip, candidates in places.items():
        expected = root / clip.path
        paths[clip] = min(candidates, key=lambda p: (p.parent.name != _REPLACEMENTS, p != expected, str(p)))
        num_other_times += start_of(paths[clip].stem) not in (None, int(clip.start_seconds))
        num_doubled += len([p for p in candidates if p.parent.name != _REPLACEMENTS]) > 1
    return FoundClips(paths, num_other_times, num_doubled)


def _videos_in_two_splits(clips: Sequence[KineticsClip]) -> frozenset[str]:
    splits = defaultdict(set)
    for clip in clips:
        splits[clip.youtube_id].add(clip.split)
    return frozenset(youtube_id for youtube_id, names in splits.items() if len(names) > 1)


def _notes(
    rows: Sequence[KineticsClip],
    clips: Sequence[KineticsClip],
    found: FoundClips,
    shared: Collection[str],
) -> Iterator[str]:
    num_unlabeled = sum(not clip.label for clip in clips)
    if num_unlabeled:
        yield f"{num_unlabeled} listed clips have no label"
    if len(set(rows)) < len(rows):
        yield f"{len(rows) - len(set(rows))} rows of the annotation files are repeated and count once"
    several = len(clips) - len({(clip.youtube_id, clip.start_seconds) for clip in clips})
    if several:
        yield f"{several} clips are listed again with another class, end or split"
    if shared:
        yield f"{len(shared)} videos have clips in two splits, as published: {preview_names(sorted(shared))}"
    if found.num_other_times:
        yield f"{found.num_other_times} files carry other times than the annotation files; taken by their id"
    if found.num_doubled:
        yield f"{found.num_doubled} clips lie in more than one place; the first is taken"
    missing = len(clips) - len(found.paths)
    if missing:
        yield f"{missing} of {len(clips)} listed clips are missing"
