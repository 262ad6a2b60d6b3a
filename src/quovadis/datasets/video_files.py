"""Find video files in folders; rules for what counts as a video and what is ignored."""

import os
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quovadis.errors import DatasetError
from quovadis.flow.flow_files import FLOW_SUFFIX as FLOW_ENDING

VIDEO_SUFFIXES = tuple(
    f".{suffix}"
    for suffix in (
        *("264", "265", "3g2", "3gp", "3gpp", "amv", "asf", "avc", "avi", "dav", "dif", "divx", "dv", "f4v", "flv"),
        *("gif", "h261", "h263", "h264", "h265", "hevc", "insv", "ivf", "lrv", "m1v", "m2p", "m2t", "m2ts"),
        *("m2v", "m4v", "mj2", "mjpeg", "mjpg", "mkv", "mod", "mov", "mp2v", "mp4", "mp4v", "mpe", "mpeg", "mpeg1"),
        *("mpeg2", "mpeg4", "mpg", "mpg2", "mpg4", "mpv", "mts", "mxf", "nut", "ogm", "ogv", "ogx", "qt", "rm", "rmvb"),
        *("tod", "tp", "trp", "ts", "vob", "webm", "wm", "wmv", "wtv", "xvid", "y4m"),
    )
)
"""Extensions of video files, in lower case; they are compared ignoring case."""

_SYSTEM_NAMES = frozenset(
    (
        *("__macosx", "network trash folder", "temporary items", "icon\r"),  # macOS
        *("$recycle.bin", "recycler", "system volume information", "found.000"),  # Windows
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
        *("@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),  # Synology, QNAP
        *("lost+found", "__pycache__"),
    )
)


@dataclass(frozen=True)
class FoundVideos:
    """Result of :func:`find_videos`."""

    root: Path
    videos: tuple[Path, ...]
    """Video files, sorted."""
    others: tuple[Path, ...]
    """Other files, sorted, except hidden files, system files and stored flow."""


def find_videos(root: Path) -> FoundVideos:
    """Find all video files below a folder.

    Hidden and system files and folders (``._clip.mp4``, ``__MACOSX``, ``@eaDir``, ``$RECYCLE.BIN`` ...) and stored flow
    (``*.flow.mp4``) are ignored. Links to folders are followed, except to parent folders. Each folder is read once; its
    real path takes precedence over links. Broken links to videos are listed, so that they are reported as missing.

    Raises:
        DatasetError: If a folder cannot be read.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> for name in ("b.MP4", "a.avi", "._a.avi", "a.flow.mp4", "notes.txt"):
        ...     (folder / name).touch()
        >>> found = find_videos(folder)
        >>> [path.name for path in found.videos], [path.name for path in found.others]
        (['a.avi', 'b.MP4'], ['notes.txt'])
    """
    videos: list[Path] = []
    others: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:  # follow links only after all real folders have been read
        links: list[Path] = []
        for start in waiting:
            for folder, subfolders, files in os.walk(start, onerror=_raise_dataset_error):
                if _inode(folder) in seen:
                    subfolders.clear()
                    continue
                seen.add(_inode(folder))
                subfolders[:] = sorted(name for name in subfolders if not is_ignored(name))
                links += [link for name in subfolders if _is_link_elsewhere(link := Path(folder, name))]
                for name in files:
                    if not is_ignored(name) and not name.endswith(FLOW_ENDING):
                        (videos if is_video(name) else others).append(Path(folder, name))
        waiting = links
    return FoundVideos(root, tuple(sorted(videos)), tuple(sorted(others)))


def visible_folders(root: Path) -> list[Path]:
    """List the subfolders, links included, that are neither hidden nor system folders; sorted.

    Raises:
        DatasetError: If the folder cannot be read.
    """
    try:
        return sorted(p for p in root.iterdir() if not is_ignored(p.name) and p.is_dir())
    except OSError as error:
        _raise_dataset_error(error)
        raise


def is_video(name: str) -> bool:
    """Return True if a file name has the extension of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_ignored(name: str) -> bool:
    """Return True if the name is that of a hidden or system file or folder.

    Example:
        >>> names = ("clip.mp4", "._clip.mp4", ".Trash", "@eaDir", "__MACOSX", "Thumbs.db")
        >>> [name for name in names if is_ignored(name)]
        ['._clip.mp4', '.Trash', '@eaDir', '__MACOSX', 'Thumbs.db']
    """
    return (
        name.startswith((".", "~$"))
        or name.lower() in _SYSTEM_NAMES
        or name.endswith(("@SynoEAStream", "@SynoResource"))
    )


def require_videos(found: FoundVideos, hint: str = "") -> tuple[Path, ...]:
    """Return the videos that were found.

    Args:
        found: Result of :func:`find_videos`.
        hint: Text that is appended to the error message.

    Raises:
        DatasetError: If there are no videos.
    """
    if not found.videos:
        others = count_by_extension(found.others)
        raise DatasetError(f"{found.root} has no video files{f', but {others}' if others else ''}{hint}")
    return found.videos


def same_files(paths: Sequence[Path]) -> list[list[int]]:
    """Find paths that name the same file: equal paths, symbolic links and hard links.

    Returns:
        The indices of the paths of each file that has more than one.

    Example:
        >>> same_files([Path("a.mp4"), Path("b.mp4"), Path("a.mp4")])
        [[0, 2]]
    """
    by_inode: dict[Hashable, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        try:
            status = os.stat(path)
            by_inode[status.st_dev, status.st_ino].append(i)
        except (OSError, ValueError):
            by_inode[os.path.abspath(path)].append(i)
    by_file: dict[Hashable, list[int]] = defaultdict(list)
    for key, indices in by_inode.items():
        if len(indices) > 1:  # inode numbers are not unique on all file systems, so check for links
            for i in indices:
                path = paths[i]
                is_hard_link = os.path.exists(path) and os.stat(path).st_nlink > 1
                by_file[(key, "" if is_hard_link else os.path.realpath(path))].append(i)
    return [indices for indices in by_file.values() if len(indices) > 1]


def count_by_extension(paths: Sequence[Path]) -> str:
    """Describe files that are not videos, counted by extension; empty if there are none.

    Example:
        >>> count_by_extension([Path("a/x.txt"), Path("a/y.TXT"), Path("a/z")])
        '3 files without a video extension (.txt 2, no extension 1)'
    """
    if not paths:
        return ""
    counts = Counter(path.suffix.lower() or "no extension" for path in paths)
    listed = [f"{extension} {count}" for extension, count in counts.most_common(8)]
    more = ["..."] if len(counts) > len(listed) else []
    files = "file" if len(paths) == 1 else "files"
    return f"{len(paths)} {files} without a video extension ({', '.join([*listed, *more])})"


def _is_link_elsewhere(path: Path) -> bool:
    """Return True for a link to a folder that is not one of its parents."""
    return path.is_symlink() and not path.parent.resolve().is_relative_to(path.resolve())


def _inode(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise_dataset_error(error: OSError) -> None:
    raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror or error}") from error
