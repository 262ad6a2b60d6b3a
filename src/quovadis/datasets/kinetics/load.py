"""Load Kinetics from a folder of clips and the published annotation files."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from quovadis.datasets.kinetics.annotations import ClipLookup, KineticsClip, read_annotations, select_clips, start_of
from quovadis.datasets.kinetics.class_names import LABEL_SETS, class_labels
from quovadis.datasets.kinetics.clip_status import ClipStatus, read_status
from quovadis.datasets.manifest import UNLABELED, Manifest, VideoRecord, preview_names
from quovadis.datasets.video_files import find_videos
from quovadis.errors import DatasetError

_REPLACEMENT_FOLDER = "replacement_for_corrupted_k400"
"""Folder in CVDF's archive of clips that replace corrupt ones."""


def load_kinetics(
    name: str,
    root: str | PathLike[str],
    annotations: Sequence[str | PathLike[str]],
    *,
    classes: Collection[str] = (),
    youtube_ids: Collection[str] = (),
) -> Manifest:
    """Load Kinetics: list the clips of annotation files in a manifest, whether or not they exist.

    A clip is found by its file name, anywhere below ``root``: in class folders (with spaces or underscores, inside
    ``train`` and ``val`` or not), in one flat folder, or in CVDF's folder of replacements, which takes precedence.
    Missing clips get the path that the download would write.

    The group of a clip is its YouTube video, so that clips of one video cannot be in two splits. The published lists
    violate this for a few videos (28 of val and test of Kinetics-600). Their clips get no group; a note counts them.

    Args:
        name: ``kinetics400``, ``kinetics600`` or ``kinetics700``, which defines the classes. With another name, the
            classes are those of the files, in the same order.
        root: Folder of the clips.
        annotations: CSV files. Clips of test files without labels are listed, so that overlaps are detected, but they
            cannot be used for training or evaluation.
        classes: Only these classes, as in Mini-Kinetics.
        youtube_ids: Only clips of these videos.

    Raises:
        DatasetError: If the folder or an annotation file does not exist or is invalid, or no clip has a label.
        UnknownNameError: If no clip has one of the ``classes``.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> rows = "label,youtube_id,time_start,time_end,split", "abseiling,-3B32lodo2M,59,69,val"
        >>> _ = (folder / "val.csv").write_text(chr(10).join(rows))
        >>> data = load_kinetics("kinetics400", root=folder, annotations=[folder / "val.csv"])
        >>> len(data.labels), data.records[0].group, data.records[0].status
        (400, '-3B32lodo2M', 'missing')

    References:
        https://github.com/cvdfoundation/kinetics-dataset
    """
    root = Path(root)
    if not root.is_dir():
        raise DatasetError(f"no folder of clips at {root}")
    known = class_labels(name) if name in LABEL_SETS else ()
    rows = [clip for file in annotations for clip in read_annotations(file, labels=known)]
    clips = select_clips(rows, classes=classes, youtube_ids=youtube_ids)
    labels = tuple(sorted(classes or known or {clip.label for clip in clips if clip.label}, key=str.encode))
    if not labels:
        raise DatasetError(f"none of the {len(clips)} clips has a label: pass an annotation file with labels")
    index_of = {label: i for i, label in enumerate(labels)}
    found = find_clips(root, clips)
    shared = _videos_in_two_splits(clips)
    downloads = read_status(root)
    records = []
    for clip in clips:
        path = found.paths.get(clip)
        label = index_of[clip.label] if clip.label else UNLABELED
        group = "" if clip.youtube_id in shared else clip.youtube_id
        status, reason = ("listed", "") if path else ("missing", _why_missing(downloads.get(str(clip.path))))
        records.append(VideoRecord(path or root / clip.path, label, clip.split, group, status=status, reason=reason))
    return Manifest(name, root, labels, tuple(records), tuple(_notes(rows, clips, found, shared)))


def _why_missing(download: ClipStatus | None) -> str:
    """Return why a download did not get a clip, if one was tried."""
    if download is None or download.done:
        return "no such file"
    return f"{download.status}: {download.reason}".removesuffix(": ")


@dataclass(frozen=True)
class FoundClips:
    """Result of :func:`find_clips`."""

    paths: Mapping[KineticsClip, Path]
    num_other_times: int
    """Clips that were found by ID in files whose names have other times."""
    num_repeated: int
    """Clips that exist more than once; one of them is used."""


def find_clips(root: Path, clips: Collection[KineticsClip]) -> FoundClips:
    """Find clips below a folder by their file names; hidden and system files are ignored."""
    lookup = ClipLookup(clips)
    candidates: dict[KineticsClip, list[Path]] = defaultdict(list)
    for path in find_videos(root).videos:
        for clip in lookup.clips_of(path.stem):
            candidates[clip].append(path)
    paths, num_other_times, num_repeated = {}, 0, 0
    for clip, files in candidates.items():
        expected = root / clip.path
        paths[clip] = min(files, key=lambda p: (p.parent.name != _REPLACEMENT_FOLDER, p != expected, str(p)))
        num_other_times += start_of(paths[clip].stem) not in (None, int(clip.start_seconds))
        num_repeated += len([p for p in files if p.parent.name != _REPLACEMENT_FOLDER]) > 1
    return FoundClips(paths, num_other_times, num_repeated)


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
        yield f"{found.num_other_times} files have other times in their names than in the annotations; matched by ID"
    if found.num_repeated:
        yield f"{found.num_repeated} clips exist more than once; one of them is used"
