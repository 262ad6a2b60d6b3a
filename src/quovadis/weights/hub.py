"""Download weights from the Hugging Face Hub: ``hf://ORG/NAME`` and ``hf://ORG/NAME@REVISION``.

One safetensors file is downloaded into the cache of huggingface_hub. It contains tensors and JSON; no code is
downloaded or executed, and pickles are refused. The commit of the revision is printed and recorded in
``model.source["hub"]``. Requires the extra ``hub``. The environment variables ``HF_TOKEN``, ``HF_HOME``,
``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` are supported.
"""

import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from quovadis.errors import DownloadError, QuovadisError, StorageError, WeightsError
from quovadis.runtime import distributed
from quovadis.runtime.extras import missing_extra
from quovadis.runtime.hashing import git_blob_id, sha256
from quovadis.runtime.plain_text import print, printable
from quovadis.version import __version__

FILES = ("model.safetensors", "best.safetensors")
"""Names of the weights file in a repository, in order of preference."""

_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_COMMIT = re.compile("[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_REVISION = re.compile(r"[\w+-][\w.+-]*(/[\w+-][\w.+-]*)*")
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class HubAddress:
    """Address of a model repository on the Hugging Face Hub, with an optional revision.

    Example:
        >>> HubAddress.parse("hf://org/name@v1")  # doctest: +SKIP
        HubAddress(repo='org/name', revision='v1')
    """

    repo: str
    """``ORG/NAME``."""
    revision: str | None = None
    """Branch, tag or commit. None is the branch ``main``."""

    @classmethod
    def parse(cls, text: str) -> "HubAddress":
        """Parse an address.

        Args:
            text: ``hf://ORG/NAME`` or ``hf://ORG/NAME@REVISION``. One slash instead of two is accepted because
                :class:`pathlib.Path` removes the other.

        Raises:
            WeightsError: If the address is invalid.
            MissingExtraError: If huggingface_hub is not installed.
        """
        repo, at, revision = re.sub("^hf:/+", "", text).partition("@")
        _check_repo(repo, f"{text!r} is not a valid address of a model on the Hugging Face Hub")
        if at and not _REVISION.fullmatch(revision):
            raise WeightsError(f"{text!r} has an invalid revision after '@'; expected a branch, a tag or a commit")
        return cls(repo, revision or None)

    def at(self, commit: str) -> str:
        """Return the address of one commit of the repository."""
        return f"hf://{self.repo}@{commit}"

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def is_hub_address(text: str) -> bool:
    """Return whether a string is an address on the Hub, also after conversion by :class:`pathlib.Path`.

    >>> is_hub_address("hf://org/name"), is_hub_address(str(Path("hf://org/name"))), is_hub_address("org/name")
    (True, True, False)
    """
    return text.startswith("hf:/")


def download_from_hub(address: HubAddress) -> Path:
    """Download the weights file of a repository unless it is cached, and verify its checksum.

    A cached commit requires no connection. If the Hub cannot be reached, the cached commit of the revision is used, and
    a message is printed on stderr.

    Returns:
        The file in the cache of huggingface_hub.

    Raises:
        DownloadError: If there is no such repository or revision, no access, or no connection and no cached file.
        WeightsError: If the repository contains no safetensors weights of quovadis, or the cached file is damaged.
        StorageError: If the cache cannot be written to.
    """
    pinned = address.revision is not None and _COMMIT.fullmatch(address.revision)
    if pinned and (cached := _find_cached(address)):
        return _verify(cached, address, ", from the cache")
    try:
        return _verify(_download(address), address)
    except QuovadisError:
        raise
    except Exception as error:  # huggingface_hub, its HTTP client and hf_xet raise many types
        if not _unreachable(error):
            raise convert_error(error, address) from error
        cached = _find_cached(address)
        if cached is None:
            raise DownloadError(
                f"{address}: {_why_unreachable(error)}, and this revision is not in the cache; load it once with a "
                "connection, or use a weights file"
            ) from error
        return _verify(cached, address, f", from the cache: {_why_unreachable(error)}")


def hub_source(path: Path) -> dict[str, str]:
    """Return ``{"hub": "hf://ORG/NAME@COMMIT"}`` for a file in the cache of huggingface_hub, else an empty dict."""
    folder = path.absolute().parent
    repo = re.fullmatch("models--(.+)--(.+)", folder.parent.parent.name)
    if repo is None or folder.parent.name != "snapshots" or not _COMMIT.fullmatch(folder.name):
        return {}
    return {"hub": HubAddress(f"{repo[1]}/{repo[2]}").at(folder.name)}


def hub_api() -> Any:
    """Return the API client of huggingface_hub.

    Raises:
        MissingExtraError: If huggingface_hub is not installed.
    """
    return _library().HfApi(library_name="quovadis", library_version=__version__)


def convert_error(error: BaseException, address: HubAddress) -> QuovadisError:
    """Convert an exception of huggingface_hub to one of quovadis with a one-line message."""
    from huggingface_hub import errors

    if isinstance(error, QuovadisError):
        return error
    if type(error) is RuntimeError and error.__cause__ is not None:  # wraps the reason of a failed upload
        return convert_error(error.__cause__, address)
    host, status = hub_api().endpoint, _status(error)
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{address.repo} is gated: accept its terms at {host}/{address.repo}, then log in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(f"{address.repo} at {host} has no revision {address.revision or 'main'!r}")
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return DownloadError(f"no model repository {address.repo} at {host}, or it is private: {_token_advice()}")
    if status == 403:
        return DownloadError(f"{host} refused access to {address.repo} ({_reason(error)}): {_token_advice()}")
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(f"{address}: {error.filename or 'the cache'}: {error.strerror}")
    if _unreachable(error):
        return DownloadError(f"{address}: {_why_unreachable(error)}")
    if type(error) is ConnectionError:  # raised by hf_xet, also if the server does not support its protocol
        return DownloadError(f"{address}: {_reason(error)}; for a server without Xet storage set HF_HUB_DISABLE_XET=1")
    return DownloadError(f"{address}: {_reason(error)}")


def _download(address: HubAddress) -> Path:
    api = hub_api()
    info = api.model_info(address.repo, revision=address.revision, timeout=_TIMEOUT_SECONDS)
    name = _weights_file(address, [sibling.rfilename for sibling in info.siblings or ()])
    path = Path(api.hf_hub_download(address.repo, name, revision=address.revision))
    if path.parent.name != info.sha:
        raise DownloadError(
            f"{address}: the revision changed from commit {info.sha} to {path.parent.name} during the download. "
            "Try again"
        )
    return path


def _weights_file(address: HubAddress, names: list[str]) -> str:
    """Choose the file to download from the files in the repository."""
    for name in FILES:
        if name in names:
            return name
    pickles = [name for name in names if name.lower().endswith(_PICKLES)]
    raise WeightsError(
        f"{address} contains no {' or '.join(FILES)}"
        + (f", only pickles ({', '.join(pickles[:3])}), which can run code and are not loaded" if pickles else "")
        + "; `quovadis weights push` writes repositories that can be loaded"
    )


def _find_cached(address: HubAddress) -> Path | None:
    for name in FILES:
        found = _library().try_to_load_from_cache(address.repo, name, revision=address.revision)
        if isinstance(found, str):  # otherwise None, or a sentinel for "known not to exist"
            return Path(found)
    return None


def _verify(path: Path, address: HubAddress, note: str = "") -> Path:
    """Verify the checksum and the header of a file, print its commit, and return the file."""
    _verify_checksum(path)
    _verify_header(path, address)
    _print_once(f"{address}: commit {path.parent.name}{note}")
    return path


def _verify_checksum(path: Path) -> None:
    """Compare the checksum of a file with its name in the cache: a sha256, or a git blob ID for small files.

    On systems without symbolic links the cache has no such names, and nothing is compared.
    """
    if not path.is_symlink():
        return
    blob = Path(os.path.normpath(path.parent / os.readlink(path)))
    compute_checksum = {64: sha256, 40: git_blob_id}.get(len(blob.name))
    if compute_checksum is None or not re.fullmatch("[0-9a-f]+", blob.name):
        return
    if (found := compute_checksum(path)) != blob.name:
        raise WeightsError(
            f"{blob} is damaged: its checksum is {found}; expected {blob.name}. Delete the file and load it again"
        )


def _verify_header(path: Path, address: HubAddress) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{address}: {path.name} is not a safetensors file: {error}") from error
    if "quovadis" not in metadata:
        raise WeightsError(
            f"{address}: {path.name} was not written by quovadis: its header does not state which model it contains"
        )


def _check_repo(repo: str, problem: str) -> None:
    if not _REPO.fullmatch(repo):
        raise WeightsError(f"{problem}; expected hf://ORG/NAME or hf://ORG/NAME@REVISION")
    _library()
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except ValueError as error:
        raise WeightsError(f"{problem}: {_reason(error)}") from error


def _library() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise missing_extra("models on the Hugging Face Hub", "hub") from error
    return huggingface_hub


def _unreachable(error: BaseException) -> bool:
    """Return whether the Hub does not respond or is temporarily unavailable."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return True
    status = _status(error)
    return isinstance(error, HTTPError) and (status is None or status == 429 or status >= 500)


def _why_unreachable(error: BaseException) -> str:
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "offline, because HF_HUB_OFFLINE is set"
    return f"{hub_api().endpoint} cannot be reached ({_reason(error)})"


def _status(error: BaseException) -> int | None:
    """Return the status code of the HTTP response that caused an error, if any."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _reason(error: BaseException) -> str:
    """Return the first line of a message that is not empty."""
    lines = [line.strip() for line in str(getattr(error, "server_message", None) or error).splitlines()]
    return printable(next(filter(None, lines), type(error).__name__))


def _token_advice() -> str:
    if _library().get_token() is None:
        return "no access token is set; run `hf auth login` or set HF_TOKEN"
    return "check the name, and that the access token is valid and has the required permission"


@cache
def _print_once(message: str) -> None:
    """Print a message on stderr, once per process."""
    if distributed.is_main():
        print(message, file=sys.stderr)
