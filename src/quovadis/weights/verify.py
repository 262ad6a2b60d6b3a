"""Are these the official weights? Tensor by tensor, for any file that holds an I3D.

The index files of the official repository carry a checksum of every tensor, and they are kept here. So a port's file
can be proven although its bytes, names and layouts are its own: each tensor is turned back into the official layout
and its checksum compared.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from quovadis.weights.catalog import of_checkpoint
from quovadis.weights.crc32c import masked_crc32c
from quovadis.weights.from_tensorflow import to_official


@dataclass(frozen=True)
class MatchReport:
    """How the tensors of a file compare with the nearest official checkpoint."""

    nearest: str
    """Name in the catalog."""
    equal: tuple[str, ...]
    """Tensors that are the official ones, bit by bit, under our names."""
    different: tuple[str, ...]
    """Tensors of that checkpoint that the file has otherwise or not at all."""

    @property
    def official(self) -> bool:
        """Every tensor is the official one."""
        return not self.different


@cache
def official_checksums() -> dict[str, dict[str, int]]:
    """Masked CRC-32C of each official tensor: by checkpoint (``rgb_imagenet`` ...) and our name of the tensor."""
    text = files("quovadis.weights").joinpath("official", "crc32c.json").read_text()
    table = json.loads(text)
    return {
        checkpoint: dict(zip(table["tensors"], checksums, strict=True))
        for checkpoint, checksums in table["checkpoints"].items()
    }


def verify_state(state: dict[str, Tensor]) -> MatchReport:
    """Compare the tensors of one of our ``i3d`` with all official checkpoints.

    Args:
        state: under our names, as :func:`quovadis.weights.formats.open_weights` gives it.

    >>> from quovadis.models.zoo import build_model
    >>> verdict = verify_state(build_model("i3d_tiny").state_dict())
    >>> verdict.official, len(verdict.equal)
    (False, 0)
    """
    return verify_checksums({name: masked_crc32c(to_official(name, tensor)) for name, tensor in state.items()})


def verify_checksums(found: dict[str, int]) -> MatchReport:
    """The same for checksums that are known already: our names to masked CRC-32C."""
    best: MatchReport | None = None
    for checkpoint, wanted in official_checksums().items():
        equal = tuple(name for name, checksum in wanted.items() if found.get(name) == checksum)
        different = tuple(name for name, checksum in wanted.items() if found.get(name) != checksum)
        if best is None or len(equal) > len(best.equal):
            best = MatchReport(of_checkpoint(checkpoint).name, equal, different)
    assert best is not None
    return best


def state_sha256(state: dict[str, Tensor]) -> str:
    """One hash of a network's numbers: its tensors by name, type and shape, in the order of their names.

    The same network has the same hash, whatever file it came from and whatever lies around the tensors there.

    >>> from quovadis.models.zoo import build_model
    >>> model = build_model("i3d_tiny")
    >>> state_sha256(model.state_dict()) == state_sha256(model.channels_last().state_dict())
    True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
