"""Torchvision's image models, by the names in their files, made into video networks.

Torchvision itself is not needed. Its GoogLeNet is Inception-v1 with batch norm, eps 1e-3, and 3x3 where the paper has
5x5, as I3D has: so the weights map one to one. Its published weights were trained on [-1, 1] (the ``transform_input``
there undoes ImageNet's mean and deviation), so the first convolution is inflated as it is.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from quovadis.models.inception import BLOCKS, inception_trunks
from quovadis.models.inflate import fold_input_range, inflate
from quovadis.weights.i3d_units import IN_BLOCK

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


def inflate_googlenet(state_2d: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Torchvision's GoogLeNet as a state dict for any of our networks that have an Inception-v1 within.

    Every trunk takes the weights: in 3D inflated, in 2D as they are, and where the first convolution sees flow, two
    channels or a stack of ten times two, in the way of :func:`quovadis.inflate`. A classifier that sees the same 1024
    features takes GoogLeNet's where the classes are as many; all else in the model stays as it is.

    Args:
        state_2d: its state dict, with the auxiliary classifiers or without; they are left out.
        model: ``i3d``, ``convnet_lstm``, ``two_stream`` or ``fused_two_stream``, of any stream.

    Raises:
        WeightsError: it is not GoogLeNet, or does not fit, or the model has no Inception-v1.
    """
    own = model.state_dict()
    result = {key: tensor.clone() for key, tensor in own.items()}
    for name, trunk in inception_trunks(model).items():
        names = googlenet_names(dims=trunk.dims, trunk="")
        inflated = inflate(state_2d, trunk, names=names, ignored_keys=(*_AUXILIARY, "fc"))
        result |= {f"{name}.{key}": tensor for key, tensor in inflated.items()}
    weight, bias = state_2d.get("fc.weight"), state_2d.get("fc.bias")
    if weight is None or bias is None:
        return result
    for key in own:
        module, _, part = key.rpartition(".")
        if module.split(".")[0] == "head" and part == "weight" and own[key].flatten(1).shape == weight.shape:
            result[key] = weight.reshape(own[key].shape).to(own[key].dtype, copy=True)
            result[f"{module}.bias"] = bias.to(own[key].dtype, copy=True)
    return result


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
    bias = state_2d.get("fc.bias")
    if bias is not None and bias.shape == model.get_parameter(f"{head}.bias").shape:
        return inflate(folded, model, names=names)
    return inflate(folded, model, names=names, ignored_keys=("fc",), fresh=(head,))
