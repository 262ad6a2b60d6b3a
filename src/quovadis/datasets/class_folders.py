"""Read a dataset from a folder with one subfolder per class, or with such a folder per split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quovadis.datasets.assemble import Found, assemble
from quovadis.datasets.groups import groups_by_name
from quovadis.datasets.manifest import SPLIT_WORDS, Manifest, shorten
from quovadis.datasets.video_files import (
    FoundVideos,
    describe_others,
    find_videos,
    is_ignored,
    is_video,
    require_videos,
    visible_folders,
)
from quovadis.errors import DatasetError


def from_folder(root: Path, *, split_seed: int = 0) -> Manifest:
    """Read a folder with one subfolder per class, or with such a folder per split.

    A folder named like a split (``train``, ``test``, ``validation`` ...) is a class where it holds videos itself and
    has other class folders next to it. Hidden and system files are ignored; other files that are not videos by their
    ending are counted in a note. Where all files are named like those of UCF-101, HMDB-51 or Kinetics, their groups are
    taken from the names.

    Raises:
        DatasetError: If there are no class folders, one has no videos, a group or a file is in two splits, or it is not
            clear whether a folder is a split or a class.
    """
    layout = _layout(root)
    found = [
        Found(video, part.root.name, split) for part, split in layout.classes for video in require_videos(part, _ADVICE)
    ]
    if not found:
        raise DatasetError(f"{root} has no class folders with videos: expected {root.name}/CLASS/VIDEO.mp4")
    dataset, groups = groups_by_name([f.path for f in found])
    notes = [*layout.notes, *_others_note([path for part, _ in layout.classes for path in part.others])]
    notes += [f"the file names are those of {dataset}: groups are taken from them"] if dataset else []
    if dataset == "Kinetics":  # whose published lists put a few videos in two splits
        sides = {(group, f.split) for f, group in zip(found, groups, strict=True)}
        shared = {group for group, count in Counter(group for group, _ in sides).items() if count > 1}
        groups = ["" if group in shared else group for group in groups]
        notes += [f"{len(shared)} videos have clips in two splits: {shorten(sorted(shared))}"] if shared else []
    found = [replace(f, group=group) for f, group in zip(found, groups, strict=True)]
    return assemble(root.absolute().name, root, found, split_seed=split_seed, notes=notes)


_ADVICE = ": add videos to this class folder, or remove it"


@dataclass(frozen=True)
class _Layout:
    """Class folders, each with its split or an empty string."""

    classes: list[tuple[FoundVideos, str]]
    notes: list[str]


def _layout(root: Path) -> _Layout:
    """Decide which folders are splits and which are classes."""
    folders = visible_folders(root)
    named_as_split = [f for f in folders if f.name.lower() in SPLIT_WORDS]
    others = [find_videos(f) for f in folders if f not in named_as_split]
    with_videos = [part for part in others if part.videos]
    inner = {f: [find_videos(child) for child in visible_folders(f)] for f in named_as_split}
    splits = [f for f, parts in inner.items() if any(part.videos for part in parts)]
    if with_videos:  # then a folder with videos of its own is a class like its neighbors
        splits = [f for f in splits if not _loose_videos(f)]
    if not splits:
        return _layout_of_classes(root, [*others, *(find_videos(f) for f in named_as_split)])
    if with_videos and len(splits) == 1:
        raise DatasetError(
            f"{splits[0]} may be a split or a class: it holds folders of videos, and so does its neighbor "
            f"{with_videos[0].root.name}. Put the classes of a split into {root.name}/train and {root.name}/test, or "
            f"rename the class {splits[0].name}"
        )
    classes = [(part, SPLIT_WORDS[f.name.lower()]) for f in named_as_split for part in inner[f]]
    aside = [*_loose_videos(root), *(v for part in with_videos for v in part.videos)]
    return _Layout(classes, _aside_note(root, [*aside, *(v for f in named_as_split for v in _loose_videos(f))]))


def _layout_of_classes(root: Path, parts: list[FoundVideos]) -> _Layout:
    parts.sort(key=lambda part: part.root)
    as_split = [part.root.name for part in parts if part.root.name.lower() in SPLIT_WORDS]
    if as_split and len(as_split) == len(parts):
        raise DatasetError(
            f"{root} has the splits {', '.join(as_split)} and no class folders with videos in them: expected "
            f"{root.name}/{as_split[0]}/CLASS/VIDEO.mp4"
        )
    notes = [f"{', '.join(as_split)}: taken as a class, like the folders next to it"] if as_split else []
    return _Layout([(part, "") for part in parts], notes + _aside_note(root, _loose_videos(root)))


def _loose_videos(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if is_video(p.name) and not is_ignored(p.name) and not p.is_dir())


def _aside_note(root: Path, videos: Sequence[Path]) -> list[str]:
    names = [v.relative_to(root).as_posix() for v in videos]
    return [f"ignored {len(names)} videos outside of class folders: {shorten(names)}"] if names else []


def _others_note(others: Sequence[Path]) -> list[str]:
    return [f"ignored {describe_others(others)}"] if others else []
