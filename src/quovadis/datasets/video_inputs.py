"""Videos as a user names them on a command line: files, folders and lists."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from quovadis.datasets.text_files import LIST_SUFFIXES, read_text, split_list_line
from quovadis.datasets.video_files import find_videos, require_videos
from quovadis.errors import DatasetError, InvalidInputError


def list_videos(inputs: Sequence[Path]) -> dict[str, Path]:
    """List the named videos by the relative path that their outputs will have.

    Args:
        inputs: Video files; folders, with all videos below them (see
            :func:`quovadis.datasets.video_files.find_videos`); text files with one path a line, relative to the file or
            absolute, with or without a label behind it.

    Raises:
        DatasetError: If a folder or list has no videos, or a list cannot be read.
        InvalidInputError: If two different videos have the same relative path.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for name, path in _named(given):
            other = found.setdefault(name, path)
            if other != path:
                raise InvalidInputError(
                    f"{other} and {path} would be written to one file: name their common folder, whose subfolders are "
                    "kept, or give each its own --out"
                )
    return found


def unique_stems(names: Iterable[str]) -> dict[str, str]:
    """For each relative path of a video the path without its ending, which is kept where two would be equal.

    >>> unique_stems(["a/clip.avi", "a/clip.mp4", "b/clip.mp4"])
    {'a/clip.avi': 'a/clip.avi', 'a/clip.mp4': 'a/clip.mp4', 'b/clip.mp4': 'b/clip'}
    """
    stems = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    while True:  # a name that keeps its ending may equal the stem of another: clip.avi and clip.avi.mp4
        counts = Counter(stems.values())
        doubled = [name for name, stem in stems.items() if counts[stem] > 1 and stem != name]
        if not doubled:
            return stems
        stems |= {name: name for name in doubled}


def _named(given: Path) -> list[tuple[str, Path]]:
    if given.is_dir():
        return [(p.relative_to(given).as_posix(), p) for p in require_videos(find_videos(given))]
    if given.suffix.lower() not in LIST_SUFFIXES:
        return [(given.name, given)]
    videos = [given.parent / split_list_line(line, where, given.parent)[0] for where, line in read_text(given).lines()]
    if not videos:
        raise DatasetError(f"{given} is empty; expected the path of a video on every line")
    return [(_below(p, given.parent), p) for p in videos]


def _below(path: Path, root: Path) -> str:
    """The path below a folder, or its name alone."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
