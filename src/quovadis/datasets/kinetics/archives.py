"""Extract videos from untrusted tar archives."""

import gzip
import shutil
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
    archive: Path, choose_path: Callable[[str], Path | None], on_extracted: Callable[[str, Path], None]
) -> list[str]:
    """Extract the videos of a tar archive to paths that the caller chooses; paths in the archive are not used.

    Reads the archive in one pass, compressed or not. Skips hidden files and files that are not videos.

    Args:
        archive: A ``.tar``, ``.tar.gz`` or ``.tgz`` file.
        choose_path: Called with the name of a video, without folder and extension; returns the path to write, or None
            to skip the video.
        on_extracted: Called with the name and the path of each extracted video.

    Returns:
        The names of all videos in the archive, including skipped ones.

    Raises:
        DatasetError: If a member is a link or a device, or has an absolute path or ``..``. Such an archive is malicious
            and is not extracted further.
        DownloadError: If the archive is damaged or truncated.
        OSError: If a file cannot be written.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> _ = (folder / "a.mp4").write_bytes(b"video")
        >>> with tarfile.open(folder / "x.tar.gz", "w:gz") as tar:
        ...     tar.add(folder / "a.mp4", "deep/a.mp4")
        >>> extract_videos(folder / "x.tar.gz", lambda name: folder / "out.mp4", lambda name, path: None)
        ['a']
        >>> (folder / "out.mp4").read_bytes()
        b'video'
    """
    found = []
    with _open_archive(archive) as raw, _damage_errors(archive):
        tar = tarfile.open(fileobj=raw, mode="r|")  # noqa: SIM115  (closed by _open_archive)
        for member in tar:
            _refuse_unsafe_member(archive, member)
            name = PurePosixPath(member.name).name
            if member.isdir() or is_ignored(name) or not is_video(name):
                continue
            stem = PurePosixPath(name).stem
            found.append(stem)
            target = choose_path(stem)
            if target is not None:
                file = tar.extractfile(member)
                assert file is not None  # a regular file
                with target.open("wb") as out:
                    shutil.copyfileobj(file, out, _CHUNK_BYTES)
                on_extracted(stem, target)
        while raw.read(_CHUNK_BYTES):  # read to the end, to verify the checksum
            pass
    return found


def is_archive(path: Path) -> bool:
    """Return True if the file starts like a tar archive, compressed or not."""
    try:
        return tarfile.is_tarfile(path)
    except (EOFError, zlib.error, gzip.BadGzipFile):  # compressed, and truncated within the first member
        return False


def _refuse_unsafe_member(archive: Path, member: tarfile.TarInfo) -> None:
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
    raise DatasetError(f"{archive} contains {name!r}, {problem}: the archive is unsafe and is not extracted further")


@contextmanager
def _open_archive(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file
            return
        # Not tarfile's own decompression, which does not verify the checksum and accepts truncated files.
        with gzip.open(file) as raw:
            yield raw  # type: ignore[misc]


@contextmanager
def _damage_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DownloadError(f"{archive} is damaged: {error}") from error
