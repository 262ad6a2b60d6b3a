"""Inflate a 2D Inception-v1 that quovadis trained on single frames: bootstrapping without ImageNet.

The model ``two_stream`` with the stream ``rgb`` is such a network. It can initialize every model that contains an
Inception-v1, as GoogLeNet of torchvision does (:mod:`quovadis.weights.from_torchvision`).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from quovadis.models.inception import inception_trunks
from quovadis.models.inflation import inflate
from quovadis.weights.info import WeightsInfo

_MODELS = ("two_stream", "two_stream_tiny")
_TRUNK = "trunks.rgb."


def is_rgb_two_stream(info: WeightsInfo) -> bool:
    """Return whether weights belong to a ``two_stream`` model whose only stream is RGB.

    >>> is_rgb_two_stream(WeightsInfo("two_stream", {"stream": "rgb", "num_classes": 5}, ()))
    True
    >>> is_rgb_two_stream(WeightsInfo("two_stream", {"stream": "rgb+flow", "num_classes": 5}, ()))
    False
    """
    return info.model in _MODELS and info.options.get("stream") == "rgb"


def inflate_two_stream(state_2d: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Inflate the trunk of an RGB ``two_stream`` network into every Inception-v1 of a model.

    See :func:`quovadis.inflate` for the treatment of 2D trunks and of flow. All other tensors, including the
    classifier, keep the values of ``model``.

    Args:
        state_2d: State dict of ``two_stream`` or ``two_stream_tiny`` with the stream ``rgb``.
        model: Model with the same number of channels; not changed.

    Returns:
        A state dict for ``model``.

    Raises:
        WeightsError: If the model has no Inception-v1, or one with other channels.
    """
    trunk_2d = {key.removeprefix(_TRUNK): tensor for key, tensor in state_2d.items() if key.startswith(_TRUNK)}
    modules = {key.rpartition(".")[0] for key in trunk_2d}
    result = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for name, trunk in inception_trunks(model).items():
        names = {module: module.replace("Conv2d", f"Conv{trunk.dims}d") for module in modules}
        result |= {f"{name}.{key}": tensor for key, tensor in inflate(trunk_2d, trunk, names=names).items()}
    return result
