"""List videos given on the command line: files, folders and text files with paths."""

import glob
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from quovadis.datasets.text_files import LIST_SUFFIXES, read_text, split_list_line
from quovadis.datasets.video_files import find_videos, require_videos
from quovadis.errors import DatasetError, InvalidInputError

_MAGIC = re.compile(r"[*?[]")


def list_videos(inputs: Sequence[Path]) -> dict[str, Path]:
    """List videos by the relative path that names their outputs.

    Args:
        inputs: Video files; folders, searched by :func:`quovadis.datasets.video_files.find_videos`; text files with
            one path per line, absolute or relative to the text file, optionally followed by a label, and comments
            after ``#``; or patterns such as ``clips/*.mp4``.

    Returns:
        The path of each video by its relative path: below the folder or text file, or the name of the file.

    Raises:
        DatasetError: If a folder or list has no videos, a list cannot be read, or a pattern matches no file.
        InvalidInputError: If two different videos have the same relative path.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> (folder / "run").mkdir()
        >>> (folder / "run" / "a.mp4").touch()
        >>> list(list_videos([folder]))
        ['run/a.mp4']
    """
    found: dict[str, Path] = {}
    for given in expand_patterns(inputs):
        for name, path in _videos_of(given):
            other = found.setdefault(name, path)
            if other != path:
                raise InvalidInputError(
                    f"{other} and {path} would be written to one file: pass their common folder instead, whose "
                    "subfolders are kept, or run the command once for each with its own --out"
                )
    return found


def expand_patterns(inputs: Iterable[Path]) -> list[Path]:
    """Replace patterns such as ``clips/*.mp4`` by the matching paths, in order. Shells on Windows do not do this.

    Raises:
        DatasetError: If a pattern matches no path.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> (folder / "a.mp4").touch()
        >>> [path.name for path in expand_patterns([folder / "*.mp4", Path("b.mp4")])]
        ['a.mp4', 'b.mp4']
    """
    paths: list[Path] = []
    for given in inputs:
        if not _MAGIC.search(str(given)) or given.exists():
            paths.append(given)
            continue
        found = sorted(glob.glob(str(given), recursive=True))
        if not found:
            raise DatasetError(f"no file matches {given}")
        paths += map(Path, found)
    return paths


def unique_stems(names: Iterable[str]) -> dict[str, str]:
    """Map relative paths of videos to paths without extension; the extension is kept if two would be equal.

    Example:
        >>> unique_stems(["a/clip.avi", "a/clip.mp4", "b/clip.mp4"])
        {'a/clip.avi': 'a/clip.avi', 'a/clip.mp4': 'a/clip.mp4', 'b/clip.mp4': 'b/clip'}
    """
    stems = {name: PurePosixPath(name).with_suffix("").as_posix() for name in names}
    while True:  # repeat, because a kept name may equal the stem of another: clip.avi and clip.avi.mp4
        counts = Counter(stems.values())
        ambiguous = [name for name, stem in stems.items() if counts[stem] > 1 and stem != name]
        if not ambiguous:
            return stems
        stems |= {name: name for name in ambiguous}


def _videos_of(given: Path) -> list[tuple[str, Path]]:
    if given.is_dir():
        return [(p.relative_to(given).as_posix(), p) for p in require_videos(find_videos(given))]
    if given.suffix.lower() not in LIST_SUFFIXES:
        return [(given.name, given)]
    folder = given.parent
    lines = [(where, line) for where, line in read_text(given).lines() if not _is_comment(line, folder)]
    videos = [folder / split_list_line(line, where, folder)[0] for where, line in lines]
    if not videos:
        raise DatasetError(f"{given} is empty; expected the path of a video on every line")
    return [(p.relative_to(folder).as_posix() if p.is_relative_to(folder) else p.name, p) for p in videos]


def _is_comment(line: str, folder: Path) -> bool:
    return line.startswith("#") and not (folder / line).exists()
