"""Torchvision's picture networks, by the names in their files, made into video networks.

Torchvision itself is not needed. Its GoogLeNet is Inception-v1 with batch norm, eps 1e-3, and 3x3 where the paper has
5x5, as I3D has: so the weights map one to one. Its published weights were trained on [-1, 1] (the ``transform_input``
there undoes ImageNet's mean and deviation), so the first convolution is inflated as it is.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quovadis.models.inception import BLOCKS
from quovadis.models.inflate import fold_input_range, inflate
from quovadis.weights.units import IN_BLOCK

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

_BRANCHES = dict(
    zip(IN_BLOCK, ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"), strict=True)
)
_STEM = {"conv1": "Conv{}d_1a_7x7", "conv2": "Conv{}d_2b_1x1", "conv3": "Conv{}d_2c_3x3"}
_AUXILIARY = ("aux1", "aux2")


def googlenet_names(*, dims: int = 3, trunk: str = "trunk", head: str = "head") -> dict[str, str]:
    """Modules of torchvision's GoogLeNet to those of our Inception-v1, for :func:`quovadis.inflate`.

    Args:
        dims: of our network: 3, or 2 for the networks that look at single frames.
        trunk: where our ``InceptionV1`` is in the model; ``""`` where it is the model.
        head: the classifier.

    >>> googlenet_names()["inception5b.branch3.1.conv"]
    'trunk.Mixed_5c.Branch_2.Conv3d_0b_3x3.conv'
    """
    units = {theirs: ours.format(dims) for theirs, ours in _STEM.items()}
    for block in BLOCKS:
        number, letter = block[-2], block[-1]
        for ours, theirs in _BRANCHES.items():
            # Theirs start with a, ours with b: I3D counts the pooling before.
            unit = f"inception{number}{chr(ord(letter) - 1)}.{theirs}"
            units[unit] = f"{block}.{ours}".replace("Conv3d", f"Conv{dims}d")
    prefix = f"{trunk}." if trunk else ""
    names = {"fc": head}
    for theirs, ours in units.items():
        names[f"{theirs}.conv"] = f"{prefix}{ours}.conv"
        names[f"{theirs}.bn"] = f"{prefix}{ours}.batch_norm"
    return names


def inflate_googlenet(state_2d: Mapping[str, Tensor], model: nn.Module, *, head: str = "head") -> dict[str, Tensor]:
    """Torchvision's GoogLeNet as a state dict for our ``i3d``; the classifier too, if the classes are as many.

    Args:
        state_2d: its state dict, with the auxiliary classifiers or without; they are left out.
        model: an ``i3d`` of any stream.
        head: name of the model's classifier.

    Raises:
        WeightsError: it is not GoogLeNet, or does not fit.
    """
    return inflate(
        state_2d, model, **_head_options(state_2d, model, head, _AUXILIARY), names=googlenet_names(head=head)
    )


def inflate_resnet50(state_2d: Mapping[str, Tensor], model: nn.Module, *, head: str = "head") -> dict[str, Tensor]:
    """Torchvision's ResNet-50 as a state dict for our ``i3d_r50``; the classifier too, if the classes are as many.

    Torchvision trained it on pictures with ImageNet's mean and deviation; ours sees [-1, 1], and the first convolution
    takes the difference, exactly but for the border (see :func:`quovadis.models.inflate.fold_input_range`).

    Raises:
        WeightsError: it is not ResNet-50, or does not fit.
    """
    folded = fold_input_range(state_2d, conv="conv1", norm="bn1", mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
    modules = {key.rpartition(".")[0] for key in state_2d}
    names = {module: head if module == "fc" else f"trunk.{module}" for module in modules}
    return inflate(folded, model, **_head_options(state_2d, model, head), names=names)


def _head_options(
    state_2d: Mapping[str, Tensor], model: nn.Module, head: str, left_out: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Carry the classifier if it has as many classes, else leave the model's own as it is."""
    classes = state_2d.get("fc.bias", torch.empty(0)).shape
    if classes == model.get_parameter(f"{head}.bias").shape:
        return {"left_out": left_out}
    return {"left_out": (*left_out, "fc"), "fresh": (head,)}
