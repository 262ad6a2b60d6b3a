"""Inflate the image models of torchvision (GoogLeNet and ResNet-50) into video models.

Torchvision is not required. Like I3D, its GoogLeNet is Inception-v1 with batch norm (eps 1e-3) and with 3x3
convolutions instead of the paper's 5x5, so the weights map one to one. The published weights were trained on inputs in
[-1, 1] (``transform_input`` undoes ImageNet's mean and standard deviation), so no conversion of the input is needed.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from quovadis.models.inception import BLOCKS, inception_trunks
from quovadis.models.inflation import fold_input_range, inflate
from quovadis.weights.i3d_units import BLOCK_CONV_UNITS

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_BRANCHES = dict(
    zip(BLOCK_CONV_UNITS, ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1"), strict=True)
)
_STEM = {"conv1": "Conv{}d_1a_7x7", "conv2": "Conv{}d_2b_1x1", "conv3": "Conv{}d_2c_3x3"}
_AUXILIARY = ("aux1", "aux2")


def googlenet_names(*, dims: int = 3, trunk: str = "trunk", head: str = "head") -> dict[str, str]:
    """Map module names of torchvision's GoogLeNet to those of ``InceptionV1``, for :func:`quovadis.inflate`.

    Args:
        dims: Dimensions of the target network: 3, or 2 for networks that process single frames.
        trunk: Name of the ``InceptionV1`` in the model; ``""`` if it is the model itself.
        head: Name of the classifier.

    >>> googlenet_names()["inception5b.branch3.1.conv"]
    'trunk.Mixed_5c.Branch_2.Conv3d_0b_3x3.conv'
    """
    units = {theirs: ours.format(dims) for theirs, ours in _STEM.items()}
    for block in BLOCKS:
        number, letter = block[-2], block[-1]
        for ours, theirs in _BRANCHES.items():
            # The letters of GoogLeNet start with a, those of I3D with b.
            unit = f"inception{number}{chr(ord(letter) - 1)}.{theirs}"
            units[unit] = f"{block}.{ours}".replace("Conv3d", f"Conv{dims}d")
    prefix = f"{trunk}." if trunk else ""
    names = {"fc": head}
    for theirs, ours in units.items():
        names[f"{theirs}.conv"] = f"{prefix}{ours}.conv"
        names[f"{theirs}.bn"] = f"{prefix}{ours}.batch_norm"
    return names


def inflate_googlenet(state_2d: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inflate torchvision's GoogLeNet into every Inception-v1 of a model.

    3D trunks are inflated and 2D trunks are copied. The first convolution of a flow trunk is adapted to 2 or 20
    channels; see :func:`quovadis.inflate`. A classifier with 1024 inputs and the same number of classes is copied as
    well. All other tensors keep the values of ``model``.

    Args:
        state_2d: State dict of GoogLeNet. Auxiliary classifiers are ignored.
        model: ``i3d``, ``convnet_lstm``, ``two_stream`` or ``fused_two_stream``, with any stream; not changed.

    Returns:
        A state dict for ``model``.

    Raises:
        WeightsError: If the state dict is not that of GoogLeNet, or the model has no Inception-v1.
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
    """Inflate torchvision's ResNet-50 into ``i3d_r50``.

    The classifier is copied if the number of classes is the same. Torchvision normalizes images with ImageNet's mean
    and standard deviation, while ``i3d_r50`` expects [-1, 1]. The difference is folded into the first convolution,
    exactly except at the border (see :func:`quovadis.models.inflation.fold_input_range`).

    Args:
        state_2d: State dict of ResNet-50.
        model: ``i3d_r50``; not changed.
        head: Name of the classifier.

    Returns:
        A state dict for ``model``.

    Raises:
        WeightsError: If the state dict is not that of ResNet-50, or does not fit.
    """
    folded = fold_input_range(state_2d, conv="conv1", norm="bn1", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    modules = {key.rpartition(".")[0] for key in state_2d}
    names = {module: head if module == "fc" else f"trunk.{module}" for module in modules}
    bias = state_2d.get("fc.bias")
    if bias is not None and bias.shape == model.get_parameter(f"{head}.bias").shape:
        return inflate(folded, model, names=names)
    return inflate(folded, model, names=names, ignored_keys=("fc",), reinitialized=(head,))
