"""The official checkpoints of google-deepmind/kinetics-i3d as state dicts of our ``i3d``, without TensorFlow.

Five files, two habits: the four Kinetics-400 ones put ``RGB/inception_i3d/`` or ``Flow/inception_i3d/`` before every
name and hold batch norm as [C]; the Kinetics-600 one has no prefix, batch norm as [1, 1, 1, 1, C], and the optimizer's
``Momentum`` beside every trained tensor, which is left out. Kernels are (T, H, W, in, out) and become
(out, in, T, H, W).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.weights.files import check_values
from quovadis.weights.i3d_units import UNITS
from quovadis.weights.tensor_bundle import TensorBundle

PREFIXES = {"rgb": "RGB/inception_i3d/", "flow": "Flow/inception_i3d/", "": ""}
_NORM = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_OPTIMIZER = "/Momentum"
_KERNEL_TO_OURS = (4, 3, 0, 1, 2)
_KERNEL_TO_THEIRS = (2, 3, 4, 1, 0)


def _unit_name(unit: str) -> str:
    # The one irregular name, a slip that is baked into all five files.
    if unit == "Mixed_5b.Branch_2.Conv3d_0b_3x3":
        unit = "Mixed_5b.Branch_2.Conv3d_0a_3x3"
    return unit.replace(".", "/")


def _names() -> dict[str, str]:
    names: dict[str, str] = {}
    for unit in UNITS:
        names[f"trunk.{unit}.conv.weight"] = f"{_unit_name(unit)}/conv_3d/w"
        for ours, theirs in _NORM.items():
            names[f"trunk.{unit}.batch_norm.{ours}"] = f"{_unit_name(unit)}/batch_norm/{theirs}"
    names["head.weight"] = "Logits/Conv3d_0c_1x1/conv_3d/w"
    names["head.bias"] = "Logits/Conv3d_0c_1x1/conv_3d/b"
    return names


NAMES: dict[str, str] = _names()
"""Our tensors to the official ones, without the prefix: 230 pairs."""


def from_tensorflow(bundle: TensorBundle) -> dict[str, Tensor]:
    """All tensors of an official checkpoint, each checked against its checksum, under our names.

    Raises:
        WeightsError: a tensor is damaged, missing or unknown; lists what does not fit.
    """
    prefix = find_prefix(bundle)
    wanted = {prefix + theirs for theirs in NAMES.values()}
    missing = sorted(wanted - bundle.entries.keys())
    unknown = sorted(name for name in bundle if name not in wanted and name.removesuffix(_OPTIMIZER) not in wanted)
    if missing or unknown:
        raise WeightsError(
            f"{bundle.prefix} is no I3D checkpoint: {_listed('missing', missing)}{_listed('unknown', unknown)}"
        )
    state: dict[str, Tensor] = {}
    for ours, theirs in NAMES.items():
        state[ours] = to_ours(bundle.tensor(prefix + theirs), ours, theirs)
        bundle.release(prefix + theirs)
    check_values({prefix + theirs: state[ours] for ours, theirs in NAMES.items()}, str(bundle.prefix))
    return state


def find_prefix(bundle: TensorBundle) -> str:
    """What stands before every name: ``RGB/inception_i3d/``, ``Flow/inception_i3d/`` or nothing.

    Raises:
        WeightsError: none of the three fits.
    """
    first = NAMES["head.weight"]
    for prefix in PREFIXES.values():
        if prefix + first in bundle.entries:
            return prefix
    shown = ", ".join(list(bundle)[:3])
    raise WeightsError(f"{bundle.prefix} is no I3D checkpoint: it has no {first}; it starts with {shown or 'nothing'}")


def to_official(ours: str, tensor: Tensor) -> NDArray[np.float32]:
    """One of our tensors as the official files store it: float32, kernels as (T, H, W, in, out).

    >>> to_official("head.weight", torch.zeros(400, 1024, 1, 1, 1)).shape
    (1, 1, 1, 1024, 400)
    """
    values = tensor.detach().cpu().to(torch.float32)
    if values.ndim == 5:
        values = values.permute(_KERNEL_TO_THEIRS)
    array: NDArray[np.float32] = values.contiguous().numpy()
    return array


def to_ours(values: NDArray[np.generic], ours: str, theirs: str) -> Tensor:
    """One official tensor in our layout: kernels from (T, H, W, in, out) to (out, in, T, H, W), the rest as (C,).

    Raises:
        WeightsError: it is not float32, or has another number of axes; names ``theirs``.
    """
    if values.dtype != np.float32:
        raise WeightsError(f"{theirs} is {values.dtype}; the official checkpoints are float32")
    if ours.endswith("weight"):
        if values.ndim != 5:
            raise WeightsError(f"{theirs} has shape {values.shape}; a kernel is (T, H, W, in, out)")
        array = np.empty([values.shape[axis] for axis in _KERNEL_TO_OURS], np.float32)
        array[...] = values.transpose(_KERNEL_TO_OURS)
        return torch.from_numpy(array)
    if values.size != max(values.shape, default=1):
        raise WeightsError(f"{theirs} has shape {values.shape}; expected (C,) or (1, 1, 1, 1, C)")
    return torch.from_numpy(values.reshape(-1).copy())


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{what} {len(names)}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}; "
