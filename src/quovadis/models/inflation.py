"""Inflation of 2D image models to video models (paper, section 2.4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quovadis.errors import WeightsError
from quovadis.models.layers import ConvUnit, ShiftBatchNorm

_NORMS = (ShiftBatchNorm, nn.BatchNorm2d, nn.BatchNorm3d)
_WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.Linear)
_IMAGE_CHANNELS = 3
# A buffer of PyTorch's batch norm that is unused with a fixed momentum. Old files and ShiftBatchNorm do not have it.
_COUNTER = "num_batches_tracked"


def inflate(
    state_2d: Mapping[str, Tensor],
    model: nn.Module,
    *,
    names: Mapping[str, str] | None = None,
    ignored_keys: Sequence[str] = (),
    reinitialized: Sequence[str] = (),
    eps_2d: float | None = None,
) -> dict[str, Tensor]:
    """Convert the weights of a 2D image model to a state dict of a video model.

    - Convolutions: a 2D kernel is repeated N times along time and divided by N, so that a video of one repeated image
      has the same activations as the image.
    - First convolution: if the model has C input channels other than three (2 for flow, 20 for a stack of ten flow
      frames), each channel gets the mean of the RGB kernels times 3 / C. A constant input over the C channels then
      has the same activations as a gray image. The paper does not specify this step.
    - Batch norm: parameters and statistics are copied. If the batch norm of the model has no scale (as in I3D), the
      scale is folded into the preceding convolution, which is exact for scales of either sign.
    - Linear classifier: becomes a 1 x 1 x 1 convolution.

    On a video of one repeated image, both models agree only where the receptive field is inside the clip, because time
    is padded with zeros as in the official code. The receptive field of I3D is 107 frames.

    Args:
        state_2d: State dict of the image model. It is not modified.
        model: The video model that defines names and shapes. It is not modified. A 2D model is supported as well.
        names: Module names in ``state_2d`` mapped to module names in ``model``. Unlisted modules keep their names.
        ignored_keys: Modules of ``state_2d`` that are not used, such as auxiliary classifiers.
        reinitialized: Modules of ``model`` that keep their current weights, such as a classifier for other classes.
        eps_2d: Epsilon of the batch norm of the image model, if different from that of ``model``. The difference is
            added to the running variance, which is exact.

    Returns:
        A complete state dict for ``model.load_state_dict``, in the dtypes of ``model``.

    Raises:
        WeightsError: If a tensor of ``state_2d`` is neither mapped nor ignored, a tensor of ``model`` has no source,
            or shapes do not match. The message lists all problems.

    Example:
        >>> from quovadis.models.layers import ConvUnit
        >>> image_model, video_model = ConvUnit(2, 3, 8, 3), ConvUnit(3, 3, 8, 3)
        >>> state = inflate(image_model.state_dict(), video_model)
        >>> state["conv.weight"].shape, state["conv.weight"].sum(2).allclose(image_model.conv.weight)
        (torch.Size([8, 3, 3, 3, 3]), True)

    References:
        Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.4, "Bootstrapping 3D filters
        from 2D Filters".
    """
    current = model.state_dict()
    result: dict[str, Tensor] = {key: current[key].clone() for key in current if _within(key, reinitialized)}
    scales: dict[str, Tensor] = {}
    problems: list[str] = []
    conv_before = _convolutions_before_norms(model)
    for key, tensor in state_2d.items():
        if _within(key, ignored_keys):
            continue
        module_2d, _, part = key.rpartition(".")
        name = (names or {}).get(module_2d, module_2d)
        module = _module(model, name)
        target = f"{name}.{part}"
        if isinstance(module, ShiftBatchNorm) and part == _COUNTER:
            continue
        if isinstance(module, ShiftBatchNorm) and part == "weight":
            scales[name] = tensor.double()
        elif target not in current or target in result:
            problems.append(f"{key} has no counterpart {target} in the model; map it or add it to ignored_keys")
        elif isinstance(module, _WEIGHTED):
            result[target] = _inflate_tensor(tensor, current[target])
        else:
            result[target] = tensor.clone()
            if isinstance(module, _NORMS) and part == "running_var" and eps_2d is not None:
                result[target] = (tensor.double() + (eps_2d - module.eps)).to(tensor.dtype)
    for name, scale in scales.items():
        if name not in conv_before:
            problems.append(f"{name} has no scale, and there is no convolution before it to fold the scale into")
            continue
        _fold_scale(result, conv_before[name], name, scale, problems)
    result |= {key: current[key].clone() for key in current if key.endswith(f".{_COUNTER}") and key not in result}
    problems += [
        f"{key} has no source; map it or add its module to reinitialized" for key in current if key not in result
    ]
    problems += [
        f"{key}: got shape {tuple(result[key].shape)} from the image model, expected {tuple(current[key].shape)}"
        for key in current
        if key in result and result[key].shape != current[key].shape
    ]
    if problems:
        shown = "\n  ".join(problems[:12]) + (f"\n  and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise WeightsError(f"cannot inflate into {type(model).__name__}:\n  {shown}")
    return {key: result[key].to(current[key].dtype) for key in current}


def fold_input_range(
    state_2d: Mapping[str, Tensor],
    *,
    conv: str,
    norm: str,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, Tensor]:
    """Adapt an image model trained on ``(x - mean) / std`` with x in [0, 1] to inputs in [-1, 1].

    The first convolution is scaled and the running mean of its batch norm is shifted. The result is exact except at the
    border, where zero padding now corresponds to mid-gray instead of the mean color.

    Args:
        state_2d: State dict of the image model. It is not modified.
        conv: Name of the first convolution. It must not have a bias.
        norm: Name of the batch norm after it.
        mean: Mean of each input channel in training.
        std: Standard deviation of each input channel in training.

    Returns:
        A state dict with an adapted first convolution and batch norm.

    Example:
        >>> x = torch.rand(1, 3, 1, 1) * 2 - 1
        >>> state = {"c.weight": torch.rand(4, 3, 1, 1), "n.running_mean": torch.zeros(4)}
        >>> folded = fold_input_range(state, conv="c", norm="n", mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
        >>> mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.3]).view(3, 1, 1)
        >>> before = torch.conv2d(((x + 1) / 2 - mean) / std, state["c.weight"]).flatten() - state["n.running_mean"]
        >>> after = torch.conv2d(x, folded["c.weight"]).flatten() - folded["n.running_mean"]
        >>> torch.allclose(before, after, atol=1e-5)
        True
    """
    weight = state_2d[f"{conv}.weight"].double()
    per_channel = (1, -1) + (1,) * (weight.ndim - 2)
    means, stds = (torch.tensor(list(v), dtype=torch.float64).view(per_channel) for v in (mean, std))
    shift = (weight * (0.5 - means) / stds).flatten(1).sum(1)
    running_mean = state_2d[f"{norm}.running_mean"]
    return dict(state_2d) | {
        f"{conv}.weight": (weight * 0.5 / stds).to(state_2d[f"{conv}.weight"].dtype),
        f"{norm}.running_mean": (running_mean.double() - shift).to(running_mean.dtype),
    }


def _inflate_tensor(tensor: Tensor, current: Tensor) -> Tensor:
    """Convert a weight or bias of a convolution or linear layer to the shape of ``current``."""
    if tensor.ndim < 2:
        return tensor.clone()
    weight = tensor.double()
    if current.ndim > 2 and weight.ndim == 2:  # linear classifier to convolution with kernel size 1
        weight = weight[(...,) + (None,) * (current.ndim - 2)]
    if weight.ndim == 4 and weight.shape[1] == _IMAGE_CHANNELS != current.shape[1]:
        channels = current.shape[1]
        weight = (weight.mean(1, keepdim=True) * (_IMAGE_CHANNELS / channels)).repeat_interleave(channels, 1)
    if weight.ndim == 4 and current.ndim == 5:
        time = current.shape[2]
        weight = weight.unsqueeze(2).repeat_interleave(time, 2) / time
    return weight


def _fold_scale(result: dict[str, Tensor], conv: str, norm: str, scale: Tensor, problems: list[str]) -> None:
    """Fold the scale of a batch norm into the convolution before it, in float64."""
    weight, running_mean = result.get(f"{conv}.weight"), result.get(f"{norm}.running_mean")
    if weight is None or running_mean is None or len(weight) != len(scale) or running_mean.shape != scale.shape:
        problems.append(f"the scale of {norm} does not fit the convolution {conv}")
        return
    result[f"{conv}.weight"] = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    result[f"{norm}.running_mean"] = running_mean.double() * scale


def _convolutions_before_norms(model: nn.Module) -> dict[str, str]:
    """Map the name of each batch norm without scale to the name of the convolution before it."""
    names = {}
    for name, module in model.named_modules():
        if isinstance(module, ConvUnit):
            prefix = f"{name}." if name else ""
            names[f"{prefix}batch_norm"] = f"{prefix}conv"
    return names


def _module(model: nn.Module, name: str) -> nn.Module | None:
    module: Any = model
    for part in name.split("."):
        module = getattr(module, part, None)
    return module if isinstance(module, nn.Module) else None


def _within(key: str, modules: Sequence[str]) -> bool:
    return any(key == module or key.startswith(f"{module}.") for module in modules)
