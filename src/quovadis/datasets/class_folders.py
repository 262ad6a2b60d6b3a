"""Read a dataset from a folder with one subfolder per class, optionally inside a folder per split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quovadis.datasets import hmdb51, ucf101
from quovadis.datasets.kinetics.annotations import youtube_id
from quovadis.datasets.manifest import SPLIT_WORDS, Manifest, preview_names
from quovadis.datasets.manifest_builder import ListedVideo, build_manifest
from quovadis.datasets.video_files import (
    FoundVideos,
    count_by_extension,
    find_videos,
    is_ignored,
    is_video,
    require_videos,
    visible_folders,
)
from quovadis.errors import DatasetError

_EMPTY_CLASS_HINT = ": add videos to this class folder, or remove it"


def from_folder(root: Path, *, split_seed: int = 0, group_by: str | None = None) -> Manifest:
    """Read ``root/CLASS/VIDEO.mp4`` or ``root/SPLIT/CLASS/VIDEO.mp4``.

    A folder named like a split (``train``, ``test``, ``validation`` ...) counts as a class if it directly contains
    videos and there are other class folders next to it. Hidden and system files are ignored. Other files without a
    video extension are counted in a note. If all files are named like those of UCF-101, HMDB-51 or Kinetics, groups
    are derived from the names.

    Args:
        root: The folder.
        split_seed: Seed of splits that are made here.
        group_by: Pattern of the group in the path of a video; see :func:`quovadis.datasets.load.load_dataset`.

    Raises:
        DatasetError: If there are no class folders, a class folder has no videos, a group or a file is in two splits,
            or it is ambiguous whether a folder is a split or a class.
    """
    layout = _layout(root)
    videos = [
        ListedVideo(video, found.root.name, split)
        for found, split in layout.classes
        for video in require_videos(found, _EMPTY_CLASS_HINT)
    ]
    if not videos:
        raise DatasetError(f"{root} has no class folders with videos: expected {root.name}/CLASS/VIDEO.mp4")
    notes = list(layout.notes)
    if others := count_by_extension([path for found, _ in layout.classes for path in found.others]):
        notes.append(f"ignored {others}")
    dataset, groups = groups_by_name([v.path for v in videos])
    if dataset:
        notes.append(f"file names match {dataset}: groups are derived from them")
    if dataset == "Kinetics":  # the published lists have a few videos in two splits
        pairs = {(group, v.split) for v, group in zip(videos, groups, strict=True)}
        shared = {group for group, count in Counter(group for group, _ in pairs).items() if count > 1}
        groups = ["" if group in shared else group for group in groups]
        notes += [f"{len(shared)} videos have clips in two splits: {preview_names(sorted(shared))}"] if shared else []
    videos = [replace(v, group=group) for v, group in zip(videos, groups, strict=True)]
    return build_manifest(root.absolute().name, root, videos, split_seed=split_seed, group_by=group_by, notes=notes)


def groups_by_name(paths: Sequence[Path]) -> tuple[str, list[str]]:
    """Derive groups from file names, if all of them follow the naming scheme of one dataset.

    Without groups, random splits would put clips of one source video into both training and test.

    Returns:
        The dataset and a group for each path, or an empty name and empty groups.

    Example:
        >>> groups_by_name([Path("YoYo/v_YoYo_g01_c01.avi"), Path("YoYo/v_YoYo_g02_c01.avi")])
        ('UCF-101', ['YoYo_g01', 'YoYo_g02'])
        >>> groups_by_name([Path("YoYo/v_YoYo_g01_c01.avi"), Path("YoYo/mine.avi")])
        ('', ['', ''])
    """
    schemes = {"UCF-101": ucf101.group_of, "HMDB-51": hmdb51.group_of, "Kinetics": youtube_id}
    for dataset, group_of in schemes.items():
        groups = [group_of(path) for path in paths]
        if all(groups):
            return dataset, groups
    return "", [""] * len(paths)


@dataclass(frozen=True)
class _Layout:
    """Class folders with their splits (empty if not given), and notes."""

    classes: list[tuple[FoundVideos, str]]
    notes: list[str]


def _layout(root: Path) -> _Layout:
    """Decide which folders are splits and which are classes."""
    folders = visible_folders(root)
    named_as_split = [f for f in folders if f.name.lower() in SPLIT_WORDS]
    others = [find_videos(f) for f in folders if f not in named_as_split]
    with_videos = [found for found in others if found.videos]
    inner = {f: [find_videos(child) for child in visible_folders(f)] for f in named_as_split}
    splits = [f for f, children in inner.items() if any(found.videos for found in children)]
    if with_videos:  # then a folder that directly contains videos is a class like the folders next to it
        splits = [f for f in splits if not _direct_videos(f)]
    if not splits:
        return _layout_of_classes(root, [*others, *(find_videos(f) for f in named_as_split)])
    if with_videos and len(splits) == 1:
        raise DatasetError(
            f"{splits[0]} may be a split or a class: it contains folders of videos, and so does {with_videos[0].root} "
            f"next to it. Put the classes of a split into {root.name}/train and {root.name}/test, or rename the class "
            f"{splits[0].name}"
        )
    classes = [(found, SPLIT_WORDS[f.name.lower()]) for f in named_as_split for found in inner[f]]
    outside = [*_direct_videos(root), *(v for found in with_videos for v in found.videos)]
    return _Layout(classes, _ignored_note(root, [*outside, *(v for f in named_as_split for v in _direct_videos(f))]))


def _layout_of_classes(root: Path, classes: list[FoundVideos]) -> _Layout:
    classes.sort(key=lambda found: found.root)
    as_split = [found.root.name for found in classes if found.root.name.lower() in SPLIT_WORDS]
    if as_split and len(as_split) == len(classes):
        raise DatasetError(
            f"{root} has the splits {', '.join(as_split)}, but they contain no class folders with videos: expected "
            f"{root.name}/{as_split[0]}/CLASS/VIDEO.mp4"
        )
    notes = [f"{', '.join(as_split)}: read as a class, like the folders next to it"] if as_split else []
    return _Layout([(found, "") for found in classes], notes + _ignored_note(root, _direct_videos(root)))


def _direct_videos(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_video(p.name) and not is_ignored(p.name) and not p.is_dir())


def _ignored_note(root: Path, videos: Sequence[Path]) -> list[str]:
    names = [v.relative_to(root).as_posix() for v in videos]
    return [f"ignored {len(names)} videos outside of class folders: {preview_names(names)}"] if names else []
