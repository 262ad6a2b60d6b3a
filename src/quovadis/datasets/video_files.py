"""Find video files in folders: the one place that decides what counts as a video and what is ignored."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quovadis.errors import DatasetError
from quovadis.flow.flow_files import FILE_ENDING as FLOW_ENDING

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
"""Endings of video files, in lower case; a file's own may be in any."""

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
    """The files below a folder."""

    root: Path
    videos: tuple[Path, ...]
    """Video files, sorted."""
    others: tuple[Path, ...]
    """Other files, sorted; without hidden and system files and without stored flow."""

    def describe_others(self) -> str:
        """Count the other files by ending, or an empty string where there are none.

        >>> FoundVideos(Path("a"), (), (Path("a/x.txt"), Path("a/y.TXT"), Path("a/z"))).describe_others()
        '3 files that are not videos by their ending (.txt 2, no ending 1)'
        """
        return describe_others(self.others)


def find_videos(root: Path) -> FoundVideos:
    """Find all video files below a folder.

    Hidden and system files and folders (``._clip.mp4``, ``__MACOSX``, ``@eaDir``, ``$RECYCLE.BIN`` ...) and stored flow
    (``*.flow.mp4``) are ignored. Links to folders are followed, except upward; every folder is read once, under its own
    name where it has one below ``root``. A link to a video that does not exist is listed, to be reported missing.

    Raises:
        DatasetError: If a folder cannot be read.

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
    while waiting:  # links wait until the folders themselves have been read
        links: list[Path] = []
        for start in waiting:
            for folder, subfolders, files in os.walk(start, onerror=_refuse):
                if _fingerprint(folder) in seen:
                    subfolders.clear()
                    continue
                seen.add(_fingerprint(folder))
                subfolders[:] = sorted(name for name in subfolders if not is_ignored(name))
                links += [link for name in subfolders if _leads_elsewhere(link := Path(folder, name))]
                for name in files:
                    if not is_ignored(name) and not name.endswith(FLOW_ENDING):
                        (videos if is_video(name) else others).append(Path(folder, name))
        waiting = links
    return FoundVideos(root, tuple(sorted(videos)), tuple(sorted(others)))


def visible_folders(root: Path) -> list[Path]:
    """The subfolders that are neither hidden nor the system's, sorted; links to folders count.

    Raises:
        DatasetError: If the folder cannot be read.
    """
    try:
        return sorted(p for p in root.iterdir() if not is_ignored(p.name) and p.is_dir())
    except OSError as error:
        _refuse(error)
        raise


def is_video(name: str) -> bool:
    """Whether a file name has the ending of a video."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def is_ignored(name: str) -> bool:
    """Whether a file or folder is hidden or belongs to the system, by its name alone.

    >>> [name for name in ("clip.mp4", "._clip.mp4", ".Trash", "@eaDir", "__MACOSX", "Thumbs.db") if is_ignored(name)]
    ['._clip.mp4', '.Trash', '@eaDir', '__MACOSX', 'Thumbs.db']
    """
    return (
        name.startswith((".", "~$"))
        or name.lower() in _SYSTEM_NAMES
        or name.endswith(("@SynoEAStream", "@SynoResource"))
    )


def require_videos(found: FoundVideos, hint: str = "") -> tuple[Path, ...]:
    """The videos of a folder.

    Raises:
        DatasetError: If there are none; says what is there instead.
    """
    if not found.videos:
        there = found.describe_others()
        raise DatasetError(f"{found.root} has no video files{f', but {there}' if there else ''}{hint}")
    return found.videos


def describe_others(paths: Sequence[Path]) -> str:
    """As :meth:`FoundVideos.describe_others`, for files of several folders."""
    if not paths:
        return ""
    counts = Counter(path.suffix.lower() or "no ending" for path in paths)
    listed = [f"{ending} {count}" for ending, count in counts.most_common(8)]
    more = ["..."] if len(counts) > len(listed) else []
    files = "file that is not a video by its" if len(paths) == 1 else "files that are not videos by their"
    return f"{len(paths)} {files} ending ({', '.join([*listed, *more])})"


def _leads_elsewhere(path: Path) -> bool:
    """Whether a folder is a link, and not one to a folder that it is in."""
    return path.is_symlink() and not path.parent.resolve().is_relative_to(path.resolve())


def _fingerprint(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror or error}") from error
