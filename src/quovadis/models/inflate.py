"""From a network for pictures to one for video: the bootstrapping of the paper (section 2.4.1)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quovadis.errors import WeightsError
from quovadis.models.layers import ConvUnit, ShiftBatchNorm

_NORMS = (ShiftBatchNorm, nn.BatchNorm2d, nn.BatchNorm3d)
_WEIGHTED = (nn.Conv2d, nn.Conv3d, nn.Linear)
_IMAGE_CHANNELS = 3
# A counter of PyTorch's batch norm that nothing reads while momentum is fixed; old files have none, ours has none.
_COUNTER = "num_batches_tracked"


def inflate(
    state_2d: Mapping[str, Tensor],
    model: nn.Module,
    *,
    names: Mapping[str, str] | None = None,
    ignored_keys: Sequence[str] = (),
    fresh: Sequence[str] = (),
    eps_2d: float | None = None,
) -> dict[str, Tensor]:
    """The weights of a image model, made into a state dict for a video network.

    - A convolution is repeated N times along time and divided by N, so a video of one repeated picture gives the
      response that the picture gave.
    - Batch norm is carried over. Where the video network's has no scale (as in I3D), the scale goes into the
      convolution before it, exactly, for a negative scale too: ``w * g``, ``running_mean * g``, variance and shift
      unchanged.
    - A first convolution over R, G and B that meets C other channels (2 for flow, 20 for a stack of ten) gets in each
      of them the mean of its three kernels, times 3 / C. So an input that is the same in all C channels gives the
      response of a gray picture. (The authors never said what they did; this is the field's habit, scaled.)
    - A linear classifier becomes a convolution of 1 x 1 x 1.

    Poolings have no weights; the video network brings its own. On a video of one repeated picture the two networks
    agree where the receptive field stays inside the clip: time is padded with zeros, which are not the picture
    repeated, so clips shorter than about 107 frames differ everywhere (the official code has it so). With the first
    and last frame repeated as padding they would agree at every length.

    Args:
        state_2d: tensors by name; nothing in it is changed.
        model: the network that the result shall fit; it is not changed. A 2D one will do too (then N is 1).
        names: module in ``state_2d`` to module in ``model``; a module that is not listed keeps its name.
        ignored_keys: modules of ``state_2d`` that have no place in ``model``, such as auxiliary classifiers.
        fresh: modules of ``model`` that keep the values that they have now, such as a classifier for other classes.
        eps_2d: epsilon of the image model's batch norm where it is another than the model's; the difference goes
            into the variance, exactly.

    Returns:
        A state dict for ``model.load_state_dict``: every tensor of ``model``, in its type.

    Raises:
        WeightsError: a tensor is neither mapped nor left out, a place stays empty, or a shape does not fit; lists all.

    >>> from quovadis.models.layers import ConvUnit
    >>> picture, video = ConvUnit(2, 3, 8, 3), ConvUnit(3, 3, 8, 3)
    >>> inflated = inflate(picture.state_dict(), video)
    >>> inflated["conv.weight"].shape, inflated["conv.weight"].sum(2).allclose(picture.conv.weight)
    (torch.Size([8, 3, 3, 3, 3]), True)
    """
    own = model.state_dict()
    result: dict[str, Tensor] = {key: own[key].clone() for key in own if _within(key, fresh)}
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
        elif target not in own or target in result:
            problems.append(f"{key} has no place in the model (as {target}); map it, or name it in ignored_keys")
        elif isinstance(module, _WEIGHTED):
            result[target] = _spread(tensor, own[target])
        else:
            result[target] = tensor.clone()
            if isinstance(module, _NORMS) and part == "running_var" and eps_2d is not None:
                result[target] = (tensor.double() + (eps_2d - module.eps)).to(tensor.dtype)
    for name, scale in scales.items():
        if name not in conv_before:
            problems.append(f"{name} has no scale, and no convolution before it could take it")
            continue
        _fold(result, conv_before[name], name, scale, problems)
    result |= {key: own[key].clone() for key in own if key.endswith(f".{_COUNTER}") and key not in result}
    problems += [f"nothing for {key}; map it, or name its module in fresh" for key in own if key not in result]
    problems += [
        f"{key}: {tuple(result[key].shape)} from the image model, the model has {tuple(own[key].shape)}"
        for key in own
        if key in result and result[key].shape != own[key].shape
    ]
    if problems:
        shown = "\n  ".join(problems[:12]) + (f"\n  and {len(problems) - 12} more" if len(problems) > 12 else "")
        raise WeightsError(f"cannot inflate into {type(model).__name__}:\n  {shown}")
    return {key: result[key].to(own[key].dtype) for key in own}


def fold_input_range(
    state_2d: Mapping[str, Tensor],
    *,
    conv: str,
    norm: str,
    mean: Sequence[float],
    deviation: Sequence[float],
) -> dict[str, Tensor]:
    """Make a image model that was trained on ``(x - mean) / deviation``, x in [0, 1], take [-1, 1] instead.

    The first convolution takes the factor and its batch norm's running mean the shift. Exact wherever the kernel lies
    inside the picture; at the border zeros stand for mid gray instead of the mean color.

    Args:
        state_2d: tensors by name; not changed.
        conv: name of the first convolution (no bias).
        norm: name of the batch norm after it.
        mean: for each channel, as the image model was trained.
        deviation: for each channel.

    Returns:
        The state dict with the first convolution and its batch norm changed.

    >>> x = torch.rand(1, 3, 1, 1) * 2 - 1
    >>> state = {"c.weight": torch.rand(4, 3, 1, 1), "n.running_mean": torch.zeros(4)}
    >>> ours = fold_input_range(state, conv="c", norm="n", mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.2, 0.3))
    >>> mean, deviation = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.2, 0.3]).view(3, 1, 1)
    >>> theirs = torch.conv2d(((x + 1) / 2 - mean) / deviation, state["c.weight"]).flatten() - state["n.running_mean"]
    >>> torch.allclose(theirs, torch.conv2d(x, ours["c.weight"]).flatten() - ours["n.running_mean"], atol=1e-5)
    True
    """
    weight = state_2d[f"{conv}.weight"].double()
    per_channel = (1, -1) + (1,) * (weight.ndim - 2)
    means, deviations = (torch.tensor(list(v), dtype=torch.float64).view(per_channel) for v in (mean, deviation))
    shift = (weight * (0.5 - means) / deviations).flatten(1).sum(1)
    running_mean = state_2d[f"{norm}.running_mean"]
    return dict(state_2d) | {
        f"{conv}.weight": (weight * 0.5 / deviations).to(state_2d[f"{conv}.weight"].dtype),
        f"{norm}.running_mean": (running_mean.double() - shift).to(running_mean.dtype),
    }


def _spread(tensor: Tensor, own: Tensor) -> Tensor:
    """A weight or bias of a convolution or linear layer in the shape of the model's."""
    if tensor.ndim < 2:
        return tensor.clone()
    weight = tensor.double()
    if own.ndim > 2 and weight.ndim == 2:  # a linear classifier as a convolution of 1 x 1 (x 1)
        weight = weight[(...,) + (None,) * (own.ndim - 2)]
    if weight.ndim == 4 and weight.shape[1] == _IMAGE_CHANNELS != own.shape[1]:
        channels = own.shape[1]
        weight = (weight.mean(1, keepdim=True) * (_IMAGE_CHANNELS / channels)).repeat_interleave(channels, 1)
    if weight.ndim == 4 and own.ndim == 5:
        time = own.shape[2]
        weight = weight.unsqueeze(2).repeat_interleave(time, 2) / time
    return weight


def _fold(result: dict[str, Tensor], conv: str, norm: str, scale: Tensor, problems: list[str]) -> None:
    """Put the scale of a batch norm into the convolution before it, in float64."""
    weight, running_mean = result.get(f"{conv}.weight"), result.get(f"{norm}.running_mean")
    if weight is None or running_mean is None or len(weight) != len(scale) or running_mean.shape != scale.shape:
        problems.append(f"the scale of {norm} does not fit the convolution {conv}")
        return
    result[f"{conv}.weight"] = weight.double() * scale.view(-1, *[1] * (weight.ndim - 1))
    result[f"{norm}.running_mean"] = running_mean.double() * scale


def _convolutions_before_norms(model: nn.Module) -> dict[str, str]:
    """Name of each batch norm without scale, and of the convolution that it follows."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, ConvUnit):
            prefix = f"{name}." if name else ""
            found[f"{prefix}batch_norm"] = f"{prefix}conv"
    return found


def _module(model: nn.Module, name: str) -> nn.Module | None:
    module: Any = model
    for part in name.split("."):
        module = getattr(module, part, None)
    return module if isinstance(module, nn.Module) else None


def _within(key: str, modules: Sequence[str]) -> bool:
    return any(key == module or key.startswith(f"{module}.") for module in modules)
