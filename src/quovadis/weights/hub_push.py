"""Upload weights to the Hugging Face Hub, with a model card."""

import shutil
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from quovadis.errors import DownloadError, QuovadisError, WeightsError
from quovadis.runtime.download import sha256
from quovadis.weights.files import load_weights
from quovadis.weights.hub import FILES, HubAddress, connect, explain
from quovadis.weights.hub_card import HubCard, read_evaluation
from quovadis.weights.load import load_model, locate


@dataclass(frozen=True)
class PushedWeights:
    """A commit on the Hub."""

    repo: str
    commit: str
    address: str
    """``hf://ORG/NAME@COMMIT``, for :func:`quovadis.load_model`."""
    url: str
    """The commit's page."""


def push_weights(
    run: str | PathLike[str],
    repo: str,
    *,
    license: str = "unknown",
    evaluation: str | PathLike[str] | None = None,
    private: bool = False,
    keep_card: bool = False,
) -> PushedWeights:
    """Upload the weights of a run, byte for byte, and a generated model card, in one commit.

    The repository is created where there is none. The file becomes ``model.safetensors``; it has to be one that
    quovadis wrote, so that it says itself which network, classes and data it is of.

    Args:
        run: Run folder, of which the best weights are taken, or a safetensors file.
        repo: ``ORG/NAME`` on the Hub; the user or organization that owns it comes first.
        license: Identifier of the Hub for the license of the weights, such as ``apache-2.0``.
        evaluation: JSON of ``quovadis evaluate``, whose metrics the card shows instead of those of the validation.
        private: Create a repository that only its owner can read. An existing one stays as it is.
        keep_card: Leave the README.md of the repository unchanged.

    Returns:
        The commit, with the address that pins it.

    Raises:
        WeightsError: No weights there, or not safetensors of quovadis; or no valid name of a repository.
        InvalidInputError: The evaluation does not fit.
        DownloadError: No token, no access, or no connection.
        MissingExtraError: huggingface_hub is not installed.
    """
    address = HubAddress.parse(repo)
    if address.revision is not None:
        raise WeightsError(f"{repo!r}: weights are pushed to the main branch; name the repository without '@'")
    _require_token(address)
    with tempfile.TemporaryDirectory() as folder:  # a copy, which no running training replaces during the upload
        file = _copy(locate(run)[0], Path(folder))
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
        except Exception as error:  # huggingface_hub, its HTTP client and hf_xet raise nearly anything
            raise explain(error, address) from error


def _require_token(address: HubAddress) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise DownloadError(
            f"{address.repo}: pushing needs an access token that can write; run `hf auth login` or set HF_TOKEN"
        )


def _copy(source: Path, folder: Path) -> Path:
    """A copy of a weights file of quovadis.

    Raises:
        WeightsError: It is of another format.
    """
    try:
        load_weights(source)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; only safetensors of quovadis are pushed: quovadis weights convert {source} model.safetensors"
        ) from error
    return Path(shutil.copyfile(source, folder / FILES[0]))


def _commit(address: HubAddress, files: dict[str, Path | bytes], private: bool) -> PushedWeights:
    from huggingface_hub import CommitOperationAdd

    api = connect()
    api.create_repo(address.repo, private=private or None, exist_ok=True)
    done = api.create_commit(
        address.repo,
        [CommitOperationAdd(name, content) for name, content in files.items()],
        commit_message="Upload weights with quovadis",
    )
    return PushedWeights(address.repo, done.oid, address.at(done.oid), str(done.commit_url))
