"""Convert the official TensorFlow checkpoints of google-deepmind/kinetics-i3d to state dicts of ``i3d``.

TensorFlow is not required. The five official checkpoints have two layouts:

- Kinetics-400 (four checkpoints): names start with ``RGB/inception_i3d/`` or ``Flow/inception_i3d/``; tensors of batch
  norm have the shape (C,).
- Kinetics-600: names have no prefix; tensors of batch norm have the shape (1, 1, 1, 1, C); for each trained tensor
  there is an optimizer state ``Momentum``, which is ignored.

Kernels are converted from (T, H, W, in, out) to (out, in, T, H, W).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.weights.i3d_units import CONV_UNITS
from quovadis.weights.state_dict import check_keys, check_values
from quovadis.weights.tensor_bundle import TensorBundle

PREFIXES = {"rgb": "RGB/inception_i3d/", "flow": "Flow/inception_i3d/", "": ""}
_NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_OPTIMIZER = "/Momentum"
_KERNEL_TO_OURS = (4, 3, 0, 1, 2)
_KERNEL_TO_THEIRS = (2, 3, 4, 1, 0)


def _unit_name(unit: str) -> str:
    # A typo in the official code, present in all five checkpoints.
    if unit == "Mixed_5b.Branch_2.Conv3d_0b_3x3":
        unit = "Mixed_5b.Branch_2.Conv3d_0a_3x3"
    return unit.replace(".", "/")


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for unit in CONV_UNITS:
        names[f"trunk.{unit}.conv.weight"] = f"{_unit_name(unit)}/conv_3d/w"
        for ours, theirs in _NORM.items():
            names[f"trunk.{unit}.batch_norm.{ours}"] = f"{_unit_name(unit)}/batch_norm/{theirs}"
    names["head.weight"] = "Logits/Conv3d_0c_1x1/conv_3d/w"
    names["head.bias"] = "Logits/Conv3d_0c_1x1/conv_3d/b"
    return names


NAMES: dict[str, str] = _names()
"""Names of the 230 tensors of ``i3d`` and of the official checkpoints, without prefix."""


def from_tensorflow(bundle: TensorBundle) -> dict[str, Tensor]:
    """Read an official checkpoint as a state dict of ``i3d`` and verify the checksum of every tensor.

    Raises:
        WeightsError: If a tensor is damaged, missing or unknown; lists them.
    """
    prefix = find_prefix(bundle)
    expected = {prefix + theirs: None for theirs in NAMES.values()}
    keys = [name for name in bundle if not (name.endswith(_OPTIMIZER) and name.removesuffix(_OPTIMIZER) in expected)]
    check_keys(keys, expected, f"{bundle.prefix} is not an I3D checkpoint")
    state: dict[str, Tensor] = {}
    for ours, theirs in NAMES.items():
        state[ours] = to_ours(bundle.tensor(prefix + theirs), ours, theirs)
        bundle.release(prefix + theirs)
    check_values({prefix + theirs: state[ours] for ours, theirs in NAMES.items()}, str(bundle.prefix))
    return state


def find_prefix(bundle: TensorBundle) -> str:
    """Return the common prefix of all names: ``RGB/inception_i3d/``, ``Flow/inception_i3d/`` or ``""``.

    Raises:
        WeightsError: If there is no such prefix.
    """
    first = NAMES["head.weight"]
    for prefix in PREFIXES.values():
        if prefix + first in bundle.entries:
            return prefix
    shown = ", ".join(list(bundle)[:3])
    raise WeightsError(
        f"{bundle.prefix} is not an I3D checkpoint: it has no tensor {first}; its first tensors are {shown or 'none'}"
    )


def to_official(ours: str, tensor: Tensor) -> NDArray[np.float32]:
    """Convert a tensor of ``i3d`` to the official layout: float32, kernels as (T, H, W, in, out).

    >>> to_official("head.weight", torch.zeros(400, 1024, 1, 1, 1)).shape
    (1, 1, 1, 1024, 400)
    """
    values = tensor.detach().cpu().to(torch.float32)
    if values.ndim == 5:
        values = values.permute(_KERNEL_TO_THEIRS)
    array: NDArray[np.float32] = values.contiguous().numpy()
    return array


def to_ours(values: NDArray[np.generic], ours: str, theirs: str) -> Tensor:
    """Convert an official tensor to the layout of ``i3d``: kernels as (out, in, T, H, W), other tensors as (C,).

    Args:
        values: The official tensor.
        ours: Name of the tensor in ``i3d``.
        theirs: Official name, for error messages.

    Raises:
        WeightsError: If the tensor is not float32, or has an unexpected number of axes.
    """
    if values.dtype != np.float32:
        raise WeightsError(f"{theirs} has dtype {values.dtype}; expected float32")
    if ours.endswith("weight"):
        if values.ndim != 5:
            raise WeightsError(f"{theirs} has shape {values.shape}; expected (T, H, W, in, out)")
        array = np.empty([values.shape[axis] for axis in _KERNEL_TO_OURS], np.float32)
        array[...] = values.transpose(_KERNEL_TO_OURS)
        return torch.from_numpy(array)
    if values.size != max(values.shape, default=1):
        raise WeightsError(f"{theirs} has shape {values.shape}; expected (C,) or (1, 1, 1, 1, C)")
    return torch.from_numpy(values.reshape(-1).copy())
