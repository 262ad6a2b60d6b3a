"""Published weights on this machine: found in the cache, or fetched and proven."""

from pathlib import Path

from quovadis import cache
from quovadis.download import Patience, Progress, download, git_blob_id, sha256
from quovadis.errors import WeightsError
from quovadis.weights.catalog import CATALOG, PublishedFile, published


def get_weights(
    name: str,
    *,
    folder: Path | None = None,
    mirror: str | None = None,
    progress: Progress | None = None,
    patience: Patience | None = None,
) -> Path:
    """The files of published weights, fetched if they are not there, and proven byte by byte.

    Args:
        name: see :func:`quovadis.weights.catalog.list_weights`.
        folder: where to keep them; the default is :func:`cache_folder`.
        mirror: an address that serves the same files as ``MIRROR/NAME/FILE``; their bytes are proven all the same.
        progress: told the bytes there and the bytes of the whole file.
        patience: how often to try and how long to wait.

    Returns:
        The file that :func:`quovadis.load_model` opens.

    Raises:
        UnknownNameError: no weights of that name.
        DownloadError: no connection (says what to put where), or the server sent wrong bytes.
        WeightsError: the file that lies there has wrong bytes.
        StorageError: the folder cannot be written to.
    """
    entry = published(name)
    folder = (folder or cache_folder()) / entry.name
    for file in entry.files:
        target = folder / file.name
        if target.is_file():
            problem = problem_with(target, file)
            if problem:
                raise WeightsError(f"{target} is not {name}: {problem}; move it away, then get it again")
            continue
        url = f"{mirror.rstrip('/')}/{entry.name}/{file.name}" if mirror else file.url
        download(
            url,
            target,
            lambda path, file=file: problem_with(path, file),  # type: ignore[misc]
            progress=progress,
            patience=patience,
        )
    return folder / entry.files[0].name


def cache_folder() -> Path:
    """Where fetched weights are kept: ``weights`` in :func:`quovadis.cache.cache_folder`."""
    return cache.cache_folder() / "weights"


def problem_with(path: Path, file: PublishedFile) -> str:
    """What is wrong with the bytes of a published file, or ``""``."""
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        return f"it has {size} bytes; the published file has {file.size_bytes}"
    if file.git_blob_id and (found := git_blob_id(path)) != file.git_blob_id:
        return f"its git blob id is {found}; the published file has {file.git_blob_id}"
    if file.sha256_prefix and not (found := sha256(path)).startswith(file.sha256_prefix):
        return f"its sha256 is {found}; that of the published file starts with {file.sha256_prefix}"
    return ""


def published_as(path: Path) -> str:
    """The catalogue's name of a file that is a whole set of published weights, by its bytes; ``""`` if it is none."""
    for entry in CATALOG.values():
        if len(entry.files) == 1 and not problem_with(path, entry.files[0]):
            return entry.name
    return ""
