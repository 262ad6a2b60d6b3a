"""Our own networks for single frames, made into video networks: the paper's bootstrapping without ImageNet.

``two_stream`` with the stream ``rgb`` is a 2D Inception-v1 that is trained on single frames. Its trunk starts any other
network that has an Inception-v1 within, as ImageNet's GoogLeNet does (:mod:`quovadis.weights.from_torchvision`).
"""

from collections.abc import Mapping

from torch import Tensor, nn

from quovadis.models.inception import inception_trunks
from quovadis.models.inflate import inflate
from quovadis.weights.info import WeightsInfo

_MODELS = ("two_stream", "two_stream_tiny")
_TRUNK = "trunks.rgb."


def looks_at_single_frames(info: WeightsInfo) -> bool:
    """True for the weights of a network that sees one RGB frame and nothing else.

    >>> looks_at_single_frames(WeightsInfo("two_stream", {"stream": "rgb", "num_classes": 5}, ()))
    True
    >>> looks_at_single_frames(WeightsInfo("two_stream", {"stream": "rgb+flow", "num_classes": 5}, ()))
    False
    """
    return info.model in _MODELS and info.options.get("stream") == "rgb"


def inflate_frames(state_2d: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The trunk of a network for single frames as a state dict for any of our networks with an Inception-v1 within.

    In 3D it is inflated, in 2D taken as it is, and for flow its first convolution is averaged over colors, all as
    :func:`quovadis.inflate` says. Everything else in the model, its classifier too, stays as it is.

    Args:
        state_2d: of ``two_stream`` or ``two_stream_tiny`` with the stream ``rgb``.
        model: any network of as many channels; it is not changed.

    Raises:
        WeightsError: the model has no Inception-v1, or one with other channels.
    """
    trunk_2d = {key.removeprefix(_TRUNK): tensor for key, tensor in state_2d.items() if key.startswith(_TRUNK)}
    modules = {key.rpartition(".")[0] for key in trunk_2d}
    result = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    for name, trunk in inception_trunks(model).items():
        names = {module: module.replace("Conv2d", f"Conv{trunk.dims}d") for module in modules}
        result |= {f"{name}.{key}": tensor for key, tensor in inflate(trunk_2d, trunk, names=names).items()}
    return result
