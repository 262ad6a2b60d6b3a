"""Compare the tensors of an I3D with the official checkpoints.

The index files of the official repository contain a checksum of every tensor. These checksums are included here, so
the weights of a port can be verified although its files have other names and layouts: each tensor is converted to the
official layout, and its checksum is compared.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor

from quovadis.weights.catalog import find_official_entry
from quovadis.weights.crc32c import masked_crc32c
from quovadis.weights.from_tensorflow import to_official


@dataclass(frozen=True)
class MatchReport:
    """Comparison of a state dict with the official checkpoint that shares most tensors with it."""

    nearest: str
    """Name of the official checkpoint in the catalog."""
    equal: tuple[str, ...]
    """Names of the tensors that are bitwise equal."""
    different: tuple[str, ...]
    """Names of the tensors that are different or missing."""

    @property
    def official(self) -> bool:
        """Whether all tensors are equal."""
        return not self.different


@cache
def official_checksums() -> dict[str, dict[str, int]]:
    """Load the masked CRC-32C of all official tensors, by checkpoint (``rgb_imagenet`` ...) and name in ``i3d``."""
    text = files("quovadis.weights").joinpath("official", "crc32c.json").read_text()
    table = json.loads(text)
    return {
        checkpoint: dict(zip(table["tensors"], checksums, strict=True))
        for checkpoint, checksums in table["checkpoints"].items()
    }


def verify_state(state: dict[str, Tensor]) -> MatchReport:
    """Compare a state dict of ``i3d`` with all official checkpoints, by the checksum of every tensor.

    Args:
        state: State dict of ``i3d``, with any stream and number of classes.

    Returns:
        The comparison with the official checkpoint that shares most tensors.

    Example:
        >>> import quovadis
        >>> report = verify_state(quovadis.create_model("i3d_tiny").state_dict())
        >>> report.official, len(report.equal), len(report.different)
        (False, 0, 230)
    """
    return verify_checksums({name: masked_crc32c(to_official(name, tensor)) for name, tensor in state.items()})


def verify_checksums(found: dict[str, int]) -> MatchReport:
    """Compare the masked CRC-32C of tensors, by name in ``i3d``, with all official checkpoints."""
    reports = []
    for checkpoint, expected in official_checksums().items():
        equal = tuple(name for name, checksum in expected.items() if found.get(name) == checksum)
        different = tuple(name for name, checksum in expected.items() if found.get(name) != checksum)
        reports.append(MatchReport(find_official_entry(checkpoint).name, equal, different))
    return max(reports, key=lambda report: len(report.equal))  # the first of equally good ones


def state_sha256(state: dict[str, Tensor]) -> str:
    """Compute one checksum of the names, dtypes, shapes and values of all tensors.

    The checksum does not depend on the file format, the order of the tensors or their memory layout.

    Example:
        >>> import quovadis
        >>> model = quovadis.create_model("i3d_tiny")
        >>> state_sha256(model.state_dict()) == state_sha256(model.channels_last().state_dict())
        True
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
