"""Upload weights to the Hugging Face Hub, with a model card."""

import shutil
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from quovadis.errors import DownloadError, QuovadisError, WeightsError
from quovadis.runtime.hashing import sha256
from quovadis.weights.files import load_weights
from quovadis.weights.hub import FILES, HubAddress, convert_error, hub_api
from quovadis.weights.hub_card import HubCard, read_evaluation
from quovadis.weights.load import load_model, resolve_weights


@dataclass(frozen=True)
class PushedWeights:
    """A commit of weights on the Hugging Face Hub."""

    repo: str
    commit: str
    address: str
    """``hf://ORG/NAME@COMMIT``, as for :func:`quovadis.load_model`."""
    url: str
    """Web page of the commit."""


def push_weights(
    source: str | PathLike[str],
    repo: str,
    *,
    license: str = "unknown",
    evaluation: str | PathLike[str] | None = None,
    private: bool = False,
    keep_card: bool = False,
) -> PushedWeights:
    """Upload weights and a generated model card to the Hugging Face Hub, in one commit.

    The repository is created if it does not exist. The weights file is uploaded unchanged as ``model.safetensors``. It
    must be a safetensors file of quovadis, because its metadata describe the network, its classes and its origin.

    Args:
        source: Run folder, of which the best weights are uploaded, or a safetensors file.
        repo: ``ORG/NAME``: owner and name of the repository on the Hub.
        license: License of the weights, as an identifier of the Hub such as ``apache-2.0``.
        evaluation: JSON file of ``quovadis evaluate`` whose metrics the card shows instead of the validation metrics.
        private: Create a private repository. The visibility of an existing repository does not change.
        keep_card: Do not replace the README.md of the repository.

    Returns:
        The commit.

    Raises:
        WeightsError: If there are no weights, they are not safetensors of quovadis, or the repository name is invalid.
        InvalidInputError: If the evaluation cannot be read, or belongs to a network with other classes.
        DownloadError: If there is no access token, no access, or no connection.
        MissingExtraError: If huggingface_hub is not installed.

    Example:
        >>> pushed = push_weights("runs/mine", "ORG/NAME", license="apache-2.0")  # doctest: +SKIP
        >>> quovadis.load_model(pushed.address)  # doctest: +SKIP
    """
    address = HubAddress.parse(repo)
    if address.revision is not None:
        raise WeightsError(f"{repo!r}: weights are pushed to the main branch; remove the revision after '@'")
    _require_token(address)
    with tempfile.TemporaryDirectory() as folder:  # a copy, because a running training may replace the file
        file = _copy(resolve_weights(source)[0], Path(folder))
        files: dict[str, Path | bytes] = {FILES[0]: file}
        model = load_model(file)
        result = None if evaluation is None else read_evaluation(Path(evaluation), model.labels)
        if not keep_card:
            card = HubCard(address.repo, model, license, sha256(file), result)
            files["README.md"] = card.text().encode()
        del model
        try:
            return _commit(address, files, private)
        except QuovadisError:
            raise
        except Exception as error:  # huggingface_hub, its HTTP client and hf_xet raise many types
            raise convert_error(error, address) from error


def _require_token(address: HubAddress) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise DownloadError(
            f"{address.repo}: pushing requires an access token that can write; run `hf auth login` or set HF_TOKEN"
        )


def _copy(source: Path, folder: Path) -> Path:
    """Copy a weights file of quovadis; raise WeightsError for other formats."""
    try:
        load_weights(source)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; only safetensors of quovadis can be pushed: quovadis weights convert {source} model.safetensors"
        ) from error
    return Path(shutil.copyfile(source, folder / FILES[0]))


def _commit(address: HubAddress, files: dict[str, Path | bytes], private: bool) -> PushedWeights:
    from huggingface_hub import CommitOperationAdd

    api = hub_api()
    api.create_repo(address.repo, private=private or None, exist_ok=True)
    commit = api.create_commit(
        address.repo,
        [CommitOperationAdd(name, content) for name, content in files.items()],
        commit_message="Upload weights with quovadis",
    )
    return PushedWeights(address.repo, commit.oid, address.at(commit.oid), str(commit.commit_url))
