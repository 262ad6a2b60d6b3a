"""Take videos out of an archive that nobody vouches for."""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from quovadis.datasets.video_files import is_ignored, is_video
from quovadis.errors import DatasetError, DownloadError

_CHUNK_BYTES = 2**20


def extract_videos(
    archive: Path, place: Callable[[str], Path | None], written: Callable[[str, Path], None]
) -> list[str]:
    """Write the videos of a tar archive to where the caller says; nothing in it chooses where it goes.

    Read in one pass, compressed or not. Hidden files, as Macs add them, and files that are no videos are passed over.

    Args:
        archive: a ``.tar``, ``.tar.gz`` or ``.tgz`` file.
        place: called with the name of a video without folder and ending; says where to write it, or None to skip it.
        written: called with the name and the place of a video when it is whole.

    Returns:
        The names of all videos of the archive, also of those that were skipped.

    Raises:
        DatasetError: a member with an absolute path or ``..``, a link, a device: such an archive was made to do harm,
            and nothing more of it is taken. DownloadError: it is damaged, or cut off. OSError: a file cannot be
            written.

    >>> folder = getfixture("tmp_path")
    >>> (folder / "a.mp4").write_bytes(b"video")
    5
    >>> with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
    ...     tar.add(folder / "a.mp4", "deep/a.mp4")
    >>> extract_videos(folder / "x.tar.gz", lambda name: folder / "out.mp4", lambda name, path: None)
    ['a']
    >>> (folder / "out.mp4").read_bytes()
    b'video'
    """
    found = []
    with _opened(archive) as raw, _damage(archive):
        tar = tarfile.open(fileobj=raw, mode="r|")  # noqa: SIM115  (closing it would only close what _opened closes)
        for member in tar:
            _refuse_harm(archive, member)
            name = PurePosixPath(member.name).name
            if member.isdir() or is_ignored(name) or not is_video(name):
                continue
            stem = PurePosixPath(name).stem
            found.append(stem)
            target = place(stem)
            if target is not None:
                file = tar.extractfile(member)
                assert file is not None  # a regular file
                _copy(file, target)
                written(stem, target)
        while raw.read(_CHUNK_BYTES):  # to the checksum at the end
            pass
    return found


def is_archive(path: Path) -> bool:
    """Does the file begin as a tar archive does, compressed or not?"""
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error, gzip.BadGzipFile):  # compressed, and cut off within the first member
        return False


def _refuse_harm(archive: Path, member: tarfile.TarInfo) -> None:
    name = member.name
    parts = PurePosixPath(name).parts
    if not (member.isreg() or member.isdir()):
        problem = "a link" if member.issym() or member.islnk() else "a device"
    elif name.startswith("/") or name[1:2] == ":":
        problem = "an absolute path"
    elif ".." in parts or "\\" in name or "\0" in name:
        problem = "a path that leaves the folder"
    else:
        return
    raise DatasetError(f"{archive} holds {name!r}, {problem}: it is not taken apart any further; do not trust it")


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file
            return
        # Not tarfile's own way with gzip, which does not look at the checksum and takes a cut for the end.
        with gzip.open(file) as raw:
            yield raw  # type: ignore[misc]


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive} is damaged: {error}") from error


def _copy(file: IO[bytes], target: Path) -> None:
    with target.open("wb") as out:
        while chunk := file.read(_CHUNK_BYTES):
            out.write(chunk)
