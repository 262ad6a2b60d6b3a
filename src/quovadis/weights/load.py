"""From a name or a file to a model that is ready to use."""

from os import PathLike
from pathlib import Path

from quovadis.errors import WeightsError
from quovadis.models.contract import VideoModel
from quovadis.models.zoo import build_model
from quovadis.types import WeightsInfo
from quovadis.weights.files import fit_state, load_weights

RUN_WEIGHTS = ("best.safetensors", "last.safetensors")
"""What a run folder is asked for, in this order."""


def create_model(
    name: str,
    *,
    stream: str = "rgb",
    num_classes: int = 400,
    dropout: float = 0.5,
    weights: str | PathLike[str] | None = None,
) -> VideoModel:
    """Build a network by name.

    Args:
        name: see :func:`quovadis.list_models`.
        stream: ``"rgb"`` or ``"flow"``.
        num_classes: classes of the head.
        dropout: before the classifier, in training only.
        weights: a weights file or a run folder whose numbers to take; its model, stream and number of classes must be
            the same. None gives random weights.

    Returns:
        The network, in training mode when its weights are random, else in evaluation mode. See
        :class:`quovadis.models.contract.VideoModel` for what it can do.

    Raises:
        UnknownNameError: no such model or stream. WeightsError: the weights do not fit.

    >>> model = create_model("i3d", stream="flow", num_classes=101)
    >>> sum(p.numel() for p in model.parameters())
    12361557
    """
    model = build_model(name, stream=stream, num_classes=num_classes, dropout=dropout)
    if weights is not None:
        path = find_weights(weights)
        state, info = load_weights(path)
        asked = {"model": name, "stream": stream, "num_classes": num_classes}
        found = {"model": info.model, **{key: info.options.get(key) for key in ("stream", "num_classes")}}
        if asked != found:
            raise WeightsError(f"{path} holds {found}; asked for {asked}")
        fit_state(model, state, str(path))
        model.eval()
    return model


def load_model(path: str | PathLike[str]) -> tuple[VideoModel, WeightsInfo]:
    """The model in a weights file or a run folder, in evaluation mode, and what the file says about it.

    Raises:
        WeightsError: no weights there, or they cannot be read.
    """
    file = find_weights(path)
    state, info = load_weights(file)
    options = {key: info.options[key] for key in ("stream", "num_classes") if key in info.options}
    model = build_model(info.model, **options)
    fit_state(model, state, str(file))
    return model.eval(), info


def find_weights(path: str | PathLike[str]) -> Path:
    """The weights file itself, or the best one of a run folder."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in RUN_WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise WeightsError(f"{path} holds no weights yet: neither {' nor '.join(RUN_WEIGHTS)}")
